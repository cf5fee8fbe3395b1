"""Folding a batch into the national view: read what it rests on, fold, write what comes of it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Final

from elicense import errors
from elicense.log.model import LogKey
from elicense.v1 import license_pb2, replication_pb2
from elicense.view.model import revisions_of
from elicense.view.person import PersonIndex
from registry.batch import Batch
from registry.change_store import write_change
from registry.erasure import Erasures, erase
from registry.national import STANDS_ASIDE, NationalChange, NationalFold
from registry.postponed import postpone
from registry.received import Received, ReceivedRecord
from registry.store import RegistryStore
from registry.strays import WITHOUT_EFFECT, sweep_erased

if TYPE_CHECKING:
    from sqlalchemy import Connection

_WITHOUT_EFFECT: Final = (
    replication_pb2.DISPOSITION_KIND_NOT_IN_CUSTODY,
    replication_pb2.DISPOSITION_KIND_UNREADABLE,
)


class Folding:
    """Folds batches into the national view, inside a caller's transaction.

    Args:
        store: The registry's tables.
        persons: Computes person tags.
        log_is_whole: Whether the registry holds its own log whole; while it does not, erasures are postponed.
    """

    def __init__(
        self, *, store: RegistryStore, persons: PersonIndex, log_is_whole: Callable[[], bool] = lambda: True
    ) -> None:
        self._store = store
        self._persons = persons
        self._log_is_whole = log_is_whole

    def take(self, conn: Connection, batch: Batch, received: Received, *, now_us: int) -> tuple[bool, Erasures]:
        """Fold the records of a batch, which are appended already.

        Returns:
            Whether something waits for a decision now, and what came of erasures.

        Raises:
            Aborted: Another batch gives one of the persons another number just now; send again.
        """
        undecided = False
        key = LogKey(batch.city, batch.epoch)
        erasures: list[tuple[int, license_pb2.LicenseRecord]] = []
        strays: defaultdict[bytes, list[tuple[LogKey, int]]] = defaultdict(list)
        for part in _parts(self._take_plain(conn, batch, received, now_us)):
            change = self._fold(conn, part, now_us)
            self._leave_what_waits(conn, batch, change)
            write_change(conn, self._store, key, change)
            erasures += change.erasures
            for index, kind, license_id, _ in change.notes:
                if kind in WITHOUT_EFFECT:
                    strays[license_id].append((key, index))
            # An offer may be what a take-over has waited for.
            undecided = undecided or bool(change.pending or change.arrivals or change.releases or change.offers)
        # Behind everything else: what is erased may have come with this very batch.
        erased = Erasures()
        if erasures and self._log_is_whole():
            erased = erase(conn, self._store, self._persons, key, erasures)
        else:
            postpone(conn, self._store, key, erasures)
        erased.slots += sweep_erased(conn, self._store, self._persons, strays)
        return undecided, erased

    def _take_plain(self, conn: Connection, batch: Batch, received: Received, now_us: int) -> Sequence[ReceivedRecord]:
        """Write the plain first revisions whose person is free and leased to the city; return all other records.

        The same comes of them as by :meth:`NationalFold.apply`: the row as it is, one revision, and the
        lease is used.  Nothing else in the batch is about their persons, so they may come first.
        """
        links = self._store.view.links.of(conn, received.persons()) if received.plain else {}
        # Two records may name one person by two documents.
        linked = {*links, *links.values()}
        free = [first for first in received.plain if first[0][0] not in linked] if linked else received.plain
        used = self._store.claims.use_leases(conn, batch.city, [row[0] for row, _ in free])
        taken = free if len(used) == len(free) else [first for first in free if first[0][0] in used]
        rows = [row for row, _ in taken]
        self._store.view.add_values(conn, rows)
        self._store.view.add_revision_values(conn, revisions_of(taken, received_us=now_us))
        other = {row[0]: row[1] for row in rows if used[row[0]] != row[1]}
        self._store.claims.hold(conn, batch.city, other)
        if len(taken) == len(received.plain):
            return received.others
        return Received([first for first in received.plain if first[0][0] not in used], received.others).one_by_one()

    def _fold(self, conn: Connection, part: Sequence[ReceivedRecord], now_us: int) -> NationalChange:
        links = self._store.view.links.of(conn, {record.person_key for record in part})
        if links:
            part = [record.of_person(links.get(record.person_key, record.person_key)) for record in part]
        keys = sorted({record.person_key for record in part if record.person_key})
        rows = self._store.view.by_person(conn, keys)
        fold = NationalFold(rows=rows, claims=self._store.claims.of(conn, keys), received_us=now_us)
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
        self._store.claims.of(conn, wanted, lock=True)
        if self._store.view.links.of(conn, wanted):
            raise errors.Aborted("a person has got another number meanwhile; send again")

    def _leave_what_waits(self, conn: Connection, batch: Batch, change: NationalChange) -> None:
        """Say nothing yet of records that rest on a take-over of this city that is not decided: its decision does."""
        without = {license_id for _, kind, license_id, _ in change.notes if license_id and kind in _WITHOUT_EFFECT}
        if not without:
            return
        arrivals = [*self._store.transfers.arrivals_of(conn, without), *change.arrivals]
        waiting: dict[bytes, tuple[int, int]] = {}
        for arrival in arrivals:
            if arrival.city == batch.city:
                place = (arrival.epoch, arrival.idx)
                waiting[arrival.license_id] = min(place, waiting.get(arrival.license_id, place))

        def rests(license_id: bytes, index: int) -> bool:
            return license_id in waiting and (batch.epoch, index) > waiting[license_id]

        change.notes = [n for n in change.notes if n[1] not in _WITHOUT_EFFECT or not rests(n[2], n[0])]
        change.late = [record for record in change.late if not rests(record.license_id, record.index)]


def _parts(received: Sequence[ReceivedRecord]) -> Iterator[Sequence[ReceivedRecord]]:
    """Cut a batch behind each record that asks for links: what follows is folded under the tags that they give."""
    start = 0
    for position, record in enumerate(received, 1):
        if record.links:
            yield received[start:position]
            start = position
    if start < len(received) or not received:
        yield received[start:]
