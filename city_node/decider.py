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

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import date
from typing import TYPE_CHECKING

from city_node.board import Board, BoardReader
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
from city_node.gate import SigningGate
from city_node.holding import require_custody
from city_node.revisions import (
    Latest,
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
from elicense.log.decision import Appended, Decision
from elicense.log.model import Head
from elicense.uuids import uuid_bytes
from elicense.v1 import license_pb2
from elicense.view.person import PersonIndex

if TYPE_CHECKING:
    from sqlalchemy import Connection

Outcomes = tuple[Outcome, ...]


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
        self._boards = BoardReader(store=store, clock=clock)
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
        board = self._boards.read(conn, head, commands)
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

    def _issue(self, board: Board, item: NewLicense) -> Outcome:
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

    def _change(self, board: Board, command: ChangeLicense) -> Outcome:
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

    def _require_free(self, board: Board, command: ChangeLicense) -> None:
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

    def _take_over(self, board: Board, command: TakeOverLicense) -> Outcome:
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

    def _erase(self, board: Board, command: EraseLicense) -> Outcome:
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

    def _erase_on_order(self, board: Board, command: EraseOnOrder) -> Outcome:
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

    def _apply_rule(self, board: Board, license_id: bytes, day: date) -> Outcome:
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

    def _latest(self, board: Board, license_id: bytes) -> Latest:
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

    def _known(self, board: Board, request_id: bytes, digest: bytes) -> Outcome | None:
        request = board.requests.get(request_id)
        return None if request is None else answer_again(request, digest)

    def _write(
        self,
        board: Board,
        request_id: bytes,
        digest: bytes,
        person_key: bytes,
        record: license_pb2.LicenseRecord,
    ) -> Written:
        index = self._note(board, request_id, digest, record.license_id)
        return Written(request_id, digest, index, person_key, record, record_flags(record))

    def _note(self, board: Board, request_id: bytes, digest: bytes, license_id: bytes) -> int:
        """Note what a request comes to; return the index of its record."""
        index = board.next_index
        board.next_index += 1
        board.requests[request_id] = Request(request_id, digest, license_id, board.key.epoch, index, 0)
        return index


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
