"""What every scene works with, and the few moves that scenes share."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Final

import grpc

from elicense.cli.demo.display import Display
from elicense.cli.demo.figures import ExpectationFailed, Figures
from elicense.cli.demo.nation import City, Nation
from elicense.cli.options import word
from elicense.client import AsyncClient, DocumentType, Outcome, Purpose, Question, Verdict, VerdictReason
from elicense.errors import Error
from elicense.license.civil_date import date_to_message
from elicense.license.codec import license_to_message
from elicense.license.model import IdentityDocument, License
from elicense.rpc.errors import from_rpc_error
from elicense.v1 import issuance_pb2, license_pb2, replication_pb2

CALL_TIMEOUT_S: Final = 10.0
CASE_NUMBER: Final = "DEMO-2021-0601"


@dataclass(slots=True)
class Roll:
    """The drivers of one city.

    Attributes:
        imported: Those whose rows must be accepted.
        rows: Rows of the city's file.
        refused: Numbers of the rows that must be refused.
        newcomers: Drivers who are not in the file and get their first licence during the run.
    """

    imported: list[License] = field(default_factory=list)
    rows: int = 0
    refused: frozenset[int] = frozenset()
    newcomers: list[License] = field(default_factory=list)


@dataclass(slots=True)
class Stage:
    """The running nation and what was found out about it.

    Attributes:
        nation: Nodes and connections.
        figures: What was measured.
        display: What the audience sees.
        drivers: Rows a city.
        seed: Seed of the drivers.
        today: Date in China.
        rolls: Drivers by city.
        police: The police's connection to the registry.
        window: The traffic window's connection to Suzhou.
        accident: A licence and a moment at which it was still valid; None before that scene.
    """

    nation: Nation
    figures: Figures
    display: Display
    drivers: int
    seed: int
    today: date
    rolls: dict[City, Roll] = field(default_factory=dict)
    police: AsyncClient = field(init=False)
    window: AsyncClient = field(init=False)
    accident: tuple[License, datetime] | None = None

    async def ask_registry(self, license_: License) -> Verdict:
        """Verify at the registry, as a police officer."""
        document = license_.holder.document
        return await self.police.verify(
            document.number,
            document_type=DocumentType(document.type),
            purpose=Purpose.ROADSIDE_CHECK,
            case_number=CASE_NUMBER,
        )

    async def ask_suzhou(self, license_: License) -> Verdict:
        """Verify at Suzhou's node, as a clerk of its traffic window."""
        return await self.ask_window(self.window, license_)

    async def ask_window(self, window: AsyncClient, license_: License) -> Verdict:
        """Verify at a city's node, as a clerk of its traffic window."""
        document = license_.holder.document
        return await window.verify(
            document.number, document_type=DocumentType(document.type), purpose=Purpose.WINDOW_SERVICE
        )

    async def ask_registry_for_all(self, licenses: list[License]) -> list[Verdict]:
        """Verify many at the registry."""
        documents = [license_.holder.document for license_ in licenses]
        questions = [Question(each.number, document_type=DocumentType(each.type)) for each in documents]
        return await self.police.verify_batch(questions, purpose=Purpose.ROADSIDE_CHECK, case_number=CASE_NUMBER)

    async def issue(self, city: City, license_: License) -> issuance_pb2.CreateLicenseResponse:
        """Issue a licence in a city."""
        request = issuance_pb2.CreateLicenseRequest(
            parent=city.parent, license=license_to_message(license_), request_id=str(uuid.uuid4())
        )
        try:
            answer: issuance_pb2.CreateLicenseResponse = await self.nation.clerks[city].CreateLicense(
                request, timeout=CALL_TIMEOUT_S
            )
        except grpc.RpcError as error:
            raise from_rpc_error(error) from error
        return answer

    async def suspend(self, city: City, name: str) -> issuance_pb2.SetStatusResponse:
        """Suspend a licence (letter D)."""
        letter = license_pb2.StatusLetter(
            letter="D",
            legal_basis="道路交通安全法第九十一条",
            start_date=date_to_message(self.today),
            authority=f"{city.name} traffic police",
        )
        request = issuance_pb2.SetStatusRequest(name=name, add_letters=[letter], request_id=str(uuid.uuid4()))
        try:
            answer: issuance_pb2.SetStatusResponse = await self.nation.clerks[city].SetStatus(
                request, timeout=CALL_TIMEOUT_S
            )
        except grpc.RpcError as error:
            raise from_rpc_error(error) from error
        return answer

    async def some_licenses(self, city: City, count: int) -> list[license_pb2.License]:
        """Return the first licences that a city lists."""
        request = issuance_pb2.ListLicensesRequest(parent=city.parent, page_size=count)
        try:
            answer = await self.nation.clerks[city].ListLicenses(request, timeout=CALL_TIMEOUT_S)
        except grpc.RpcError as error:
            raise from_rpc_error(error) from error
        return list(answer.licenses)

    async def state(self, city: City) -> replication_pb2.GetReplicationStateResponse:
        """Return what the registry tells a city of its own log."""
        service = self.nation.replication_of(city)
        request = replication_pb2.GetReplicationStateRequest()
        try:
            state: replication_pb2.GetReplicationStateResponse = await service.GetReplicationState(
                request, timeout=CALL_TIMEOUT_S
            )
        except grpc.RpcError as error:
            raise from_rpc_error(error) from error
        return state

    async def held(self, city: City) -> int:
        """Return how many entries of a city's log the registry holds."""
        return (await self.state(city)).next_index


