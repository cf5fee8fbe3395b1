"""Erasing a licence at the registry, when an ERASED entry of a city arrives.

1. The city in custody of a cancelled licence says so.  That is an order about the
   whole licence, wherever it was before: what any city wrote of it is taken out of
   the registry's copy of that city's log, the national view and the revision index
   forget it, and its released claim goes.
2. Every other city that wrote of it is told, in its feed, for as long as it takes
   to come back.  It erases its own log by an ERASED entry of its own, so that each
   log says itself what was taken out of it.
3. What cities wrote of it without effect, and what arrives later, goes the same way
   (:mod:`registry.strays`).

Bars from applying anew stay in their own table as long as the law requires.

A registry that was set back to before the cancellation gets it as an empty slot.
It has to go by the city's word then: the entry names that slot.  Set back to
before a hand-over, it finds the licence with the old city, whose own ERASED entry
names the order that it obeys.  If that one has not heard of it, it is told once
more, and knows whether it gave the licence away; or the hand-over is given back,
and the new city's entry counts then.  While it knows that it lacks decisions nothing
is emptied at all (:mod:`registry.postponed`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from elicense.license.verdict import ViewFlags
from elicense.log.erased_store import Erased
from elicense.log.model import LogKey
from elicense.v1 import license_pb2, replication_pb2
from elicense.view.erasure import read_erasure
from elicense.view.model import Revision, ViewRow
from elicense.view.person import PersonIndex
from registry.store import RegistryStore
from registry.strays import sweep, tell

if TYPE_CHECKING:
    from sqlalchemy import Connection

_NOT_IN_CUSTODY: Final = replication_pb2.DISPOSITION_KIND_NOT_IN_CUSTODY
_UNREADABLE: Final = replication_pb2.DISPOSITION_KIND_UNREADABLE
_ERASED: Final = replication_pb2.DISPOSITION_KIND_ERASED
_GONE: Final = "The registry has erased what it held of the license."


def erase(
    conn: Connection,
    store: RegistryStore,
    persons: PersonIndex,
    key: LogKey,
    erasures: Sequence[tuple[int, license_pb2.LicenseRecord]],
) -> list[Erased]:
    """Erase licences, in the transaction that appended the ERASED entries, and tell the cities.

    Args:
        conn: The transaction.
        store: The registry's tables.
        persons: Computes person tags.
        key: Log of the city that says so.
        erasures: Index and record of each ERASED entry.

    Returns:
        The slots that were emptied.
    """
    city = key.log
    erased: list[Erased] = []
    for index, message in erasures:
        rows = locked_rows(conn, store, message.license_id)
        own = [row for row in rows if row.city == city]
        row = erasable(conn, store, own, message)
        if row is not None:
            store.release_claims(conn, city, {row.person_key: row.license_id})
            store.transfers.set_offers(conn, city, {row.license_id: None})
            erased += _remove(conn, store, row)
            store.forget_claim(conn, row.person_key, row.license_id)
            store.add_dispositions(conn, city, key.epoch, [(index, _ERASED, row.license_id, _GONE)])
            erased += sweep(conn, store, persons, row.license_id, by_city=city)
        elif not rows:
            # What came without its content leaves nothing to erase; what had no effect may be there still.
            erased += sweep(conn, store, persons, message.license_id, by_city=city, of_city=city)
        elif not message.erases.ordered_by_city:
            note = _refused(index, message, is_own=bool(own))
            store.add_dispositions(conn, city, key.epoch, [note])
            if not own and _is_empty(conn, store, city, message):
                # It may have had custody by a decision that is lost here: whoever gave it away knows, and obeys.
                tell(conn, store, message.license_id, [(LogKey(r.city, r.epoch), r.idx) for r in rows], by_city=city)
    return erased


def refused_before(
    conn: Connection, store: RegistryStore, city: int, license_id: bytes
) -> list[tuple[LogKey, int, license_pb2.LicenseRecord]]:
    """Return the ERASED entries of a city that arrived before it had custody of the licence.

    Only a registry that was set back gets them in this order: the city's log comes again at once, and the
    hand-over is given back.
    """
    places = [
        (LogKey(word.city, word.epoch), word.idx)
        for word in store.dispositions_of(conn, license_id, [_NOT_IN_CUSTODY])
        if word.city == city
    ]
    found = sorted(store.logs.entries_anywhere(conn, places).items(), key=lambda item: item[0])
    return [
        (key, index, message) for (key, index), entry in found if (message := read_erasure(entry.record)) is not None
    ]


def locked_rows(conn: Connection, store: RegistryStore, license_id: bytes) -> list[ViewRow]:
    """Return whatever licences have an id; nobody gives their persons another tag until the transaction ends."""
    rows = store.view.of_license(conn, license_id)
    # Whoever gives a person another tag takes the claim first: then the licence stands elsewhere by now.
    store.claims(conn, {row.person_key for row in rows}, lock=True)
    return store.view.of_license(conn, license_id)


def erasable(
    conn: Connection, store: RegistryStore, own: Sequence[ViewRow], erasure: license_pb2.LicenseRecord
) -> ViewRow | None:
    """Return which of the city's own licences an ERASED entry of it may erase; None for none."""
    return next((row for row in own if _may_go(row, erasure)), None) or _left_behind(conn, store, own, erasure)


