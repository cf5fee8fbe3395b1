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

A registry that was set back to before the cancellation gets it as an empty slot, which it
takes only where its own receipt shows that it has held and judged what was in it
(:mod:`registry.empty_slots`).  That this ended the licence it has to believe: the entry names
that slot.  Set back to
before a hand-over, it finds the licence with the old city, whose own ERASED entry
names the order that it obeys: that must be held (:mod:`registry.erasure_orders`).  If
the old city has not heard of it, it is told once more, and knows whether it gave the
licence away; or the hand-over is given back, and the new city's entry counts then.
While the registry's own log is in doubt nothing is emptied at all
(:mod:`registry.postponed`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from elicense.license.verdict import ViewFlags
from elicense.log.erased_store import Erased
from elicense.log.model import LogKey
from elicense.v1 import license_pb2, replication_pb2
from elicense.view.model import Revision, ViewRow
from elicense.view.person import PersonIndex
from registry.erasure_orders import is_ordered, waiting_for
from registry.store import RegistryStore
from registry.strays import sweep, tell

if TYPE_CHECKING:
    from sqlalchemy import Connection

_NOT_IN_CUSTODY: Final = replication_pb2.DISPOSITION_KIND_NOT_IN_CUSTODY
_UNREADABLE: Final = replication_pb2.DISPOSITION_KIND_UNREADABLE
_ERASED: Final = replication_pb2.DISPOSITION_KIND_ERASED
_GONE: Final = "The registry has erased what it held of the license."
_NO_ORDER: Final = "No order of that city to erase the license is known; it stays until one arrives."


@dataclass(slots=True)
class Erasures:
    """What came of ERASED entries.

    Attributes:
        slots: The slots that were emptied.
        unfounded: Entries that cite the order of a city that has given none, as far as is known.
        by_word: Licences that were erased by their city's word alone: what ended them came without its content.
    """

    slots: list[Erased] = field(default_factory=list)
    unfounded: int = 0
    by_word: int = 0

    def become(self, other: Erasures) -> None:
        """Take over what came of other entries, and forget what was here."""
        self.slots, self.unfounded, self.by_word = other.slots, other.unfounded, other.by_word


def erase(
    conn: Connection,
    store: RegistryStore,
    persons: PersonIndex,
    key: LogKey,
    erasures: Sequence[tuple[int, license_pb2.LicenseRecord]],
) -> Erasures:
    """Erase licences, in the transaction that appended the ERASED entries, and tell the cities.

    Args:
        conn: The transaction.
        store: The registry's tables.
        persons: Computes person tags.
        key: Log of the city that says so.
        erasures: Index and record of each ERASED entry.
    """
    city = key.log
    came = Erasures()
    for index, message in erasures:
        rows = locked_rows(conn, store, message.license_id)
        own = [row for row in rows if row.city == city]
        row = erasable(conn, store, own, message)
        note: tuple[int, int, bytes, str] | None = None
        if row is not None:
            came.by_word += row.entry_hash != message.previous_entry_hash
            store.claims.release(conn, city, {row.person_key: row.license_id})
            store.transfers.set_offers(conn, city, {row.license_id: None})
            came.slots += _remove(conn, store, row)
            store.claims.forget(conn, row.person_key, row.license_id)
            store.feeds.add(conn, city, key.epoch, [(index, _ERASED, row.license_id, _GONE)])
            came.slots += sweep(conn, store, persons, row.license_id, by_city=city)
        elif not rows:
            # What came without its content leaves nothing to erase; what had no effect may be there still.
            came.slots += sweep(conn, store, persons, message.license_id, by_city=city, of_city=city)
            if not message.erases.ordered_by_city and _is_empty(conn, store, city, message):
                note = index, _ERASED, message.license_id, _GONE
        elif not message.erases.ordered_by_city:
            note = _refused(index, message, is_own=bool(own))
            if not own and _is_empty(conn, store, city, message):
                # It may have had custody by a decision that is lost here: whoever gave it away knows, and obeys.
                tell(conn, store, message.license_id, [(LogKey(r.city, r.epoch), r.idx) for r in rows], by_city=city)
        elif own and not is_ordered(conn, store, message):
            note = index, _UNREADABLE, message.license_id, _NO_ORDER
            came.unfounded += 1
        if note is not None:
            store.feeds.add(conn, city, key.epoch, [note])
        if not message.erases.ordered_by_city:
            _obeyed_before(conn, store, persons, came, city, message.license_id)
    return came


def _obeyed_before(
    conn: Connection, store: RegistryStore, persons: PersonIndex, came: Erasures, city: int, license_id: bytes
) -> None:
    """Judge again what obeys an order that has only come now."""
    for having in {row.city for row in store.view.of_license(conn, license_id)} - {city}:
        for key, index, message in waiting_for(conn, store, city, license_id, obeying=having):
            came.slots += erase(conn, store, persons, key, [(index, message)]).slots


def locked_rows(conn: Connection, store: RegistryStore, license_id: bytes) -> list[ViewRow]:
    """Return whatever licences have an id; nobody gives their persons another tag until the transaction ends."""
    rows = store.view.of_license(conn, license_id)
    # Whoever gives a person another tag takes the claim first: then the licence stands elsewhere by now.
    store.claims.of(conn, {row.person_key for row in rows}, lock=True)
    return store.view.of_license(conn, license_id)


def erasable(
    conn: Connection,
    store: RegistryStore,
    own: Sequence[ViewRow],
    erasure: license_pb2.LicenseRecord,
    *,
    as_ordered: bool = False,
) -> ViewRow | None:
    """Return which of the city's own licences an ERASED entry of it may erase; None for none.

    Args:
        conn: The transaction.
        store: The registry's tables.
        own: The licences with that id that the city has.
        erasure: The record.
        as_ordered: Whether to take its word that another city has ordered it.
    """
    if erasure.erases.ordered_by_city and not any(_ended_by(row, erasure) for row in own):
        # Whoever obeys another city's order need not have cancelled it: that one has.
        if not as_ordered and not is_ordered(conn, store, erasure):
            return None
        row = next((row for row in own if row.entry_hash == erasure.previous_entry_hash), None)
        return row or _left_behind(conn, store, own, erasure)
    return next((row for row in own if _ended_by(row, erasure)), None) or _left_behind(conn, store, own, erasure)


def _refused(index: int, message: license_pb2.LicenseRecord, *, is_own: bool) -> tuple[int, int, bytes, str]:
    if not is_own:
        return index, _NOT_IN_CUSTODY, message.license_id, "The city does not have custody of the license."
    detail = "The license is not cancelled, or the erasure does not follow its latest record."
    return index, _UNREADABLE, message.license_id, detail


def _ended_by(row: ViewRow, erasure: license_pb2.LicenseRecord) -> bool:
    """Whether an ERASED entry follows the record that cancelled the licence."""
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
