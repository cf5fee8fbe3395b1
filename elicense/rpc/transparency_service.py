"""The transparency service over gRPC, the same on the registry and on every city node."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from elicense.log.model import LogKey
from elicense.rpc.context import current_caller
from elicense.trust.roles import LATEST_HEADS
from elicense.v1 import log_pb2, transparency_pb2_grpc
from elicense.v1 import transparency_pb2 as pb

if TYPE_CHECKING:
    from elicense.log.transparency import Transparency

SERVICE_NAME = pb.DESCRIPTOR.services_by_name["TransparencyService"].full_name


class TransparencyServicer(transparency_pb2_grpc.TransparencyServiceServicer):
    """Adapter of :class:`~elicense.log.transparency.Transparency`.

    Args:
        transparency: Reads heads and proofs.
    """

    def __init__(self, transparency: Transparency) -> None:
        self._transparency = transparency

    async def ListLogs(self, request: pb.ListLogsRequest, context: Any) -> pb.ListLogsResponse:
        """List the logs that are shown; see the proto."""
        shown = await self._transparency.logs()
        return pb.ListLogsResponse(
            logs=[
                pb.LogDescription(
                    log=pb.LogName(city=log.key.log, epoch=log.key.epoch),
                    origin=log.origin,
                    verifier_key=log.verifier_key,
                )
                for log in shown
            ]
        )

    async def GetCheckpoint(self, request: pb.GetCheckpointRequest, context: Any) -> pb.GetCheckpointResponse:
        """Read a signed head; see the proto."""
        size = request.size if request.HasField("size") else None
        note = await self._transparency.checkpoint(_key(request.log), size=size, latest=_latest())
        return pb.GetCheckpointResponse(checkpoint=note)

    async def GetInclusionProof(
        self, request: pb.GetInclusionProofRequest, context: Any
    ) -> pb.GetInclusionProofResponse:
        """Prove an entry; see the proto."""
        leaf_hash, hashes = await self._transparency.inclusion(
            _key(request.log), request.index, request.size, latest=_latest()
        )
        return pb.GetInclusionProofResponse(leaf_hash=leaf_hash, hashes=hashes)

    async def GetConsistencyProof(
        self, request: pb.GetConsistencyProofRequest, context: Any
    ) -> pb.GetConsistencyProofResponse:
        """Prove that one head follows another; see the proto."""
        hashes = await self._transparency.consistency(
            _key(request.log), request.first, request.second, latest=_latest()
        )
        return pb.GetConsistencyProofResponse(hashes=hashes)

    async def ListEntries(self, request: pb.ListEntriesRequest, context: Any) -> pb.ListEntriesResponse:
        """List leaf hashes; see the proto."""
        hashes = await self._transparency.leaf_hashes(
            _key(request.log), request.first_index, request.page_size, latest=_latest()
        )
        return pb.ListEntriesResponse(leaf_hashes=b"".join(hashes))

    async def GetHeadVector(self, request: pb.GetHeadVectorRequest, context: Any) -> pb.GetHeadVectorResponse:
        """Read the latest vector of city heads; see the proto."""
        shown = await self._transparency.vector()
        position = log_pb2.LogPosition(city=shown.key.log, epoch=shown.key.epoch, index=shown.entry.index)
        return pb.GetHeadVectorResponse(
            entry=log_pb2.LogEntry(record=shown.entry.record or b"", salt=shown.entry.salt or b""),
            proof=log_pb2.InclusionProof(position=position, checkpoint=shown.checkpoint, hashes=shown.hashes),
        )


def _key(log: pb.LogName) -> LogKey:
    return LogKey(log.city, log.epoch)


def _latest() -> bool:
    return current_caller().role in LATEST_HEADS
