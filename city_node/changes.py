"""Changing licences that exist: a new revision of one licence, whatever the change.

Only a changed identity number needs the registry, which must know that nobody else
has it.  For all else the city has custody, so it suspends, renews and cancels with
the centre unplugged.  What the days bring a licence is written
before any change of a clerk, so that the change is judged upon the licence as
it stands today.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from city_node.answers import Answer, Answers
from city_node.citylog import CityLog
from city_node.claims import PersonClaims
from city_node.commands import ChangeLicense, Deferred, GrantLapsed
from city_node.daily import DailyRules
from city_node.decider import answer_again
from city_node.encoding import etag_of, shown, with_license
from city_node.gate import SigningGate
from city_node.holding import refusal_of
from city_node.licenses import Licenses
from city_node.revisions import (
    Latest,
    earlier_documents,
    of_row,
    require_counting,
    require_revision,
    require_undoubted,
)
from city_node.store import CityStore
from elicense.clock import china_date
from elicense.errors import Error, EtagMismatch
from elicense.license.daily import caught_up
from elicense.license.identity_change import IdentityChange
from elicense.sql.database import Database
from elicense.uuids import ordered_uuids
from elicense.v1 import license_pb2, replication_pb2
from elicense.view.model import ViewRow
from elicense.view.person import PersonIndex

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from sqlalchemy import Connection

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
        persons: Computes person tags.
        claims: Claims a new number at the registry.
        daily: Writes what the days bring.
        answers: Encodes what was written.
        gate: Whether this node may sign.
        clock: UTC microseconds.
        random: Gives that many random bytes.
    """

    def __init__(
        self,
        *,
        log: CityLog,
        database: Database,
        store: CityStore,
        licenses: Licenses,
        persons: PersonIndex,
        claims: PersonClaims,
        daily: DailyRules,
        answers: Answers,
        gate: SigningGate,
        clock: Callable[[], int],
        random: Callable[[int], bytes],
    ) -> None:
        self._log = log
        self._database = database
        self._store = store
        self._licenses = licenses
        self._persons = persons
        self._claims = claims
        self._daily = daily
        self._answers = answers
        self._gate = gate
        self._clock = clock
        self._random = random
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
            PersonClaimed: Another city holds whoever a new document is of.
            LicenseExists: This city does.
            PersonBanned: They may not apply.
            RegistryUnreachable: The registry is away, and a new document can not be claimed.
        """
        async with self._turn(command.license_id):
            known = await self._database.read(lambda conn: self._store.requests(conn, [command.request_id]))
            if command.request_id in known:
                done = answer_again(known[command.request_id], command.digest)
                if isinstance(done, Error):
                    raise done
                return await self._answers.again(done.request)
            if isinstance(command.change, IdentityChange):
                document = command.change.document
                command = replace(command, new_key=self._persons.person_key(document.type, document.number))
            if validate_only:
                return await self._preview(command)
            self._gate.check()
            return await self._write(command)

    async def _write(self, command: ChangeLicense) -> Answer:
        for _ in range(_ATTEMPTS):
            current = await self._licenses.current(command.license_id)
            if await self._daily.settle(current):
                continue
            if isinstance(command.change, IdentityChange):
                # Judged before anybody is claimed, and once more as it is written.
                await self._preview(command)
                command = await self._claimed(command, command.change, current.row)
            size = len(current.entry) + _CHANGE_BYTES
            committed = await self._log.submit(command, entries=1, size=size)
            outcome = committed.result[0]
            if not isinstance(outcome, Deferred | GrantLapsed):
                break
        else:
            raise Deferred("other changes of the license keep coming first; try again")
        if isinstance(outcome, Error):
            raise outcome
        return await self._answers.of(committed, outcome, flags=current.row.flags)

    async def _require_free(self, command: ChangeLicense) -> None:
        """Refuse a new document of which somebody else has a licence in this city."""

        def read(conn: Connection) -> list[ViewRow]:
            return self._store.view.by_document(conn, [command.new_key]).get(command.new_key, [])

        rows = await self._database.read(read)
        if any(row.license_id == command.license_id for row in rows):
            return
        refusal = refusal_of(rows, china_date(self._clock()), city=self._log.key.log)
        if refusal is not None:
            raise refusal

    async def _claimed(self, command: ChangeLicense, change: IdentityChange, row: ViewRow) -> ChangeLicense:
        """Return the change with the registry's grant of the new document, unless it names the holder already."""
        links = await self._database.read(
            lambda conn: self._store.view.links.of(conn, [command.new_key, row.person_key])
        )
        if links.get(command.new_key, command.new_key) == links.get(row.person_key, row.person_key):
            return replace(command, grant=None)
        # Not this licence's id: whoever is issued to on this grant, if it is not used here, gets the id that it names.
        (unused,) = ordered_uuids(1, now_us=self._clock(), random=self._random)
        grant = await self._claims.claim(
            replication_pb2.PersonClaim(
                document=license_pb2.IdentityDocument(
                    type=int(change.document.type),  # type: ignore[arg-type]  # the same numbers
                    number=change.document.number,
                ),
                license_id=unused,
                request_id=command.request_id,
            )
        )
        return replace(command, grant=license_pb2.ClaimGrant.FromString(grant.citation))

    async def _preview(self, command: ChangeLicense) -> Answer:
        current = await self._licenses.current(command.license_id)
        if command.etag and command.etag != etag_of(current.row.entry_hash):
            raise EtagMismatch("the license has changed since it was read; read it again")
        require_revision(command.change, current.row)
        require_counting(command.change, current.row)
        require_undoubted(command.change, current.row)
        today = china_date(self._clock())
        latest = Latest.read(current.row, current.entry)
        if command.new_key:
            earlier_documents(latest)
            await self._require_free(command)
        after = of_row(command.change, latest.row).apply(caught_up(latest.license, today), today).license
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
