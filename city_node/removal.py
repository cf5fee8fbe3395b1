"""Taking an erased licence out of every table of the node."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

from city_node.store import CityStore
from elicense.log.model import LogKey, StoredEntry
from elicense.view.fold import read_record

if TYPE_CHECKING:
    from sqlalchemy import Connection

Place = tuple[LogKey, int]
"""A log and an index in it."""


def entries_of(conn: Connection, store: CityStore, city: int, license_id: bytes) -> dict[Place, StoredEntry]:
    """Return whatever this city's log holds of a licence, in effect or not, by place."""
    revisions = store.view.history(conn, [license_id]).get(license_id, [])
    places = [(LogKey(city, each.epoch), each.idx) for each in revisions if each.city == city]
    # A take-over that came to nothing, and an offer that was made too late, stand in this list alone.
    places += [
        (LogKey(city, each.epoch), each.idx)
        for each in store.hand_overs.of_license(conn, license_id)
        if each.city == city
    ]
    return store.logs.entries_anywhere(conn, places)


def remove(conn: Connection, store: CityStore, city: int, license_id: bytes) -> None:
    """Take a licence out of every table, in the transaction that appends its ERASED entry.

    Where its records came without their content there is nothing to erase.
    """
    entries = entries_of(conn, store, city, license_id)
    requests = [
        uuid.UUID(read_record(entry.record).request_id).bytes for entry in entries.values() if entry.record is not None
    ]
    store.remove_requests(conn, requests)
    store.logs.erased.erase(conn, entries)
    row = store.view.by_license(conn, license_id)
    if row is not None:
        store.view.remove(conn, row.person_key, license_id)
