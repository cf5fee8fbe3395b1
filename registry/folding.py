"""Folding a batch into the national view: read what it rests on, fold, write what comes of it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from elicense import errors
from elicense.v1 import license_pb2, replication_pb2
from elicense.view.person import PersonIndex
from registry.batch import Batch
from registry.erasure import erase
from registry.linking import make_links
from registry.links import asks
from registry.national import STANDS_ASIDE, LateRecord, NationalChange, NationalFold, ReceivedRecord
from registry.store import RegistryStore

if TYPE_CHECKING:
    from sqlalchemy import Connection

_LATE_RECORD: Final = replication_pb2.DISPOSITION_KIND_LATE_RECORD
_LATE: Final = "The city that had the license before changed it after the hand-over; see what it meant to change."


class Folding:
    """Folds batches into the national view, inside a caller's transaction.

    Args:
        store: The registry's tables.
        persons: Computes person and name tags.
    """

    def __init__(self, *, store: RegistryStore, persons: PersonIndex) -> None:
        self._store = store
        self._persons = persons

    def take(
        self, conn: Connection, batch: Batch, received: Sequence[ReceivedRecord], *, now_us: int
    ) -> tuple[bool, list[bytes]]:
        """Fold the records of a batch, which are appended already.

        Returns:
            Whether something waits for a decision now, and bytes of what was erased.

        Raises:
            Aborted: Another batch gives one of the persons another number just now; send again.
        """
        undecided = False
        erasures: list[tuple[int, license_pb2.LicenseRecord]] = []
        for part in _parts(received):
            change = self._fold(conn, part, now_us)
            self._write(conn, batch, change)
            erasures += change.erasures
            undecided = undecided or bool(change.pending or change.arrivals or change.releases)
        if not erasures:
            return undecided, []
        # Behind everything else: what is erased may have come with this very batch.
        traces, notes = erase(conn, self._store, batch.city, erasures)
        self._store.add_dispositions(conn, batch.city, batch.epoch, notes)
        return undecided, traces

    def _fold(self, conn: Connection, part: Sequence[ReceivedRecord], now_us: int) -> NationalChange:
        links = self._store.view.links.of(conn, {record.person_key for record in part})
        if links:
            part = [replace(record, person_key=links.get(record.person_key, record.person_key)) for record in part]
        keys = sorted({record.person_key for record in part if record.person_key})
        rows = self._store.view.by_person(conn, keys)
        fold = NationalFold(rows=rows, claims=self._store.claims(conn, keys), persons=self._persons, received_us=now_us)
        for record in part:
            fold.apply(record)
        movable = {key for key, held in rows.items() if any(row.flags & STANDS_ASIDE for row in held)}
        self._keep(conn, movable | {waiting.person_key for waiting in fold.change.pending})
        return fold.change

    def _keep(self, conn: Connection, persons: Iterable[bytes]) -> None:
        """Have persons stay under the tags under which they were just read.

        A link moves only licences that stand aside: those that wait, or are at their end.

        Raises:
            Aborted: Another transaction moves one of them just now; once it is over, the link is known.
        """
        wanted = sorted(persons)
        if not wanted:
            return
        # Whoever makes the link takes the claim first: either it waits for this batch, or its link shows.
        self._store.claims(conn, wanted, lock=True)
        if self._store.view.links.of(conn, wanted):
            raise errors.Aborted("a person has got another number meanwhile; send again")

    def _write(self, conn: Connection, batch: Batch, change: NationalChange) -> None:
        self._store.view.put(conn, list(change.rows.values()))
        self._store.view.add_revisions(conn, change.revisions)
        self._store.hold_claims(conn, batch.city, change.holds)
        self._store.release_claims(conn, batch.city, change.releases)
        self._store.bans.put(conn, change.bans)
        self._store.add_pending(conn, change.pending)
        self._store.transfers.add_arrivals(conn, change.arrivals)
        self._store.transfers.set_offers(conn, batch.city, change.offers)
        make_links(conn, self._store, change.links)
        self._store.add_dispositions(conn, batch.city, batch.epoch, change.notes)
        self._tell_of_late(conn, batch, change.late)

    def _tell_of_late(self, conn: Connection, batch: Batch, late: Sequence[LateRecord]) -> None:
        """Tell the city in custody what the one before it wrote too late: it must not vanish in silence."""
        if not late:
            return
        history = self._store.view.history(conn, {record.license_id for record in late})
        notes: dict[int, list[tuple[int, int, bytes, str]]] = {}
        for record in late:
            # Whoever never had the licence has nothing to say about it.
            if any(revision.city == batch.city for revision in history.get(record.license_id, ())):
                note = (record.index, int(_LATE_RECORD), record.license_id, _LATE)
                notes.setdefault(record.in_custody, []).append(note)
        for city in sorted(notes):
            self._store.add_dispositions(conn, city, batch.epoch, notes[city], other_city=batch.city)


def _parts(received: Sequence[ReceivedRecord]) -> Iterator[Sequence[ReceivedRecord]]:
    """Cut a batch behind each record that asks for links: what follows is folded under the tags that they give."""
    start = 0
    for position, record in enumerate(received, 1):
        if record.message is not None and asks(record.message):
            yield received[start:position]
            start = position
    if start < len(received) or not received:
        yield received[start:]
