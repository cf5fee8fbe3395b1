"""Erasing a licence at the registry, when its city's ERASED entry arrives.

The city in custody of a cancelled licence says so; its records are then taken
out of the city's log here, the national view and the revision index forget the
licence, and its released claim goes.  Bars from applying anew stay in their own
table as long as the law requires.

A registry that was set back to before the cancellation gets it as an empty slot.
It has to go by the city's word then: the entry names that slot.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from elicense.license.verdict import ViewFlags
from elicense.log.erased_store import Erased
from elicense.log.model import LogKey
from elicense.v1 import license_pb2, replication_pb2
from elicense.view.model import ViewRow
from registry.store import RegistryStore

if TYPE_CHECKING:
    from sqlalchemy import Connection

_NOT_IN_CUSTODY: Final = replication_pb2.DISPOSITION_KIND_NOT_IN_CUSTODY
_UNREADABLE: Final = replication_pb2.DISPOSITION_KIND_UNREADABLE


def erase(
    conn: Connection, store: RegistryStore, city: int, erasures: Sequence[tuple[int, license_pb2.LicenseRecord]]
) -> tuple[list[Erased], list[tuple[int, int, bytes, str]]]:
    """Erase licences of a city, in the transaction that appended their ERASED entries.

    Args:
        conn: The transaction.
        store: The registry's tables.
        city: Division code of the city whose log says so.
        erasures: Index and record of each ERASED entry.

    Returns:
        The slots that were emptied, and what has no effect: (index, kind, licence id, detail).
    """
    erased: list[Erased] = []
    notes: list[tuple[int, int, bytes, str]] = []
    for index, message in erasures:
        rows = store.view.of_license(conn, message.license_id)
        # Whoever gives a person another tag takes the claim first: then the licence stands elsewhere by now.
        store.claims(conn, {row.person_key for row in rows}, lock=True)
        rows = store.view.of_license(conn, message.license_id)
        if not rows:
            continue  # its records came without their content: there is nothing to erase
        own = [row for row in rows if row.city == city]
        if not own:
            notes.append((index, _NOT_IN_CUSTODY, message.license_id, "The city does not have custody of the license."))
            continue
        row = next((row for row in own if _may_go(row, message)), None) or _left_behind(conn, store, own, message)
        if row is None:
            detail = "The license is not cancelled, or the erasure does not follow its latest record."
            notes.append((index, _UNREADABLE, message.license_id, detail))
            continue
        store.release_claims(conn, city, {row.person_key: row.license_id})
        store.transfers.set_offers(conn, city, {row.license_id: None})
        erased += _remove(conn, store, row)
        store.forget_claim(conn, row.person_key, row.license_id)
    return erased, notes


def _may_go(row: ViewRow, erasure: license_pb2.LicenseRecord) -> bool:
    return bool(row.flags & ViewFlags.CANCELLED) and row.entry_hash == erasure.previous_entry_hash


def _left_behind(
    conn: Connection, store: RegistryStore, own: Sequence[ViewRow], erasure: license_pb2.LicenseRecord
) -> ViewRow | None:
    """Return the licence whose later records came without their content: this database was set back and filled again.

    That they ended it can be read no more; that the city erased the last of them can be seen, and it is the
    city's own licence.
    """
    if len(own) != 1 or not erasure.HasField("erases"):
        return None
    (row,) = own
    where = erasure.erases
    slot = store.logs.entries_at(conn, LogKey(row.city, where.epoch), [where.index]).get(where.index)
    is_empty = slot is not None and slot.record is None and slot.leaf_hash == erasure.previous_entry_hash
    return row if is_empty and (row.epoch, row.idx) < (where.epoch, where.index) else None


def _remove(conn: Connection, store: RegistryStore, row: ViewRow) -> list[Erased]:
    # A licence id is a city's own choice, so another person's licence may bear the same: the person counts too.
    revisions = [
        each
        for each in store.view.history(conn, [row.license_id]).get(row.license_id, [])
        if (each.city, each.person_key) == (row.city, row.person_key)
    ]
    # What still waited for a decision must not be decided: it would hold the person for a licence that is no more.
    store.end_pending(conn, store.pending_at(conn, [(each.city, each.epoch, each.idx) for each in revisions]))
    erased = store.logs.erased.erase(conn, [(LogKey(each.city, each.epoch), each.idx) for each in revisions])
    store.view.remove(conn, row.person_key, row.license_id)
    store.rulings.remove(conn, row.person_key, row.license_id)
    return erased
