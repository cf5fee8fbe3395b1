"""VerificationService on any node: parse, admit, look, reply."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Iterable
from contextlib import aclosing
from typing import Any

from elicense.rpc.context import current_caller
from elicense.rpc.looks import Looks
from elicense.v1 import verification_pb2 as pb
from elicense.v1 import verification_pb2_grpc
from elicense.verification.look import Admission


class VerificationServicer(verification_pb2_grpc.VerificationServiceServicer):
    """Thin servicer over :class:`~elicense.rpc.looks.Looks`.

    Args:
        looks: Answers looks that have been admitted.
    """

    def __init__(self, looks: Looks) -> None:
        self._looks = looks
        self._admission = Admission()

    async def VerifyLicense(self, request: pb.VerifyLicenseRequest, context: Any) -> pb.VerifyLicenseResponse:
        """Verify one licence; see the proto."""
        named = [("query", request.query)]
        look = self._admission.admit(current_caller(), request.context, named, with_record=request.with_record)
        answers = await self._looks.make("VerifyLicense", look, [request.query], self._looks.wish(request))
        if answers.record is None and not answers.evidence:
            return pb.VerifyLicenseResponse(verdict=answers.verdicts[0])
        return pb.VerifyLicenseResponse(
            verdict=answers.verdicts[0],
            record=answers.record,
            evidence=answers.evidence[0] if answers.evidence else None,
        )

    async def BatchVerifyLicenses(
        self, request: pb.BatchVerifyLicensesRequest, context: Any
    ) -> pb.BatchVerifyLicensesResponse:
        """Verify many licences with one look; see the proto."""
        look = self._admission.admit(current_caller(), request.context, _named(request.queries))
        answers = await self._looks.make("BatchVerifyLicenses", look, request.queries, self._looks.wish(request))
        return pb.BatchVerifyLicensesResponse(verdicts=answers.verdicts, evidence=answers.evidence)

    async def StreamVerifyLicenses(
        self, requests: AsyncIterator[pb.StreamVerifyLicensesRequest], context: Any
    ) -> AsyncGenerator[pb.StreamVerifyLicensesResponse, None]:
        """Verify chunk after chunk, each a look of its own; see the proto."""
        async for request in requests:
            look = self._admission.admit(current_caller(), request.context, _named(request.queries))
            answers = await self._looks.make("StreamVerifyLicenses", look, request.queries)
            yield pb.StreamVerifyLicensesResponse(verdicts=answers.verdicts)

    async def WatchLicense(
        self, request: pb.WatchLicenseRequest, context: Any
    ) -> AsyncGenerator[pb.WatchLicenseResponse, None]:
        """Follow one licence; see the proto."""
        look = self._admission.admit(current_caller(), request.context, [("query", request.query)])
        async with aclosing(self._looks.follow("WatchLicense", look, request.query)) as pushed:
            async for verdict in pushed:
                yield pb.WatchLicenseResponse(verdict=verdict)


def _named(queries: Iterable[pb.LicenseQuery]) -> list[tuple[str, pb.LicenseQuery]]:
    """Return queries with their paths in the request."""
    return [(f"queries[{position}]", query) for position, query in enumerate(queries)]
