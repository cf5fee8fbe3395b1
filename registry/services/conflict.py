"""ConflictService and ConflictRulingService: parse, call the use case, encode."""

from __future__ import annotations

from typing import Any, Final
from uuid import UUID

from elicense.clock import to_timestamp
from elicense.errors import Malformed, Violation
from elicense.rpc.context import current_caller
from elicense.v1 import conflict_pb2 as pb
from elicense.v1 import conflict_pb2_grpc, log_pb2
from registry.conflict_commands import DecideConflict, StatePosition
from registry.conflict_model import Conflict, Position, Statement
from registry.conflict_view import Conflicts, Shown, Side

#: Conflicts of a page when the caller does not say.
DEFAULT_PAGE: Final = 100


class ConflictServicer(conflict_pb2_grpc.ConflictServiceServicer):
    """Thin servicer over :class:`~registry.conflict_view.Conflicts`."""

    def __init__(self, conflicts: Conflicts) -> None:
        self._conflicts = conflicts

    async def ListConflicts(self, request: pb.ListConflictsRequest, context: Any) -> pb.ListConflictsResponse:
        """List conflicts; see the proto."""
        inbox = await self._conflicts.inbox(
            current_caller().city, settled=request.with_settled, limit=request.page_size or DEFAULT_PAGE
        )
        return pb.ListConflictsResponse(
            conflicts=[_message(shown) for shown in inbox.conflicts],
            open_count=inbox.open,
            overdue_count=inbox.overdue,
        )

    async def GetConflict(self, request: pb.GetConflictRequest, context: Any) -> pb.Conflict:
        """Read one conflict; see the proto."""
        return _message(await self._conflicts.read(_conflict_id(request.name), current_caller().city))

    async def StatePosition(self, request: pb.StatePositionRequest, context: Any) -> pb.StatePositionResponse:
        """Note what a city says; see the proto."""
        caller = current_caller()
        if caller.city is None:
            raise LookupError("the policy table lets cities alone state positions")
        command = StatePosition(
            conflict_id=_conflict_id(request.name),
            city=caller.city,
            license_id=_uuid(request.license, "license") if request.license else b"",
            position=Position(request.position),
            grounds=request.grounds,
            clerk=request.clerk,
            actor=str(caller.spiffe_id),
        )
        return pb.StatePositionResponse(conflict=_message(await self._conflicts.state(command)))


class ConflictRulingServicer(conflict_pb2_grpc.ConflictRulingServiceServicer):
    """Thin servicer over :class:`~registry.conflict_view.Conflicts`."""

    def __init__(self, conflicts: Conflicts) -> None:
        self._conflicts = conflicts

    async def DecideConflict(self, request: pb.DecideConflictRequest, context: Any) -> pb.DecideConflictResponse:
        """Decide a conflict; see the proto."""
        command = DecideConflict(
            conflict_id=_conflict_id(request.name),
            standing=_uuid(request.standing_license, "standing_license"),
            basis=request.basis,
            actor=str(current_caller().spiffe_id),
        )
        return pb.DecideConflictResponse(conflict=_message(await self._conflicts.decide(command)))


def _conflict_id(name: str) -> bytes:
    return _uuid(name.partition("/")[2], "name")


def _uuid(text: str, field: str) -> bytes:
    try:
        return UUID(text).bytes
    except ValueError:
        raise Malformed(
            "the request names no UUID", violations=[Violation(field, "FORM_INVALID", "Give a UUID.")]
        ) from None


def _text(license_id: bytes) -> str:
    return str(UUID(bytes=license_id)) if license_id else ""


def _message(shown: Shown) -> pb.Conflict:
    conflict: Conflict = shown.conflict
    message = pb.Conflict(
        name=f"conflicts/{_text(conflict.license_id)}",
        state=conflict.state,  # type: ignore[arg-type]  # the same numbers
        open_time=to_timestamp(conflict.opened_us),
        deadline_time=to_timestamp(conflict.deadline_us),
        overdue=shown.overdue,
        opened_at=log_pb2.LogPosition(epoch=conflict.registry_epoch, index=conflict.registry_index),
        statements=[_statement(statement) for statement in shown.statements],
        standing_license=_text(conflict.standing_license),
        void_license=_text(conflict.void_license),
        end=conflict.ending,  # type: ignore[arg-type]
        basis=conflict.basis,
    )
    if conflict.decided_us:
        message.decide_time.CopyFrom(to_timestamp(conflict.decided_us))
    for side, into in ((shown.counting, message.counting), (shown.waiting, message.waiting)):
        if side is not None:
            _fill(side, into)
    return message


def _statement(statement: Statement) -> pb.ConflictStatement:
    return pb.ConflictStatement(
        city=statement.city,
        license=_text(statement.license_id),
        position=statement.position,  # type: ignore[arg-type]
        grounds=statement.grounds,
        clerk=statement.clerk,
        state_time=to_timestamp(statement.stated_us),
    )


def _fill(side: Side, message: pb.ConflictSide) -> None:
    where = log_pb2.LogPosition(city=side.place.log, epoch=side.place.epoch, index=side.idx)
    message.city = side.city
    message.license = _text(side.license_id)
    message.position.CopyFrom(where)
    message.entry_hash = side.entry_hash
    message.record_time.CopyFrom(to_timestamp(side.recorded_us))
    message.provisional = side.provisional
    if side.checkpoint:
        proof = log_pb2.InclusionProof(position=where, checkpoint=side.checkpoint, hashes=side.hashes)
        message.proof.CopyFrom(proof)
    if side.entry is not None and side.entry.record is not None and side.entry.salt is not None:
        message.entry.record, message.entry.salt = side.entry.record, side.entry.salt
