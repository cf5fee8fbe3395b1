"""VerificationService on any node: parse, admit, answer, record the look, reply."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from elicense.access.entry import AccessEntry
from elicense.access.recorder import AccessRecorder
from elicense.license.document import normalize_number
from elicense.rpc.context import current_caller
from elicense.v1 import verification_pb2 as pb
from elicense.v1 import verification_pb2_grpc
from elicense.verification.look import Look, admit
from elicense.view.person import PersonIndex


class Answering(Protocol):
    """What a node knows of licences: the national view, or one city's and the way to the rest."""

    async def answer(self, look: Look, queries: Sequence[pb.LicenseQuery]) -> Answers:
        """Return one verdict a query, in order.

        Raises:
            StoreUnavailable: The database is away.
        """


class Answers:
    """Verdicts, and which of them this node gave itself.

    Args:
        verdicts: One a query, in order.
        own: For each, whether this node judged it, and so must record the look; what was
            forwarded is recorded by the registry.
    """

    __slots__ = ("own", "verdicts")

    def __init__(self, verdicts: Sequence[pb.Verdict], own: Sequence[bool]) -> None:
        self.verdicts = verdicts
        self.own = own


class VerificationServicer(verification_pb2_grpc.VerificationServiceServicer):
    """Thin servicer over an :class:`Answering`.

    Args:
        answering: Judges queries.
        recorder: Makes each look durable before it is answered.
        subjects: Computes the tags by which access logs name persons, the same on every node.
        clock: UTC microseconds.
    """

    def __init__(
        self, *, answering: Answering, recorder: AccessRecorder, subjects: PersonIndex, clock: Callable[[], int]
    ) -> None:
        self._answering = answering
        self._recorder = recorder
        self._subjects = subjects
        self._clock = clock

    async def VerifyLicense(self, request: pb.VerifyLicenseRequest, context: Any) -> pb.VerifyLicenseResponse:
        """Verify one licence; see the proto."""
        look = admit(current_caller(), request.context, [("query", request.query)])
        answers = await self._answer("VerifyLicense", look, [request.query])
        return pb.VerifyLicenseResponse(verdict=answers.verdicts[0])

    async def BatchVerifyLicenses(
        self, request: pb.BatchVerifyLicensesRequest, context: Any
    ) -> pb.BatchVerifyLicensesResponse:
        """Verify many licences with one look; see the proto."""
        named = [(f"queries[{position}]", query) for position, query in enumerate(request.queries)]
        look = admit(current_caller(), request.context, named)
        answers = await self._answer("BatchVerifyLicenses", look, request.queries)
        return pb.BatchVerifyLicensesResponse(verdicts=answers.verdicts)

    async def _answer(self, method: str, look: Look, queries: Sequence[pb.LicenseQuery]) -> Answers:
        for query in queries:
            query.document.number = normalize_number(query.document.number)
        answers = await self._answering.answer(look, queries)
        seen = [
            (query, verdict) for query, verdict, own in zip(queries, answers.verdicts, answers.own, strict=True) if own
        ]
        if seen:
            await self._recorder.record(
                AccessEntry(
                    at_us=self._clock(),
                    caller=look.verifier,
                    via=look.via,
                    role=look.role.value,
                    purpose=int(look.purpose),
                    case_number=look.case_number,
                    method=method,
                    subjects=b"".join(
                        self._subjects.person_key(query.document.type, query.document.number) for query, _ in seen
                    ),
                    outcomes=bytes(verdict.outcome for _, verdict in seen),
                )
            )
        return answers
