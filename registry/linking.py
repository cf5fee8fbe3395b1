"""Making links between the documents of one person in the national view."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from elicense.errors import Aborted
from elicense.log.model import LogKey
from registry.links import AskedLink, GrantEntry
from registry.model import ClaimState
from registry.names import REGISTRY_LOG
from registry.store import RegistryStore

if TYPE_CHECKING:
    from sqlalchemy import Connection


def make_links(conn: Connection, store: RegistryStore, asked: Sequence[AskedLink]) -> None:
    """Make the links that records were granted, in the transaction that folds them.

    What stands under a later document, which is at its end or still waits, moves along.

    Raises:
        Aborted: Another transaction links the same persons just now; send again.
    """
    for each in asked:
        _make(conn, store, each)


def _make(conn: Connection, store: RegistryStore, asked: AskedLink) -> None:
    link = asked.link
    ends = [link.person_key, link.first_key]
    known = store.view.links.of(conn, ends)
    source, target = (known.get(key, key) for key in ends)
    if source == target:
        return
    # Whoever links either end, or folds what stands under it, takes its claim first.
    claim = store.claims(conn, [source, target], lock=True).get(source)
    if store.view.links.of(conn, ends) != known:
        raise Aborted("a person has got another number meanwhile; send again")
    if claim is None or (claim.city, claim.state) != (link.city, int(ClaimState.LEASED)):
        return
    epoch, index = asked.grant
    entry = store.logs.entries_at(conn, LogKey(REGISTRY_LOG, epoch), [index]).get(index)
    granted = GrantEntry.read(None if entry is None else entry.record)
    if granted.city == link.city and source in granted.persons:
        store.unite(conn, replace(link, person_key=source, first_key=target))
