"""Issuing the licences of a city's existing drivers, a thousand at a time, behind whoever waits at a counter."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from city_node.applications import Applications
from city_node.citylog import CityLog
from city_node.claims import PersonClaims
from city_node.commands import Done, GrantLapsed, IssueLicenses, NewLicense, Outcome, WrittenFirst
from city_node.decider import Outcomes, answer_again
from city_node.drafting import Drafting
from city_node.drafts import Draft
from city_node.gate import SigningGate
from city_node.store import Request
from elicense.errors import Error, Malformed, QueueFull, RegistryUnreachable, Violation
from elicense.license.csv_format import check_header
from elicense.rpc.turns import Turns
from elicense.v1 import issuance_pb2

#: Records of one command to the log's writer, which puts as many commands into a commit as it has time for.
COMMAND_ENTRIES: Final = 64
COMMAND_BYTES: Final = 2 * 1024 * 1024
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


class BulkIssuance:
    """Imports licences of one city.

    Args:
        log: The city's log.
        applications: Looks up.
        drafting: Reads and judges.
        claims: Claims persons at the registry.
        backlog: How far the registry is behind.
        gate: Whether this node may sign.
        backlog_limit: Entries without a receipt beyond which an import waits.
    """

    def __init__(
        self,
        *,
        log: CityLog,
        applications: Applications,
        drafting: Drafting,
        claims: PersonClaims,
        backlog: Backlog,
        gate: SigningGate,
        backlog_limit: int,
    ) -> None:
        self._log = log
        self._applications = applications
        self._drafting = drafting
        self._claims = claims
        self._backlog = backlog
        self._gate = gate
        self._backlog_limit = backlog_limit
        # One page at a time: the database has few threads to read, and citizens at the counter need one.
        self._looking = asyncio.Lock()

    async def import_rows(
        self,
        items: Sequence[issuance_pb2.ImportItem],
        *,
        columns: Sequence[str] = (),
        validate_only: bool,
        actor: str,
    ) -> list[Imported]:
        """Issue licences of existing drivers; one result an item, in order.

        Never issues provisionally, and waits while the registry is far behind.

        Args:
            items: The drivers; their messages may be changed.
            columns: Columns of those that are rows.
            validate_only: Check everything, write nothing.
            actor: SPIFFE ID of the caller.

        Raises:
            Malformed: The columns are not those of a file of drivers.
            RegistryUnreachable: The registry is away, or too far behind; send the rows again later.
            QueueFull: It is too far behind, though it answers.
            DataLoss: This node only verifies.
        """
        if columns or any(item.row for item in items):
            check_header(columns)
        if not validate_only:
            self._gate.check()
            await self._wait_for_registry()
        results: list[Imported | None] = [None] * len(items)
        drafts: dict[int, Draft] = {}
        seen: set[bytes] = set()
        for position, draft in enumerate(await self._drafting.drafts(items, columns, actor=actor)):
            if isinstance(draft, Error):
                results[position] = Imported(draft)
                continue
            if draft.request_id in seen:
                results[position] = Imported(
                    Malformed(
                        "the same request id stands twice in this call",
                        violations=[Violation("request_id", "REPEATED", "give every row an id of its own")],
                    )
                )
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
        if await self._backlog.wait_for_backlog(self._backlog_limit, BACKLOG_SECONDS):
            return
        if not self._backlog.connected:
            raise RegistryUnreachable("the registry can not be reached; the import goes on once it is back")
        raise QueueFull("the registry has yet to confirm what was imported; the import goes on once it has")

    async def _known_of(self, drafts: Sequence[Draft]) -> list[tuple[Request | None, Error | None]]:
        async with self._looking:
            return await self._applications.known_of(drafts)

    async def _judge(self, drafts: dict[int, Draft], results: list[Imported | None]) -> None:
        """Answer what is known already or refused; what is left in ``drafts`` may be issued."""
        found = await self._known_of(list(drafts.values()))
        turns = Turns()
        for (position, draft), (known, taken) in zip(list(drafts.items()), found, strict=True):
            await turns.give_way()
            if known is not None:
                results[position] = _as_imported(answer_again(known, draft.digest))
            elif (refusal := self._applications.refusal(draft, taken)) is not None:
                results[position] = Imported(refusal)
            else:
                continue
            del drafts[position]

    async def _issue_rows(self, drafts: dict[int, Draft], results: list[Imported | None]) -> None:
        for _ in range(CLAIM_ATTEMPTS):
            if not drafts:
                return
            granted = await self._grant_rows(drafts, results)
            parts = _commands(granted, drafts)
            writes = [self._submit([granted[each] for each in part], [drafts[each] for each in part]) for part in parts]
            for part, outcomes in zip(parts, await asyncio.gather(*writes), strict=True):
                for position, outcome in zip(part, outcomes, strict=True):
                    if isinstance(outcome, GrantLapsed):
                        continue
                    results[position] = _as_imported(outcome)
                    del drafts[position]

    async def _submit(self, items: Sequence[NewLicense], drafts: Sequence[Draft]) -> Outcomes:
        size = sum(draft.size for draft in drafts)
        return (await self._log.submit(IssueLicenses(tuple(items)), entries=len(items), size=size, bulk=True)).result

    async def _grant_rows(self, drafts: dict[int, Draft], results: list[Imported | None]) -> dict[int, NewLicense]:
        license_ids = self._applications.new_license_ids(len(drafts))
        turns = Turns()
        claims = []
        for draft, license_id in zip(drafts.values(), license_ids, strict=True):
            await turns.give_way()
            claims.append(draft.claim(license_id))
        grants = await self._claims.claim_bulk(claims)
        granted = {}
        refused: dict[int, Error] = {}
        for (position, draft), grant in zip(drafts.items(), grants, strict=True):
            await turns.give_way()
            if isinstance(grant, Error):
                refused[position] = grant
            else:
                granted[position] = NewLicense(draft, *grant)
        await self._refuse(refused, drafts, results)
        return granted

    async def _refuse(
        self, refused: dict[int, Error], drafts: dict[int, Draft], results: list[Imported | None]
    ) -> None:
        """Answer rows that got no grant: the same row, sent twice, may have been faster and have the person."""
        found = await self._known_of([drafts[position] for position in refused])
        for (position, error), (known, _) in zip(refused.items(), found, strict=True):
            draft = drafts.pop(position)
            results[position] = Imported(error) if known is None else _as_imported(answer_again(known, draft.digest))


def _as_imported(outcome: Outcome) -> Imported:
    if isinstance(outcome, Error):
        return Imported(outcome)
    if isinstance(outcome, Done):
        return Imported(license_id=outcome.request.license_id, already=True)
    if not isinstance(outcome, WrittenFirst):
        raise TypeError("an import writes first revisions alone")
    return Imported(license_id=outcome.item.license_id)


def _commands(granted: dict[int, NewLicense], drafts: dict[int, Draft]) -> list[list[int]]:
    """Cut rows into commands to the log's writer."""
    parts: list[list[int]] = []
    size = 0
    for position in granted:
        size += drafts[position].size
        if not parts or len(parts[-1]) >= COMMAND_ENTRIES or size > COMMAND_BYTES:
            parts.append([])
            size = drafts[position].size
        parts[-1].append(position)
    return parts
