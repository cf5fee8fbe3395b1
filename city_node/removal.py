"""Taking an erased licence out of every table of the node.

Nothing is erased before the registry has given a receipt for it.  A registry that was set
back is sent the log again, and takes an emptied slot upon that receipt alone: whoever
erased what it has never held could never bring the rest of the log to it.
"""

from __future__ import annotations

import uuid
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING

from city_node.store import CityStore
from elicense.errors import Malformed
from elicense.log.erased_store import Erased, erased_of
from elicense.log.model import LogKey, StoredEntry
from elicense.v1 import license_pb2
from elicense.view.fold import read_record

if TYPE_CHECKING:
    from sqlalchemy import Connection

Place = tuple[LogKey, int]
"""A log and an index in it."""


def entries_of(
    conn: Connection, store: CityStore, city: int, license_id: bytes, slot: Place | None = None
) -> dict[Place, StoredEntry]:
    """Return whatever this city's log holds of a licence, in effect or not, by place.

    Args:
        conn: The transaction.
        store: The city's tables.
        city: Division code.
        license_id: The licence.
        slot: A place where a record of it may lie that no table knows, such as one that came too late.
    """
    revisions = store.view.history(conn, [license_id]).get(license_id, [])
    places = [(LogKey(city, each.epoch), each.idx) for each in revisions if each.city == city]
    # A take-over that came to nothing, and an offer that was made too late, stand in this list alone.
    places += [
        (LogKey(city, each.epoch), each.idx)
        for each in store.hand_overs.of_license(conn, license_id)
        if each.city == city
    ]
    found = store.logs.entries_anywhere(conn, [*places, slot] if slot is not None else places)
    return {place: entry for place, entry in found.items() if place in places or _is_of(entry, license_id)}


def awaits_receipt(conn: Connection, store: CityStore, places: Collection[Place]) -> bool:
    """Whether this city has no receipt yet for one of these entries."""
    receipts = {key: store.logs.commits.latest_cosigned(conn, key) for key in {key for key, _ in places}}
    return any((held := receipts[key]) is None or held[0] <= index for key, index in places)


def emptied(entries: Mapping[Place, StoredEntry]) -> list[Erased]:
    """Return what becomes of entries that are erased."""
    return [erased for (key, _), entry in entries.items() if (erased := erased_of(key, entry)) is not None]


def remove(conn: Connection, store: CityStore, erasure: license_pb2.LicenseRecord) -> None:
    """Take a licence out of every table, in the transaction that appends its ERASED entry.

    Where its records came without their content there is nothing to erase.
    """
    city, license_id, where = erasure.city, erasure.license_id, erasure.erases
    slot = (LogKey(city, where.epoch), where.index) if erasure.HasField("erases") else None
    entries = entries_of(conn, store, city, license_id, slot)
    requests = [
        uuid.UUID(read_record(entry.record).request_id).bytes for entry in entries.values() if entry.record is not None
    ]
    store.remove_requests(conn, requests)
    store.logs.erased.erase(conn, entries)
    row = store.view.by_license(conn, license_id)
    if row is not None:
        store.view.remove(conn, row.person_key, license_id)


def _is_of(entry: StoredEntry, license_id: bytes) -> bool:
    try:
        return read_record(entry.record or b"").license_id == license_id
    except Malformed:
        return False
