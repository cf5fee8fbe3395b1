"""Changing licences that exist: a new revision of one licence, whatever the change.

A change never needs the registry: the city has custody, so it suspends, renews
and cancels with the centre unplugged.  What the days bring a licence is written
before any change of a clerk, so that the change is judged upon the licence as
it stands today.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

from city_node.answers import Answer, Answers
from city_node.citylog import CityLog
from city_node.commands import ChangeLicense, Deferred
from city_node.daily import DailyRules
from city_node.decider import answer_again
from city_node.encoding import etag_of, shown, with_license
from city_node.gate import SigningGate
from city_node.licenses import Licenses
from city_node.revisions import Latest, require_counting, require_revision, require_undoubted
from city_node.store import CityStore
from elicense.clock import china_date
from elicense.errors import Error, EtagMismatch
from elicense.license.daily import caught_up
from elicense.sql.database import Database

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

#: Most bytes that a change adds to the record before: letters, classes, a name, ids and times.
_CHANGE_BYTES: Final = 16_384
#: How often another record of the licence may come first; each time one more is written.
_ATTEMPTS: Final = 8


class LicenseChanges:
    """Changes one city's licences.

    Args:
        log: The city's log.
        database: The city's database.
        store: Its tables.
        licenses: Reads licences.
        daily: Writes what the days bring.
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
        daily: DailyRules,
        answers: Answers,
        gate: SigningGate,
        clock: Callable[[], int],
    ) -> None:
        self._log = log
        self._database = database
        self._store = store
        self._licenses = licenses
        self._daily = daily
        self._answers = answers
        self._gate = gate
        self._clock = clock
        self._turns: dict[bytes, tuple[asyncio.Lock, int]] = {}

    async def change(self, command: ChangeLicense, *, validate_only: bool) -> Answer:
        """Change one licence in one revision.

        Raises:
            Malformed: The request contradicts itself; every field is named.
            RequestIdReused: The request id came with another body before.
            LicenseNotFound: No such licence.
            IllegalTransition: The licence can not change so; what is missing is named.
            EtagMismatch: It has changed since it was read.
            DataLoss: This node only verifies.
        """
        async with self._turn(command.license_id):
            known = await self._database.read(lambda conn: self._store.requests(conn, [command.request_id]))
            if command.request_id in known:
                done = answer_again(known[command.request_id], command.digest)
                if isinstance(done, Error):
                    raise done
                return await self._answers.again(done.request)
            if validate_only:
                return await self._preview(command)
            self._gate.check()
            return await self._write(command)

    async def _write(self, command: ChangeLicense) -> Answer:
        for _ in range(_ATTEMPTS):
            current = await self._licenses.current(command.license_id)
            if await self._daily.settle(current):
                continue
            size = len(current.entry) + _CHANGE_BYTES
            committed = await self._log.submit(command, entries=1, size=size)
            outcome = committed.result[0]
            if not isinstance(outcome, Deferred):
                break
        else:
            raise Deferred("other changes of the license keep coming first; try again")
        if isinstance(outcome, Error):
            raise outcome
        return await self._answers.of(committed, outcome, flags=current.row.flags)

    async def _preview(self, command: ChangeLicense) -> Answer:
        current = await self._licenses.current(command.license_id)
        if command.etag and command.etag != etag_of(current.row.entry_hash):
            raise EtagMismatch("the license has changed since it was read; read it again")
        require_revision(command.change, current.row)
        require_counting(command.change, current.row)
        require_undoubted(command.change, current.row)
        today = china_date(self._clock())
        latest = Latest.read(current.row, current.entry)
        after = command.change.apply(caught_up(latest.license, today), today).license
        record = with_license(latest.record, latest.license, after)
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
