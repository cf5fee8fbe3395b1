"""Making links between the documents of one person in a city's view."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING

from city_node.store import CityStore
from elicense.view.links import PersonLink

if TYPE_CHECKING:
    from sqlalchemy import Connection


def unite(conn: Connection, store: CityStore, links: Iterable[PersonLink]) -> None:
    """Make the links of records that the view holds already; one that leads nowhere new does nothing."""
    for link in links:
        source, target = store.view.links.root(conn, link.person_key), store.view.links.root(conn, link.first_key)
        if source != target:
            store.view.unite(conn, replace(link, person_key=source, first_key=target))
