"""Issuing licences, one at the counter or a thousand from an older system, by the same rules.

The order of judgement:

1. a request that has been dealt with before is answered from what was stored;
2. every rule of eligibility, all broken ones at once;
3. the person must be free in this city;
4. the person is claimed at the registry, or policy decides while it is away;
5. the log's writer judges 1 and 3 again, in the transaction that writes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

from city_node.answers import Answer, Answers
from city_node.citylog import CityLog
from city_node.claims import Grant, PersonClaims
from city_node.commands import Done, GrantLapsed, IssueLicenses, NewLicense, Outcome
from city_node.decider import answer_again
from city_node.drafts import Draft, draft_of
from city_node.gate import SigningGate
from city_node.store import CityStore, Request
from elicense.clock import china_date
from elicense.errors import (
    Error,
    LicenseExists,
    Malformed,
    NotEligible,
    QueueFull,
    RegistryUnreachable,
    Violation,
)
from elicense.license.eligibility import check_application
from elicense.rpc.coalesce import Coalescer
from elicense.sql.database import Database
from elicense.v1 import issuance_pb2, license_pb2
from elicense.view.person import PersonIndex

if TYPE_CHECKING:
    from sqlalchemy import Connection

#: Records of an import that one commit takes; a citizen at the counter waits for one commit at most.
BULK_ENTRIES: Final = 500
BULK_BYTES: Final = 2 * 1024 * 1024
#: Rows judged before other calls get their turn.
ROWS_PER_TURN: Final = 32
#: How long an import call waits for the registry to catch up before it says so.
BACKLOG_SECONDS: Final = 20.0
#: A grant lapses within minutes; a second failure in a row means that something else is wrong.
CLAIM_ATTEMPTS: Final = 3


class Backlog(Protocol):
    """How far the registry is behind."""

    async def wait_for_backlog(self, limit: int, timeout_s: float) -> bool:
        """Wait until at most ``limit`` entries lack a receipt; False when the time is over first."""

    @property
    def connected(self) -> bool:
        """Whether the registry answers."""


@dataclass(frozen=True, slots=True)
class Policy:
    """What a city decides for itself.

    Attributes:
        issue_provisional: Whether to issue while the registry is away.
        bulk_backlog: Entries without a receipt beyond which an import waits.
    """

    issue_provisional: bool
    bulk_backlog: int


@dataclass(frozen=True, slots=True)
class Imported:
    """What became of one row of an import.

    Attributes:
        error: Why it was refused; None when the licence stands.
        license_id: The licence; empty when refused or only validated.
        already: Whether an earlier call had imported it.
    """

    error: Error | None = None
    license_id: bytes = b""
    already: bool = False


class Issuance:
    """Issues licences of one city.

    Args:
        log: The city's log.
        database: The city's database.
        store: Its tables.
        persons: Computes person tags.
        claims: Claims persons at the registry.
        answers: Encodes what was written.
        backlog: How far the registry is behind.
        gate: Whether this node may sign.
        policy: What the city decides for itself.
        clock: UTC microseconds.
        random: Gives this many random bytes.
    """

    def __init__(
        self,
        *,
        log: CityLog,
        database: Database,
        store: CityStore,
        persons: PersonIndex,
        claims: PersonClaims,
        answers: Answers,
        backlog: Backlog,
        gate: SigningGate,
        policy: Policy,
        clock: Callable[[], int],
        random: Callable[[int], bytes],
    ) -> None:
        self._log = log
        self._database = database
        self._store = store
        self._persons = persons
        self._claims = claims
        self._answers = answers
        self._backlog = backlog
        self._gate = gate
        self._policy = policy
        self._clock = clock
        self._random = random
        self._lookups: Coalescer[Draft, tuple[Request | None, bool]] = Coalescer(self._look_up)

    async def close(self) -> None:
        """Wait for running look-ups."""
        await self._lookups.close()

    async def create(self, message: license_pb2.License, *, request_id: str, validate_only: bool, actor: str) -> Answer:
        """Issue one licence.

        Raises:
            Malformed: Fields are not in the right form; all are named.
            RequestIdReused: The request id came with another body before.
            NotEligible: Rules are broken; all are named.
            LicenseExists: The person holds a licence here.
            PersonClaimed: Another city holds the person.
            RegistryUnreachable: The registry is away and policy refuses provisional licences.
            DataLoss: This node only verifies.
        """
        draft = draft_of(message, request_id=request_id, imported=False, actor=actor, persons=self._persons)
        known, held = await self._lookups.submit(draft)
        if known is not None:  # (1)
            done = answer_again(known, draft.digest)
            if isinstance(done, Error):
                raise done
            return await self._answers.again(done.request)
        if (refusal := self._refusal(draft, held)) is not None:  # (2), (3)
            raise refusal
        if validate_only:
            return self._answers.preview(draft.message)
        self._gate.check()
        for _ in range(CLAIM_ATTEMPTS):
            item = await self._grant(draft)  # (4)
            committed = await self._log.submit(IssueLicenses((item,)), entries=1, size=draft.size)  # (5)
            outcome = committed.result[0]
            if not isinstance(outcome, GrantLapsed):
                break
        if isinstance(outcome, Error):
            raise outcome
        return await self._answers.of(committed, outcome)

    async def import_rows(
        self, items: Sequence[issuance_pb2.ImportItem], *, validate_only: bool, actor: str
    ) -> list[Imported]:
        """Issue licences of existing drivers; one result an item, in order.

        Never issues provisionally, and waits while the registry is far behind.

        Raises:
            RegistryUnreachable: The registry is away, or too far behind; send the rows again later.
            QueueFull: It is too far behind, though it answers.
            DataLoss: This node only verifies.
        """
        if not validate_only:
            self._gate.check()
            await self._wait_for_registry()
        results: list[Imported | None] = [None] * len(items)
        drafts: dict[int, Draft] = {}
        seen: set[bytes] = set()
        for position, item in enumerate(items):
            if position % ROWS_PER_TURN == ROWS_PER_TURN - 1:
                await asyncio.sleep(0)
            try:
                draft = draft_of(
                    item.license, request_id=item.request_id, imported=True, actor=actor, persons=self._persons
                )
                if draft.request_id in seen:
                    raise Malformed(
                        "the same request id stands twice in this call",
                        violations=[Violation("request_id", "REPEATED", "give every row an id of its own")],
                    )
            except Error as error:
                results[position] = Imported(error)
                continue
            seen.add(draft.request_id)
            drafts[position] = draft
        await self._judge(drafts, results)
        if validate_only:
            return [result or Imported() for result in results]
        await self._issue_rows(drafts, results)
        return [result or Imported(QueueFull("the row was not dealt with; send it again")) for result in results]

    # -- steps of an import --------------------------------------------------------------------------------------------

    async def _wait_for_registry(self) -> None:
        if await self._backlog.wait_for_backlog(self._policy.bulk_backlog, BACKLOG_SECONDS):
            return
        if not self._backlog.connected:
            raise RegistryUnreachable("the registry can not be reached; the import goes on once it is back")
        raise QueueFull("the registry has yet to confirm what was imported; the import goes on once it has")

    async def _judge(self, drafts: dict[int, Draft], results: list[Imported | None]) -> None:
        """Answer what is known already or refused; what is left in ``drafts`` may be issued."""
        found = await self._read(list(drafts.values()))
        for turn, ((position, draft), (known, held)) in enumerate(zip(list(drafts.items()), found, strict=True)):
            if turn % ROWS_PER_TURN == ROWS_PER_TURN - 1:
                await asyncio.sleep(0)
            if known is not None:
                results[position] = _as_imported(answer_again(known, draft.digest))
            elif (refusal := self._refusal(draft, held)) is not None:
                results[position] = Imported(refusal)
            else:
                continue
            del drafts[position]

    async def _issue_rows(self, drafts: dict[int, Draft], results: list[Imported | None]) -> None:
        for _ in range(CLAIM_ATTEMPTS):
            if not drafts:
                return
            granted = await self._grant_rows(drafts, results)
            for part in _commits(granted, drafts):
                command = IssueLicenses(tuple(granted[position] for position in part))
                size = sum(drafts[position].size for position in part)
                committed = await self._log.submit(command, entries=len(part), size=size, bulk=True)
                for position, outcome in zip(part, committed.result, strict=True):
                    if isinstance(outcome, GrantLapsed):
                        continue
                    results[position] = _as_imported(outcome)
                    del drafts[position]

    async def _grant_rows(self, drafts: dict[int, Draft], results: list[Imported | None]) -> dict[int, NewLicense]:
        claims = [draft.claim(self._new_id()) for draft in drafts.values()]
        grants = await self._claims.claim_bulk(claims)
        granted = {}
        for (position, draft), grant in zip(list(drafts.items()), grants, strict=True):
            if isinstance(grant, Error):
                results[position] = Imported(grant)
                del drafts[position]
            else:
                granted[position] = draft.issue(self._log.key, grant.license_id, grant.citation)
        return granted

    # -- steps of one licence ------------------------------------------------------------------------------------------

    def _refusal(self, draft: Draft, held: bool) -> Error | None:
        broken = check_application(
            draft.license, on=china_date(self._clock()), city=self._log.key.log, imported=draft.imported
        )
        if broken:
            return NotEligible("the license may not be issued; every broken rule is named", violations=broken)
        return LicenseExists("this person holds a license in this city already") if held else None

    async def _grant(self, draft: Draft) -> NewLicense:
        license_id = self._new_id()
        try:
            grant: Grant = await self._claims.claim(draft.claim(license_id))
        except RegistryUnreachable:
            if not self._policy.issue_provisional:
                raise
            return draft.issue(self._log.key, license_id, None)
        return draft.issue(self._log.key, grant.license_id, grant.citation)

    def _new_id(self) -> bytes:
        drawn = bytearray(self._random(16))
        drawn[6] = drawn[6] & 0x0F | 0x40  # RFC 9562, version 4
        drawn[8] = drawn[8] & 0x3F | 0x80
        return bytes(drawn)

    async def _look_up(self, drafts: list[Draft]) -> Sequence[tuple[Request | None, bool]]:
        return await self._read(drafts)

    async def _read(self, drafts: Sequence[Draft]) -> list[tuple[Request | None, bool]]:
        def read(conn: Connection) -> list[tuple[Request | None, bool]]:
            requests = self._store.requests(conn, [draft.request_id for draft in drafts])
            held = self._store.view.by_person(conn, {draft.person_key for draft in drafts})
            return [(requests.get(draft.request_id), draft.person_key in held) for draft in drafts]

        return await self._database.read(read) if drafts else []


def _as_imported(outcome: Outcome) -> Imported:
    if isinstance(outcome, Error):
        return Imported(outcome)
    if isinstance(outcome, Done):
        return Imported(license_id=outcome.request.license_id, already=True)
    return Imported(license_id=outcome.record.license_id)


def _commits(granted: dict[int, NewLicense], drafts: dict[int, Draft]) -> list[list[int]]:
    """Cut rows into what one commit takes."""
    parts: list[list[int]] = []
    size = 0
    for position in granted:
        size += drafts[position].size
        if not parts or len(parts[-1]) >= BULK_ENTRIES or size > BULK_BYTES:
            parts.append([])
            size = drafts[position].size
        parts[-1].append(position)
    return parts
