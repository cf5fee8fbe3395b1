"""The rules that turn commands into records, inside the transaction of the log's writer.

Judged in this order: may this node sign at all, has the request been dealt with
before, is the person free in this city, does the grant still hold.  One commit
carries many commands; each is judged upon what those before it decided, so two
requests for one person, or one request sent twice at once, come to one licence.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from city_node.commands import ChangeStatus, Command, Done, GrantLapsed, IssueLicenses, NewLicense, Outcome, Written
from city_node.encoding import etag_of, with_letters
from city_node.gate import SigningGate
from city_node.store import CityStore, Request
from elicense.clock import china_date, to_timestamp
from elicense.errors import (
    Aborted,
    Error,
    EtagMismatch,
    LicenseExists,
    LicenseNotFound,
    RequestIdReused,
    StoreCorrupt,
)
from elicense.license.codec import license_from_message
from elicense.license.status_change import check_status_change
from elicense.license.verdict import ViewFlags
from elicense.log.decision import Appended, Decision
from elicense.log.model import Head, LogKey, StoredEntry
from elicense.v1 import license_pb2
from elicense.view.fold import read_record, revision_of, row_of
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
    requests: dict[bytes, Request]
    held: set[bytes]
    rows: dict[bytes, ViewRow]
    entries: dict[tuple[int, int], StoredEntry]
    changed: set[bytes] = field(default_factory=set)


class CityDecider:
    """Decides commands for the city's log.

    Args:
        store: The city's tables.
        persons: Computes person and name tags.
        gate: Whether this node may sign.
        clock: UTC microseconds.
    """

    def __init__(self, *, store: CityStore, persons: PersonIndex, gate: SigningGate, clock: Callable[[], int]) -> None:
        self._store = store
        self._persons = persons
        self._gate = gate
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
            else:
                outcomes = (self._change(board, command),)
            records = tuple(
                outcome.record.SerializeToString(deterministic=True)
                for outcome in outcomes
                if isinstance(outcome, Written)
            )
            decisions.append(Decision(records=records, result=outcomes))
        return decisions

    def applied(self, conn: Connection, appended: Sequence[Appended], decisions: Sequence[Decision[Outcomes]]) -> None:
        """Write requests, licences and revisions, in the transaction that appended their entries."""
        if not appended:
            return
        written = [
            outcome for decision in decisions for outcome in decision.result or () if isinstance(outcome, Written)
        ]
        size = appended[-1].index + 1
        received_us = self._clock()
        requests, rows, revisions = [], [], []
        for outcome, entry in zip(written, appended, strict=True):
            record, person_key = outcome.record, outcome.person_key
            requests.append(
                Request(outcome.request_id, outcome.digest, record.license_id, record.epoch, entry.index, size)
            )
            rows.append(
                row_of(
                    record,
                    index=entry.index,
                    leaf_hash=entry.leaf_hash,
                    flags=outcome.flags,
                    persons=self._persons,
                    person_key=person_key,
                )
            )
            revisions.append(revision_of(record, index=entry.index, received_us=received_us, person_key=person_key))
        self._store.add_requests(conn, requests)
        self._store.view.put(conn, rows)
        self._store.view.add_revisions(conn, revisions)

    # -- one command ---------------------------------------------------------------------------------------------------

    def _issue(self, board: _Board, item: NewLicense) -> Outcome:
        known = self._known(board, item.request_id, item.digest)
        if known is not None:
            return known
        if item.person_key in board.held:
            return LicenseExists("this person holds a license in this city already")
        if item.lease_end_us and item.lease_end_us <= board.now_us:
            return GrantLapsed("the registry's grant has lapsed; try again")
        item.record.record_time.CopyFrom(to_timestamp(board.now_us))
        item.record.effective_time.CopyFrom(item.record.record_time)
        board.held.add(item.person_key)
        flags = int(ViewFlags.PROVISIONAL) if item.record.provisional else 0
        return self._write(board, item.request_id, item.digest, item.person_key, item.record, flags)

    def _change(self, board: _Board, command: ChangeStatus) -> Outcome:
        known = self._known(board, command.request_id, command.digest)
        if known is not None:
            return known
        row = board.rows.get(command.license_id)
        if row is None:
            return LicenseNotFound("no license of this name in this city")
        if command.license_id in board.changed:
            return Aborted("the license is being changed by another request; try again")
        if command.etag and command.etag != etag_of(row.entry_hash):
            return EtagMismatch("the license has changed since it was read; read it again")
        entry = board.entries.get((row.epoch, row.idx))
        if entry is None or entry.record is None or entry.leaf_hash != row.entry_hash:
            return StoreCorrupt("the latest record of the license is missing; run fsck")
        try:
            record = self._changed_record(board, command, row, entry.record)
        except Error as error:
            return error
        board.changed.add(command.license_id)
        return self._write(board, command.request_id, command.digest, row.person_key, record, 0)

    def _changed_record(
        self, board: _Board, command: ChangeStatus, row: ViewRow, latest: bytes
    ) -> license_pb2.LicenseRecord:
        record = read_record(latest)
        before = license_from_message(record.license)
        after = check_status_change(before, command.add, command.lift, china_date(board.now_us))
        # The record before, changed: what a newer node wrote into it stays.
        record = with_letters(record, after.status_letters)
        record.city, record.epoch = board.key.log, board.key.epoch
        record.revision = row.revision + 1
        record.previous_entry_hash = row.entry_hash
        record.event = license_pb2.LICENSE_EVENT_STATUS_CHANGED
        record.request_id = request_text(command.request_id)
        record.request_digest = command.digest
        record.actor = command.actor
        record.record_time.CopyFrom(to_timestamp(board.now_us))
        record.effective_time.CopyFrom(record.record_time)
        record.ClearField("claim")
        record.provisional = record.imported = False
        return record

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
        flags: int,
    ) -> Written:
        index = board.next_index
        board.next_index += 1
        board.requests[request_id] = Request(request_id, digest, record.license_id, record.epoch, index, 0)
        return Written(request_id, digest, index, person_key, record, flags)

    # -- what a commit needs to know -----------------------------------------------------------------------------------

    def _board(self, conn: Connection, head: Head, commands: Sequence[Command]) -> _Board:
        issued = [item for command in commands if isinstance(command, IssueLicenses) for item in command.items]
        changes = [command for command in commands if isinstance(command, ChangeStatus)]
        request_ids = [item.request_id for item in issued] + [change.request_id for change in changes]
        keys = {item.person_key for item in issued}
        rows: dict[bytes, ViewRow] = {}
        for license_id in {change.license_id for change in changes}:
            row = self._store.view.by_license(conn, license_id)
            if row is not None:
                rows[license_id] = row
        entries: dict[tuple[int, int], StoredEntry] = {}
        for epoch in {row.epoch for row in rows.values()}:
            indices = [row.idx for row in rows.values() if row.epoch == epoch]
            found = self._store.logs.entries_at(conn, LogKey(head.key.log, epoch), indices)
            entries.update(((epoch, index), entry) for index, entry in found.items())
        return _Board(
            key=head.key,
            next_index=head.size,
            # Record times never go back, whatever the clock does.
            now_us=max(self._clock(), head.recorded_us),
            requests=self._store.requests(conn, request_ids),
            held=set(self._store.view.by_person(conn, keys)) if keys else set(),
            rows=rows,
            entries=entries,
        )


def answer_again(request: Request, digest: bytes) -> Done | RequestIdReused:
    """Return what a request id that is known already is answered with."""
    if request.digest != digest:
        return RequestIdReused("this request id came with another body before; use a new one for a new request")
    return Done(request)


def request_text(request_id: bytes) -> str:
    """Return a request id as records hold it: a UUID in lower case."""
    text = request_id.hex()
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"
