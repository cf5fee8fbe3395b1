"""OversightService: parse, call, reply."""

from __future__ import annotations

from typing import Any

from elicense.clock import to_timestamp
from elicense.rpc.context import current_caller
from elicense.v1 import oversight_pb2 as pb
from elicense.v1 import oversight_pb2_grpc
from registry.disputes import Disputes
from registry.quarantine_model import Quarantine


class OversightServicer(oversight_pb2_grpc.OversightServiceServicer):
    """Thin servicer over :class:`~registry.disputes.Disputes`.

    Args:
        disputes: Keeps the quarantines.
    """

    def __init__(self, disputes: Disputes) -> None:
        self._disputes = disputes

    async def ListQuarantines(self, request: pb.ListQuarantinesRequest, context: Any) -> pb.ListQuarantinesResponse:
        """List the quarantines; see the proto."""
        return pb.ListQuarantinesResponse(quarantines=map(_message, await self._disputes.all()))

    async def GetEvidence(self, request: pb.GetEvidenceRequest, context: Any) -> pb.GetEvidenceResponse:
        """Read evidence; see the proto."""
        return pb.GetEvidenceResponse(body=await self._disputes.evidence(request.city, request.digest))

    async def AskRelease(self, request: pb.AskReleaseRequest, context: Any) -> pb.Quarantine:
        """Ask for the end of a quarantine; see the proto."""
        return _message(await self._disputes.ask_release(request.city, str(current_caller().spiffe_id)))

    async def ApproveRelease(self, request: pb.ApproveReleaseRequest, context: Any) -> pb.Quarantine:
        """End a quarantine as a second operator; see the proto."""
        return _message(await self._disputes.approve_release(request.city, str(current_caller().spiffe_id)))


def _message(held: Quarantine) -> pb.Quarantine:
    message = pb.Quarantine(
        city=held.city,
        epoch=held.epoch,
        kind=held.kind,  # type: ignore[arg-type]  # same numbers
        state=held.state,  # type: ignore[arg-type]  # same numbers
        size=held.size,
        evidence_digest=held.digest,
        open_time=to_timestamp(held.opened_us),
        asked_by=held.asked_by,
        ended_by=held.ended_by,
    )
    if held.ended_us:
        message.end_time.CopyFrom(to_timestamp(held.ended_us))
    return message