def judged(
    ask: Callable[[License], Awaitable[Verdict]], license_: License, outcome: Outcome
) -> Callable[[], Awaitable[bool]]:
    """Return the question whether a licence is given that outcome."""

    async def seen() -> bool:
        return (await ask(license_)).outcome is outcome

    return seen


async def until(
    seen: Callable[[], Awaitable[bool]], *, within_s: float, what: str, pause_s: float = 0.0, patient: bool = False
) -> float:
    """Ask until the answer is yes; return how many seconds that took.

    Args:
        seen: The question.
        within_s: When to give up.
        what: What is waited for, for the error.
        pause_s: Between two questions.
        patient: Whether errors mean "not yet".

    Raises:
        ExpectationFailed: It did not happen in time.
        Error: The question failed, and ``patient`` is not set.
    """
    began = time.perf_counter()
    while True:
        try:
            if await seen():
                return time.perf_counter() - began
        except Error as error:
            if not patient:
                raise
            what_now = f" ({error.message})"
        else:
            what_now = ""
        if time.perf_counter() - began > within_s:
            raise ExpectationFailed(f"{what}: not within {within_s:g} s{what_now}")
        await asyncio.sleep(pause_s)


def asked_of(document: IdentityDocument) -> list[str]:
    """Return how a document is named to ``elicense verify``: not every driver has a resident's identity card."""
    return [document.number, "--type", word(DocumentType(document.type))]


def describe(verdict: Verdict) -> str:
    """Return a verdict's outcome and reasons in a few words."""
    reasons = ", ".join(reason.name if isinstance(reason, VerdictReason) else str(reason) for reason in verdict.reasons)
    return f"{verdict.outcome.name} ({reasons})" if reasons else verdict.outcome.name


def require(verdict: Verdict, outcome: Outcome, what: str, reason: VerdictReason | None = None) -> None:
    """Go on only if a verdict is what it must be.

    Raises:
        ExpectationFailed: It is not.
    """
    if verdict.outcome is not outcome or (reason is not None and reason not in verdict.reasons):
        wanted = f"{outcome.name} ({reason.name})" if reason is not None else outcome.name
        raise ExpectationFailed(f"{what}: expected {wanted}, got {describe(verdict)}")
