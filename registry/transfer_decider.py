"""Deciding take-overs in the transaction that writes the decision to the registry's log.

Custody, row and claim move in one transaction with the decision, so at no
instant has a licence two cities or none.  Each take-over is judged over what
earlier ones of the same commit decided.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import TYPE_CHECKING, Final

from elicense.clock import china_date, from_timestamp
from elicense.errors import Aborted, StoreCorrupt
from elicense.log.erased_store import Erased
from elicense.log.model import LogKey
from elicense.v1 import license_pb2, log_pb2, replication_pb2
from elicense.view.fold import kept_flags, read_record, revision_of, row_of
from elicense.view.model import ViewRow
from elicense.view.person import PersonIndex
from registry.board import Board, Outcome
from registry.change_store import write_change
from registry.conflict_model import ConflictState
from registry.decision_records import transfer_decided
from registry.follow_ups import follow_ups
from registry.handovers import TransferBoard, TransferDecision, is_early, refusal_of
from registry.model import CityState, Claim, ClaimState
from registry.national import NationalChange, NationalFold
from registry.postponed import erase_after_hand_over
from registry.store import RegistryStore
from registry.strays import WITHOUT_EFFECT, sweep_erased
from registry.transfer_model import Arrival

if TYPE_CHECKING:
    from sqlalchemy import Connection

_ACCEPTED: Final = "The city has custody from now on."
_AWAY: Final = "Another city has taken the license over; changes are its to make from now on."


@dataclass(frozen=True, slots=True)
class DecideTransfers:
    """Command: decide which take-overs move custody.

    Attributes:
        arrivals: The take-overs, in the order in which they are decided.
    """

    arrivals: tuple[Arrival, ...]


class TransferDecider:
    """Judges take-overs and writes what they change.

    Args:
        store: The registry's tables.
        persons: Computes person and name tags.
        log_is_whole: Whether the registry holds its own log whole; while it does not, erasures are postponed.
    """

    def __init__(
        self, *, store: RegistryStore, persons: PersonIndex, log_is_whole: Callable[[], bool] = lambda: True
    ) -> None:
        self._store = store
        self._persons = persons
        self._log_is_whole = log_is_whole

    def cities(self, conn: Connection, arrivals: Sequence[Arrival]) -> set[int]:
        """Return the cities whose logs a decision rests on; their heads must be locked before anything is read."""
        # Custody moves by this decider alone, which the head of the registry's own log keeps single.
        return {arrival.city for arrival in arrivals} | {row.city for row in self._rows(conn, arrivals).values()}

    def board(self, conn: Connection, arrivals: Sequence[Arrival], *, now_us: int) -> TransferBoard:
        """Read everything, once the heads are locked."""
        board = TransferBoard(open=set(self._store.transfers.still_waiting(conn, arrivals)))
        if not board.open:
            return board
        board.undecided = set(self._store.transfers.arrivals_of(conn, {arrival.license_id for arrival in board.open}))
        board.rows = self._rows(conn, list(board.open))
        places = [(row.city, row.epoch, row.idx) for row in board.rows.values()]
        places += [(arrival.city, arrival.epoch, arrival.idx) for arrival in board.undecided]
        found = self._store.logs.entries_anywhere(conn, [(LogKey(c, e), index) for c, e, index in places])
        for (key, index), entry in found.items():
            if entry.record is not None:
                board.records[key.log, key.epoch, index] = entry.record
        states = {state.city: state for state in self._store.states(conn)}
        for arrival in board.open:
            self._read_around(conn, board, arrival, states, now_us)
        return board

    def _read_around(
        self, conn: Connection, board: TransferBoard, arrival: Arrival, states: Mapping[int, CityState], now_us: int
    ) -> None:
        """Read what a take-over rests on and what rests on it."""
        source = self._message(board, arrival).taken_over_from
        head = self._store.logs.head(conn, LogKey(source.city, source.epoch))
        held = 0 if head is None else head.size
        if is_early(self._message(board, arrival), held=held, state=states.get(source.city), now_us=now_us):
            board.early.add(arrival)
            return
        state = states.get(arrival.city)
        epoch = arrival.epoch if state is None else state.epoch
        board.follow_ups[arrival] = follow_ups(conn, self._store, arrival, epoch=epoch, persons=self._persons)
        for each in board.follow_ups[arrival]:
            board.records[arrival.city, each.epoch, each.received.idx] = each.record

    def _message(self, board: TransferBoard, arrival: Arrival) -> license_pb2.LicenseRecord:
        """Return the record of a take-over.

        Raises:
            StoreCorrupt: It is not where it was folded from.
        """
        record = board.records.get((arrival.city, arrival.epoch, arrival.idx))
        if record is None:
            raise StoreCorrupt("the record of a take-over is missing; run fsck")
        return read_record(record)

    def _rows(self, conn: Connection, arrivals: Sequence[Arrival]) -> dict[tuple[bytes, bytes], ViewRow]:
        """Return the licences concerned, by person and id."""
        wanted = {(arrival.person_key, arrival.license_id) for arrival in arrivals}
        found = self._store.view.by_person(conn, {person_key for person_key, _ in wanted})
        rows = {(row.person_key, row.license_id): row for held in found.values() for row in held}
        return {place: row for place, row in rows.items() if place in wanted}

    def decide(
        self,
        board: TransferBoard,
        arrival: Arrival,
        claims: dict[bytes, Claim],
        *,
        contested: bool,
        now_us: int,
        accepted: bool = False,
    ) -> tuple[log_pb2.TransferDecided, TransferDecision]:
        """Judge one take-over; the board and the claims change with it.

        Args:
            board: What is known.
            arrival: The take-over.
            claims: Who holds the persons.
            contested: Whether a conflict over the licence is not settled yet.
            now_us: Now.
            accepted: Whether it was accepted before and can not be judged again: what it cites is erased.

        Raises:
            StoreCorrupt: Its record is not where it was folded from.
        """
        message = self._message(board, arrival)
        place = arrival.person_key, arrival.license_id
        row = board.rows.get(place)
        latest = b"" if row is None else board.records.get((row.city, row.epoch, row.idx), b"")
        claim = claims.get(arrival.person_key)
        # It may be decided late, or once more: that must come to the same.
        on = china_date(min(from_timestamp(message.record_time), now_us))
        refusal = None if accepted else refusal_of(message, row, latest, claim, contested=contested, on=on)
        board.open.discard(arrival)
        board.undecided.discard(arrival)
        decided = TransferDecision(arrival, refusal, row)
        if refusal is None and claim is not None:
            decided = self._moved(arrival, message, row, now_us)
            claims[arrival.person_key] = replace(claim, city=arrival.city)
        stands = decided.after or row
        if board.follow_ups.get(arrival):
            changes, stands = self._follow(board, arrival, stands, claims, now_us)
            decided = replace(decided, changes=changes)
        if stands is not None:
            board.rows[place] = stands
        return transfer_decided(arrival, row, None if refusal is None else refusal.number), decided

    def _follow(
        self,
        board: TransferBoard,
        arrival: Arrival,
        row: ViewRow | None,
        claims: dict[bytes, Claim],
        now_us: int,
    ) -> tuple[list[tuple[int, NationalChange]], ViewRow | None]:
        """Fold what rests on a take-over; return the changes, and the licence as it then stands."""
        person = arrival.person_key
        fold = NationalFold(
            rows={} if row is None else {person: [row]},
            claims={person: claims[person]} if person in claims else {},
            received_us=now_us,
        )
        changes = []
        for epoch, group in groupby(board.follow_ups[arrival], key=lambda each: each.epoch):
            fold.change = change = NationalChange()
            for each in group:
                fold.apply(each.received)
            changes.append((epoch, change))
            new = change.rows.get((person, arrival.license_id))
            if new is not None:
                row = new if row is None else replace(new, flags=new.flags | kept_flags(row.flags))
            if person in change.releases and person in claims:
                claims[person] = replace(claims[person], state=int(ClaimState.RELEASED))
        return changes, row

    def rule(self, board: Board, command: DecideTransfers, *, actor: str) -> tuple[list[bytes], Outcome]:
        """Return the entries and the outcome for take-overs that wait, and note in ``board`` who has custody now."""
        outcome = Outcome()
        records = []
        while (arrival := self._next(board.transfers, command.arrivals)) is not None:
            contested = any(
                conflict.person_key == arrival.person_key
                and conflict.state != ConflictState.SETTLED
                and arrival.license_id in conflict.licenses
                for conflict in board.conflicts.values()
            )
            entry, decided = self.decide(
                board.transfers, arrival, board.claims, contested=contested, now_us=board.now_us
            )
            record = board.record(actor)
            record.transfer_decided.CopyFrom(entry)
            records.append(record.SerializeToString(deterministic=True))
            outcome.transfers.append(decided)
        return records, outcome

    def _next(self, board: TransferBoard, arrivals: Sequence[Arrival]) -> Arrival | None:
        """Return a take-over that can be decided now; None when there is no other."""
        for arrival in arrivals:
            if arrival in board.open and arrival not in board.early and not self._rests_on_other(board, arrival):
                return arrival
        return None

    def _rests_on_other(self, board: TransferBoard, arrival: Arrival) -> bool:
        """Whether what a take-over cites was itself written upon a take-over that is not decided."""
        source = self._message(board, arrival).taken_over_from
        return any(
            (other.license_id, other.person_key, other.city) == (arrival.license_id, arrival.person_key, source.city)
            and (other.epoch, other.idx) < (source.epoch, source.index)
            for other in board.undecided
        )

    def apply(self, conn: Connection, decided: Sequence[TransferDecision]) -> list[Erased]:
        """Write rows, claims, revisions and the cities' feeds.

        Returns:
            Slots that were emptied, where a licence was erased before the take-over came.

        Raises:
            Aborted: A person was claimed by somebody else after all; nothing is written.
        """
        for each in decided:
            arrival, before = each.arrival, each.before
            if each.after is not None and each.revision is not None and before is not None:
                if not self._store.claims.move(
                    conn, arrival.person_key, arrival.license_id, source=before.city, target=arrival.city
                ):
                    raise Aborted("a person was claimed meanwhile; ask again")
                self._store.view.put(conn, [each.after])
                self._store.view.add_revisions(conn, [each.revision])
                self._store.transfers.set_offers(conn, before.city, {arrival.license_id: None})
            for city, epoch, note, other in _notes(each):
                self._store.feeds.add(conn, city, epoch, [note], other_city=other)
            for epoch, change in each.changes:
                write_change(conn, self._store, LogKey(arrival.city, epoch), change)
        self._store.transfers.end_arrivals(conn, [each.arrival for each in decided])
        erased: list[Erased] = []
        for each in decided:
            if each.after is not None:
                city, license_id = each.arrival.city, each.arrival.license_id
                erased += erase_after_hand_over(
                    conn, self._store, self._persons, city, license_id, now=self._log_is_whole()
                )
        # What comes to nothing may be about a licence that is no more.
        return erased + sweep_erased(conn, self._store, self._persons, _without_effect(decided))

    def _moved(
        self, arrival: Arrival, message: license_pb2.LicenseRecord, before: ViewRow | None, now_us: int
    ) -> TransferDecision:
        after = row_of(
            message,
            index=arrival.idx,
            leaf_hash=arrival.entry_hash,
            flags=0,
            persons=self._persons,
            person_key=arrival.person_key,
        )
        revision = revision_of(message, index=arrival.idx, received_us=now_us, person_key=arrival.person_key)
        return TransferDecision(arrival, None, before, after, revision)


def _without_effect(decided: Sequence[TransferDecision]) -> dict[bytes, list[tuple[LogKey, int]]]:
    """Return where refused take-overs lie, and whatever rested on them, by licence."""
    heard: defaultdict[bytes, list[tuple[LogKey, int]]] = defaultdict(list)
    for each in decided:
        if each.refusal is None:
            continue
        arrival = each.arrival
        heard[arrival.license_id].append((LogKey(arrival.city, arrival.epoch), arrival.idx))
        for epoch, change in each.changes:
            for index, kind, license_id, _ in change.notes:
                if kind in WITHOUT_EFFECT:
                    heard[license_id].append((LogKey(arrival.city, epoch), index))
    return heard


def _notes(decided: TransferDecision) -> list[tuple[int, int, tuple[int, int, bytes, str], int]]:
    """Return what the cities are told, in the order of cities: (city, epoch, note, other city)."""
    arrival, before = decided.arrival, decided.before
    other = decided.other_city if before is None else before.city
    kind, detail = replication_pb2.DISPOSITION_KIND_TRANSFER_ACCEPTED, _ACCEPTED
    if decided.refusal is not None:
        kind, detail = replication_pb2.DISPOSITION_KIND_TRANSFER_REFUSED, decided.refusal.value
    notes = [(arrival.city, arrival.epoch, (arrival.idx, int(kind), arrival.license_id, detail), other)]
    if decided.refusal is None and before is not None:
        away = (before.idx, int(replication_pb2.DISPOSITION_KIND_TRANSFERRED_AWAY), arrival.license_id, _AWAY)
        notes.append((before.city, before.epoch, away, arrival.city))
    return sorted(notes, key=lambda note: note[0])
