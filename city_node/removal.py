"""Taking an erased licence out of every table of the node."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import TYPE_CHECKING

from city_node.store import CityStore
from elicense.log.model import LogKey, StoredEntry
from elicense.view.fold import read_record
from elicense.view.model import Revision

if TYPE_CHECKING:
    from sqlalchemy import Connection


def entries_of(conn: Connection, store: CityStore, city: int, revisions: Sequence[Revision]) -> list[StoredEntry]:
    """Return the entries of revisions that are in this city's log."""
    own = [(LogKey(city, revision.epoch), revision.idx) for revision in revisions if revision.city == city]
    return list(store.logs.entries_anywhere(conn, own).values())


def remove(conn: Connection, store: CityStore, city: int, license_id: bytes) -> None:
    """Take a licence out of every table, in the transaction that appends its ERASED entry."""
    row = store.view.by_license(conn, license_id)
    if row is None:
        return  # its records came without their content: there is nothing to erase
    revisions = store.view.history(conn, [license_id]).get(license_id, [])
    requests = [
        uuid.UUID(read_record(entry.record).request_id).bytes
        for entry in entries_of(conn, store, city, revisions)
        if entry.record is not None
    ]
    store.remove_requests(conn, requests)
    for epoch in {revision.epoch for revision in revisions if revision.city == city}:
        indices = [revision.idx for revision in revisions if (revision.city, revision.epoch) == (city, epoch)]
        store.logs.erase(conn, LogKey(city, epoch), indices)
    store.view.remove(conn, row.person_key, license_id)
