"""The rules that turn commands into records, inside the transaction of the log's writer.

Judged in this order: may this node sign at all, has the request been dealt with
before, is the person free in this city, does the grant still hold; or, for a
change, has the licence got everything that the days bring, is it the version
that was read, is the change legal.  One commit carries many commands; each is
judged upon what those before it decided, so two requests for one person, or one
request sent twice at once, come to one licence.  A second change of one licence
is deferred to the next commit.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from typing import TYPE_CHECKING

from city_node.commands import (
    ApplyRules,
    ChangeLicense,
    Command,
    Deferred,
    Done,
    EraseLicense,
    EraseOnOrder,
    GrantLapsed,
    IssueLicenses,
    NewLicense,
    NothingDue,
    Outcome,
    TakeOverLicense,
    Written,
    WrittenFirst,
)
from city_node.custody import record_flags
from city_node.encoding import etag_of
from city_node.first_revision import FirstRevisions
from city_node.gate import SigningGate
from city_node.holding import refusals, require_custody
from city_node.removal import Place, awaits_receipt, entries_of
from city_node.revisions import (
    Latest,
    Wrong,
    changed_record,
    erased_record,
    ordered_record,
    step_record,
    taken_over_record,
)
from city_node.store import CityStore, Request
from city_node.written import ViewWriter
from elicense.clock import china_date, from_timestamp
from elicense.errors import (
    Error,
    EtagMismatch,
    IllegalTransition,
    LicenseExists,
    LicenseNotFound,
    RequestIdReused,
    StoreCorrupt,
    Violation,
)
from elicense.license.daily import next_step
from elicense.license.field_change import FieldCorrection
from elicense.log.decision import Appended, Decision
from elicense.log.model import Head, LogKey, StoredEntry
from elicense.uuids import uuid_bytes
from elicense.v1 import license_pb2
from elicense.view.model import ViewRow
from elicense.view.person import PersonIndex

if TYPE_CHECKING:
    from sqlalchemy import Connection

Outcomes = tuple[Outcome, ...]


@dataclass(slots=True)
class _Board:
    """What is known while one commit is decided; grows with each command."""

    key: LogKey
    next_index: int
    now_us: int
    firsts: FirstRevisions
    requests: dict[bytes, Request]
    taken: dict[bytes, Error]
    rows: dict[bytes, ViewRow]
    entries: dict[tuple[int, int], StoredEntry]
    wrong: dict[bytes, Wrong]
    arriving: set[bytes]
    unheld: set[bytes]
    changed: set[bytes] = field(default_factory=set)
    given: set[bytes] = field(default_factory=set)

    def refusal(self, person_key: bytes) -> Error | None:
        """Return why a person may have no licence here; None when they may."""
        if person_key in self.given:
            return LicenseExists("this person holds a license in this city already")
        return self.taken.get(person_key)


class CityDecider:
    """Decides commands for the city's log.

    Args:
        store: The city's tables.
        persons: Computes person and name tags.
        gate: Whether this node may sign.
        actor: SPIFFE ID of the node, for what the days bring.
        clock: UTC microseconds.
    """

    def __init__(
        self, *, store: CityStore, persons: PersonIndex, gate: SigningGate, actor: str, clock: Callable[[], int]
    ) -> None:
        self._store = store
        self._view = ViewWriter(store=store, persons=persons)
        self._gate = gate
        self._actor = actor
        self._clock = clock

    def decide(self, conn: Connection, head: Head, commands: Sequence[Command]) -> list[Decision[Outcomes]]:
        """Return one decision a command, in order; reads, writes nothing.

        Raises:
            DataLoss: This node only verifies.
        """
        self._gate.check()
        board = self._board(conn, head, commands)
        decisions = []
        for command in commands:
            if isinstance(command, IssueLicenses):
                outcomes: Outcomes = tuple(self._issue(board, item) for item in command.items)
            elif isinstance(command, ApplyRules):
                outcomes = tuple(self._apply_rule(board, each, command.day) for _, each in command.licenses)
            elif isinstance(command, TakeOverLicense):
                outcomes = (self._take_over(board, command),)
            elif isinstance(command, EraseLicense):
                outcomes = (self._erase(board, command),)
            elif isinstance(command, EraseOnOrder):
                outcomes = (self._erase_on_order(board, command),)
            else:
                outcomes = (self._change(board, command),)
            decisions.append(Decision(records=_records(outcomes), result=outcomes))
        return decisions

    def applied(self, conn: Connection, appended: Sequence[Appended], decisions: Sequence[Decision[Outcomes]]) -> None:
        """Write requests, licences and revisions, in the transaction that appended their entries."""
        if not appended:
            return
        written = [
            outcome
            for decision in decisions
            for outcome in decision.result or ()
            if isinstance(outcome, (Written, WrittenFirst))
        ]
        self._view.write(conn, written, appended, received_us=self._clock())

    # -- one command ---------------------------------------------------------------------------------------------------

    def _issue(self, board: _Board, item: NewLicense) -> Outcome:
        draft = item.draft
        known = self._known(board, draft.request_id, draft.digest)
        if known is not None:
            return known
        person_key = draft.person_key
        if (refusal := board.refusal(person_key)) is not None:
            return refusal
        if item.lease_end_us and item.lease_end_us <= board.now_us:
            return GrantLapsed("the registry's grant has lapsed; try again")
        record, standing = board.firsts.write(item)
        board.given.add(person_key)
        index = self._note(board, draft.request_id, draft.digest, item.license_id)
        return WrittenFirst(item, board.key, index, record, standing, board.now_us)

    def _change(self, board: _Board, command: ChangeLicense) -> Outcome:
        known = self._known(board, command.request_id, command.digest)
        if known is not None:
            return known
        try:
            latest = self._latest(board, command.license_id)
            if next_step(latest.license, china_date(board.now_us)) is not None:
                raise Deferred("the days bring the license another change first; try again")
            if command.etag and command.etag != etag_of(latest.row.entry_hash):
                raise EtagMismatch("the license has changed since it was read; read it again")
            self._require_free(board, command)
            wrong = board.wrong.get(command.request_id)
            record = changed_record(latest, command, key=board.key, now_us=board.now_us, wrong=wrong)
        except Error as error:
            return error
        board.changed.add(command.license_id)
        if command.new_key:
            board.given.add(command.new_key)
        return self._write(board, command.request_id, command.digest, latest.row.person_key, record)

    def _require_free(self, board: _Board, command: ChangeLicense) -> None:
        """Refuse a new document of which somebody has a licence, or whose grant is over.

        Raises:
            LicenseExists: Somebody has.
            PersonBanned: They are barred.
            GrantLapsed: The grant is over.
        """
        if command.grant is None:
            return
        if (refusal := board.refusal(command.new_key)) is not None:
            raise refusal
        if from_timestamp(command.grant.lease_end_time) <= board.now_us:
            raise GrantLapsed("the registry's grant has lapsed; try again")

    def _take_over(self, board: _Board, command: TakeOverLicense) -> Outcome:
        known = self._known(board, command.request_id, command.digest)
        if known is not None:
            return known
        latest = command.latest
        if (refusal := board.refusal(latest.person_key)) is not None:
            return refusal
        own = board.rows.get(latest.license_id)
        if own is not None and own.person_key != latest.person_key:
            return LicenseExists("another person's license has this id here; have the other city issue a new one")
        if latest.license_id in board.arriving:
            return IllegalTransition(
                "the license is being taken over already; wait for the registry's word",
                violations=[Violation("license", "TRANSFER_UNDECIDED", "Wait until the registry has decided.")],
            )
        try:
            read = Latest.read(latest, command.entry)
            record = taken_over_record(read, command, key=board.key, now_us=board.now_us)
        except Error as error:
            return error
        board.arriving.add(latest.license_id)
        return self._write(board, command.request_id, command.digest, latest.person_key, record)

    def _erase(self, board: _Board, command: EraseLicense) -> Outcome:
        known = self._known(board, command.request_id, command.digest)
        if known is not None:
            return known
        try:
            latest = self._latest(board, command.license_id)
            if latest.row.entry_hash != command.entry_hash:
                raise EtagMismatch("the license has changed since it was checked; ask again")
        except Error as error:
            return error
        board.changed.add(command.license_id)
        record = erased_record(latest, command, key=board.key, now_us=board.now_us)
        written = self._write(board, command.request_id, command.digest, latest.row.person_key, record)
        return replace(written, flags=0, erases=True)

    def _erase_on_order(self, board: _Board, command: EraseOnOrder) -> Outcome:
        known = self._known(board, command.request_id, b"")
        if known is not None:
            return known
        row = board.rows.get(command.license_id)
        if row is not None and row.city == board.key.log:
            return IllegalTransition("the license is in this city's own custody, so no other city may erase it")
        if row is not None and not row.city:
            # It was this city's by the registry's word, which is taken back: what is here may be all that is left.
            return IllegalTransition("the registry says of nobody that they have the license; ask its operators first")
        if command.license_id in board.unheld:
            return Deferred("the registry does not hold all that this city wrote of the license yet")
        slot = board.entries.get((command.epoch, command.idx))
        if slot is None:
            return StoreCorrupt("a record that is to be erased is not where the registry says; run fsck")
        board.changed.add(command.license_id)
        record = ordered_record(command, slot, key=board.key, now_us=board.now_us, actor=self._actor)
        written = self._write(board, command.request_id, b"", b"", record)
        return replace(written, flags=0, erases=True)

    def _apply_rule(self, board: _Board, license_id: bytes, day: date) -> Outcome:
        try:
            latest = self._latest(board, license_id)
            step = next_step(latest.license, min(day, china_date(board.now_us)))
            if step is None:
                raise NothingDue("no day brings the license anything any more")
            record = step_record(latest, step, key=board.key, now_us=board.now_us, actor=self._actor)
        except Error as error:
            return error
        board.changed.add(license_id)
        request_id = uuid_bytes(record.request_id)
        return self._write(board, request_id, b"", latest.row.person_key, record)

    def _latest(self, board: _Board, license_id: bytes) -> Latest:
        row = board.rows.get(license_id)
        if row is None:
            raise LicenseNotFound("no license of this name in this city")
        require_custody(row, board.key.log)
        if license_id in board.changed:
            # The next record must cite the salted hash of the one before, which only the commit makes.
            raise Deferred("the license is being changed by another request; try again")
        entry = board.entries.get((row.epoch, row.idx))
        if entry is None or entry.record is None or entry.leaf_hash != row.entry_hash:
            raise StoreCorrupt("the latest record of the license is missing; run fsck")
        return Latest.read(row, entry.record)

    def _known(self, board: _Board, request_id: bytes, digest: bytes) -> Outcome | None:
        request = board.requests.get(request_id)
        return None if request is None else answer_again(request, digest)

    def _write(
        self,
        board: _Board,
        request_id: bytes,
        digest: bytes,
        person_key: bytes,
        record: license_pb2.LicenseRecord,
    ) -> Written:
        index = self._note(board, request_id, digest, record.license_id)
        return Written(request_id, digest, index, person_key, record, record_flags(record))

    def _note(self, board: _Board, request_id: bytes, digest: bytes, license_id: bytes) -> int:
        """Note what a request comes to; return the index of its record."""
        index = board.next_index
        board.next_index += 1
        board.requests[request_id] = Request(request_id, digest, license_id, board.key.epoch, index, 0)
        return index

    # -- what a commit needs to know -----------------------------------------------------------------------------------

    def _board(self, conn: Connection, head: Head, commands: Sequence[Command]) -> _Board:
        issued = [item for command in commands if isinstance(command, IssueLicenses) for item in command.items]
        changes = [command for command in commands if isinstance(command, ChangeLicense)]
        ruled = {each for command in commands if isinstance(command, ApplyRules) for each in command.licenses}
        moves = [command for command in commands if isinstance(command, TakeOverLicense)]
        request_ids = [item.draft.request_id for item in issued] + [change.request_id for change in changes]
        request_ids += [move.request_id for move in moves]
        keys = {item.draft.person_key for item in issued} | {move.latest.person_key for move in moves}
        keys |= {change.new_key for change in changes if change.grant is not None}
        rows: dict[bytes, ViewRow] = {}
        orders = [command for command in commands if isinstance(command, EraseOnOrder)]
        erasures = [command for command in commands if isinstance(command, EraseLicense | EraseOnOrder)]
        request_ids += [erasure.request_id for erasure in erasures]
        named = {change.license_id for change in changes} | {erasure.license_id for erasure in erasures}
        for license_id in named | {move.latest.license_id for move in moves}:
            row = self._store.view.by_license(conn, license_id)
            if row is not None:
                rows[license_id] = row
        if ruled:
            for held in self._store.view.by_person(conn, {person_key for person_key, _ in ruled}).values():
                own = [row for row in held if row.city == head.key.log and (row.person_key, row.license_id) in ruled]
                rows.update((row.license_id, row) for row in own)
        entries: dict[tuple[int, int], StoredEntry] = {}
        own_rows = [row for row in rows.values() if row.city == head.key.log]
        for epoch in {row.epoch for row in own_rows}:
            indices = [row.idx for row in own_rows if row.epoch == epoch]
            found = self._store.logs.entries_at(conn, LogKey(head.key.log, epoch), indices)
            entries.update(((epoch, index), entry) for index, entry in found.items())
        for order in orders:
            place = LogKey(head.key.log, order.epoch)
            slots = self._store.logs.entries_at(conn, place, [order.idx])
            entries.update(((order.epoch, index), entry) for index, entry in slots.items())
        # Record times never go back, whatever the clock does.
        now_us = max(self._clock(), head.recorded_us)
        return _Board(
            key=head.key,
            next_index=head.size,
            now_us=now_us,
            firsts=FirstRevisions(head.key, now_us),
            requests=self._store.requests(conn, request_ids),
            taken=self._refusals(conn, keys, head.key.log, now_us) if keys else {},
            rows=rows,
            entries=entries,
            wrong={change.request_id: wrong for change in changes if (wrong := self._wrong(conn, change)) is not None},
            arriving={
                move.latest.license_id
                for move in moves
                if self._store.hand_overs.arriving(conn, move.latest.license_id)
            },
            unheld={
                order.license_id
                for order in orders
                if awaits_receipt(conn, self._store, self._ordered(conn, head.key.log, order))
            },
        )

    def _ordered(self, conn: Connection, city: int, order: EraseOnOrder) -> Collection[Place]:
        """Return where whatever lies that an order takes out."""
        slot = LogKey(city, order.epoch), order.idx
        return entries_of(conn, self._store, city, order.license_id, slot).keys()

    def _refusals(self, conn: Connection, keys: set[bytes], city: int, now_us: int) -> dict[bytes, Error]:
        return refusals(self._store.view.by_document(conn, keys), china_date(now_us), city=city)

    def _wrong(self, conn: Connection, command: ChangeLicense) -> Wrong | None:
        """Return the revision that a correction puts right."""
        if not isinstance(command.change, FieldCorrection):
            return None
        number = command.change.revision
        found = self._store.view.revisions(conn, command.license_id, after=number - 1, limit=1)
        if not found or found[0].revision != number:
            return None
        place = LogKey(found[0].city, found[0].epoch)
        entry = self._store.logs.entries_at(conn, place, [found[0].idx]).get(found[0].idx)
        return None if entry is None else Wrong(found[0], entry.leaf_hash)


def _records(outcomes: Outcomes) -> tuple[bytes, ...]:
    return tuple(
        [
            outcome.data if isinstance(outcome, WrittenFirst) else outcome.record.SerializeToString(deterministic=True)
            for outcome in outcomes
            if isinstance(outcome, (Written, WrittenFirst))
        ]
    )


def answer_again(request: Request, digest: bytes) -> Done | RequestIdReused:
    """Return what a request id that is known already is answered with."""
    if request.digest != digest:
        return RequestIdReused("this request id came with another body before; use a new one for a new request")
    return Done(request)