def _refused(index: int, message: license_pb2.LicenseRecord, *, is_own: bool) -> tuple[int, int, bytes, str]:
    if not is_own:
        return index, _NOT_IN_CUSTODY, message.license_id, "The city does not have custody of the license."
    detail = "The license is not cancelled, or the erasure does not follow its latest record."
    return index, _UNREADABLE, message.license_id, detail


def _may_go(row: ViewRow, erasure: license_pb2.LicenseRecord) -> bool:
    # Whoever obeys another city's order need not have cancelled it: that one has.
    ended = bool(row.flags & ViewFlags.CANCELLED) or erasure.erases.ordered_by_city > 0
    return ended and row.entry_hash == erasure.previous_entry_hash


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
    behind = (row.epoch, row.idx) < (erasure.erases.epoch, erasure.erases.index)
    return row if behind and _is_empty(conn, store, row.city, erasure) else None


def _is_empty(conn: Connection, store: RegistryStore, city: int, erasure: license_pb2.LicenseRecord) -> bool:
    """Whether the slot that a city's ERASED entry names came without its content."""
    where = erasure.erases
    slot = store.logs.entries_at(conn, LogKey(city, where.epoch), [where.index]).get(where.index)
    return slot is not None and slot.record is None and slot.leaf_hash == erasure.previous_entry_hash


def _remove(conn: Connection, store: RegistryStore, row: ViewRow) -> list[Erased]:
    # A licence id is a city's own choice, so another person's licence may bear the same: the person counts too.
    revisions = [
        each
        for each in store.view.history(conn, [row.license_id]).get(row.license_id, [])
        if each.person_key == row.person_key
    ]
    # What still waited for a decision must not be decided: it would hold the person for a licence that is no more.
    store.end_pending(conn, store.pending_at(conn, [(each.city, each.epoch, each.idx) for each in revisions]))
    erased = store.logs.erased.erase(conn, [(LogKey(each.city, each.epoch), each.idx) for each in revisions])
    store.view.remove(conn, row.person_key, row.license_id)
    store.rulings.remove(conn, row.person_key, row.license_id)
    last: dict[int, Revision] = {}
    for each in sorted(revisions, key=lambda revision: (revision.epoch, revision.idx)):
        last[each.city] = each
    others = [(LogKey(each.city, each.epoch), each.idx) for each in last.values() if each.city != row.city]
    tell(conn, store, row.license_id, others, by_city=row.city)
    return erased
