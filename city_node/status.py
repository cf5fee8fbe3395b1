"""Adding and lifting status letters: a new revision of one licence.

A status change never needs the registry: the city has custody, so it suspends
and restores in full with the centre unplugged.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable, Sequence
from contextlib import asynccontextmanager
from hashlib import sha256
from typing import TYPE_CHECKING, Final

from city_node.answers import Answer, Answers
from city_node.citylog import CityLog
from city_node.commands import ChangeStatus
from city_node.decider import answer_again
from city_node.encoding import etag_of, shown, with_letters
from city_node.gate import SigningGate
from city_node.licenses import Licenses
from city_node.store import CityStore
from elicense.clock import china_date
from elicense.errors import Error, EtagMismatch, Malformed, Violation
from elicense.license.codec import letter_from_message, license_from_message
from elicense.license.model import StatusLetter
from elicense.license.status_change import check_status_change
from elicense.sql.database import Database
from elicense.v1 import issuance_pb2, license_pb2

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

#: Most bytes of a record: those of the licence before, new letters, ids and times.
_LETTER_BYTES: Final = 1_024
_RECORD_OVERHEAD: Final = 512


class StatusChanges:
    """Changes the status of one city's licences.

    Args:
        log: The city's log.
        database: The city's database.
        store: Its tables.
        licenses: Reads licences.
        answers: Encodes what was written.
        gate: Whether this node may sign.
        clock: UTC microseconds.
    """

    def __init__(
        self,
        *,
        log: CityLog,
        database: Database,
        store: CityStore,
        licenses: Licenses,
        answers: Answers,
        gate: SigningGate,
        clock: Callable[[], int],
    ) -> None:
        self._log = log
        self._database = database
        self._store = store
        self._licenses = licenses
        self._answers = answers
        self._gate = gate
        self._clock = clock
        self._turns: dict[bytes, tuple[asyncio.Lock, int]] = {}

    async def set_status(self, request: issuance_pb2.SetStatusRequest, *, license_id: bytes, actor: str) -> Answer:
        """Add and lift letters in one revision.

        Raises:
            Malformed: The request contradicts itself; every field is named.
            RequestIdReused: The request id came with another body before.
            LicenseNotFound: No such licence.
            IllegalTransition: The licence can not change so.
            EtagMismatch: It has changed since it was read.
            DataLoss: This node only verifies.
        """
        command = ChangeStatus(
            request_id=uuid.UUID(request.request_id).bytes,
            digest=_digest(request, license_id),
            license_id=license_id,
            add=_letters(request.add_letters),
            lift=tuple(request.lift_letters),
            etag=request.etag,
            actor=actor,
        )
        async with self._turn(license_id):
            known = await self._database.read(lambda conn: self._store.requests(conn, [command.request_id]))
            if command.request_id in known:
                done = answer_again(known[command.request_id], command.digest)
                if isinstance(done, Error):
                    raise done
                return await self._answers.again(done.request)
            if request.validate_only:
                return await self._preview(command)
            self._gate.check()
            current = await self._licenses.current(license_id)
            size = len(current.entry) + _LETTER_BYTES * len(command.add) + _RECORD_OVERHEAD
            committed = await self._log.submit(command, entries=1, size=size)
            outcome = committed.result[0]
            if isinstance(outcome, Error):
                raise outcome
            return await self._answers.of(committed, outcome, flags=current.row.flags)

    async def _preview(self, command: ChangeStatus) -> Answer:
        current = await self._licenses.current(command.license_id)
        if command.etag and command.etag != etag_of(current.row.entry_hash):
            raise EtagMismatch("the license has changed since it was read; read it again")
        after = check_status_change(
            license_from_message(current.record.license), command.add, command.lift, china_date(self._clock())
        )
        record = with_letters(current.record, after.status_letters)
        return self._answers.preview(shown(record, entry_hash=current.row.entry_hash, flags=current.row.flags))

    @asynccontextmanager
    async def _turn(self, license_id: bytes) -> AsyncIterator[None]:
        """Let changes of one licence through one at a time: each must cite the entry hash of the one before."""
        lock, waiting = self._turns.get(license_id, (asyncio.Lock(), 0))
        self._turns[license_id] = (lock, waiting + 1)
        try:
            async with lock:
                yield
        finally:
            lock, waiting = self._turns.pop(license_id)
            if waiting > 1:
                self._turns[license_id] = (lock, waiting - 1)


def _letters(messages: Sequence[license_pb2.StatusLetter]) -> tuple[StatusLetter, ...]:
    letters: list[StatusLetter] = []
    faults: list[Violation] = []
    for position, message in enumerate(messages):
        try:
            letters.append(letter_from_message(message, f"add_letters[{position}]"))
        except Malformed as error:
            faults.extend(error.violations)
    if faults:
        raise Malformed("a status letter has a wrong date", violations=faults)
    return tuple(letters)


def _digest(request: issuance_pb2.SetStatusRequest, license_id: bytes) -> bytes:
    """Return what a request means, whatever its flags and its key."""
    meaning = issuance_pb2.SetStatusRequest(
        add_letters=request.add_letters, lift_letters=request.lift_letters, etag=request.etag
    )
    return sha256(b"status\n" + license_id + meaning.SerializeToString(deterministic=True)).digest()
