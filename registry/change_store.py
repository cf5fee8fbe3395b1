"""Writing what a fold changed in the national view, in the transaction that made it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from elicense.log.model import LogKey
from elicense.v1 import replication_pb2
from registry.linking import make_links
from registry.national import LateRecord, NationalChange
from registry.store import RegistryStore
from registry.taken_up import mark_taken_up

if TYPE_CHECKING:
    from sqlalchemy import Connection

_LATE_RECORD: Final = replication_pb2.DISPOSITION_KIND_LATE_RECORD
_LATE: Final = "The city that had the license before changed it after the hand-over; see what it meant to change."


def write_change(conn: Connection, store: RegistryStore, key: LogKey, change: NationalChange) -> None:
    """Write a change but for its erasures.

    Args:
        conn: The transaction.
        store: The registry's tables.
        key: Log of the city whose records made the change.
        change: The change.
    """
    city = key.log
    store.view.put(conn, list(change.rows.values()))
    store.view.add_revisions(conn, change.revisions)
    store.claims.hold(conn, city, change.holds)
    store.claims.release(conn, city, change.releases)
    store.bans.put(conn, change.bans)
    store.add_pending(conn, change.pending)
    store.transfers.add_arrivals(conn, change.arrivals)
    store.transfers.set_offers(conn, city, change.offers)
    make_links(conn, store, change.links)
    mark_taken_up(conn, store, [*change.offers, *(arrival.license_id for arrival in change.arrivals)])
    store.feeds.add(conn, city, key.epoch, change.notes)
    _tell_of_late(conn, store, key, change.late)


def _tell_of_late(conn: Connection, store: RegistryStore, key: LogKey, late: Sequence[LateRecord]) -> None:
    """Tell the city in custody what the one before it wrote too late: it must not vanish in silence."""
    if not late:
        return
    history = store.view.history(conn, {record.license_id for record in late})
    notes: dict[int, list[tuple[int, int, bytes, str]]] = {}
    for record in late:
        # Whoever never had the licence has nothing to say about it.
        if any(revision.city == key.log for revision in history.get(record.license_id, ())):
            note = (record.index, int(_LATE_RECORD), record.license_id, _LATE)
            notes.setdefault(record.in_custody, []).append(note)
    for city in sorted(notes):
        store.feeds.add(conn, city, key.epoch, notes[city], other_city=key.log)
