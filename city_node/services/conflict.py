"""ConflictService on a city node: pass clerks' calls on to the registry, and check what it shows as proof."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeVar

import grpc

from city_node.registry_faults import as_registry_fault
from elicense.errors import DataLoss, Error
from elicense.log.checkpoint import parse_checkpoint
from elicense.log.merkle import verify_inclusion
from elicense.log.note import open_note
from elicense.log.verifier_key import VerifierKey
from elicense.rpc.context import current_caller
from elicense.rpc.errors import from_rpc_error
from elicense.v1 import conflict_pb2 as pb
from elicense.v1 import conflict_pb2_grpc

T = TypeVar("T")

#: A clerk waits at the counter.
REGISTRY_SECONDS: Final = 10.0


class ConflictServicer(conflict_pb2_grpc.ConflictServiceServicer):
    """Thin servicer over the registry's service of the same name.

    Args:
        stub: The registry's ConflictService.
        cosigner: Key of the registry's receipts.
        wake: Has the city ask soon for what followed from its word.
    """

    def __init__(
        self, *, stub: conflict_pb2_grpc.ConflictServiceStub, cosigner: VerifierKey, wake: Callable[[], None]
    ) -> None:
        self._stub = stub
        self._cosigner = cosigner
        self._wake = wake

    async def ListConflicts(self, request: pb.ListConflictsRequest, context: Any) -> pb.ListConflictsResponse:
        """List this city's conflicts; see the proto."""
        return await _asked(self._stub.ListConflicts(request, timeout=REGISTRY_SECONDS))

    async def GetConflict(self, request: pb.GetConflictRequest, context: Any) -> pb.Conflict:
        """Read one conflict, its proofs checked; see the proto."""
        return self._checked(await _asked(self._stub.GetConflict(request, timeout=REGISTRY_SECONDS)))

    async def StatePosition(self, request: pb.StatePositionRequest, context: Any) -> pb.StatePositionResponse:
        """State this city's position; see the proto."""
        request.clerk = str(current_caller().spiffe_id)
        response: pb.StatePositionResponse = await _asked(self._stub.StatePosition(request, timeout=REGISTRY_SECONDS))
        self._wake()
        self._checked(response.conflict)
        return response

    def _checked(self, conflict: pb.Conflict) -> pb.Conflict:
        for side in (conflict.counting, conflict.waiting):
            if side.HasField("proof"):
                check_side(side, self._cosigner)
        return conflict


def check_side(side: pb.ConflictSide, cosigner: VerifierKey) -> None:
    """Check that one side's entry stands in its city's log, by the registry's own receipt.

    Raises:
        DataLoss: It does not, or the receipt is not the registry's.
    """
    where = side.proof.position
    try:
        checkpoint = parse_checkpoint(open_note(side.proof.checkpoint, (cosigner,)).text)
        verify_inclusion(
            leaf_hash=side.entry_hash,
            index=where.index,
            size=checkpoint.size,
            proof=list(side.proof.hashes),
            root=checkpoint.root,
        )
    except Error as error:
        raise DataLoss("the registry's proof of a side of the conflict does not hold; tell its operator") from error
    if not checkpoint.origin.endswith(f"/city/{where.city}/{where.epoch}"):
        raise DataLoss("the registry's proof of a side of the conflict is of another log; tell its operator")


async def _asked(pending: Awaitable[T]) -> T:
    try:
        return await pending
    except grpc.RpcError as error:
        raise as_registry_fault(from_rpc_error(error)) from error
