"""RecoveryService: take the city from the certificate, call, reply."""

from __future__ import annotations

from typing import Any

from elicense.log.model import CheckpointRow, LogKey, StoredEntry
from elicense.rpc.context import current_caller
from elicense.v1 import log_pb2, recovery_pb2_grpc
from elicense.v1 import recovery_pb2 as pb
from registry.epochs import HeldLogs, OpenEpoch, check_key
from registry.given_back import GivenBack
from registry.mirrored import OwnPages
from registry.replication import DecisionLog
from registry.services.replication import own_city


class RecoveryServicer(recovery_pb2_grpc.RecoveryServiceServicer):
    """Thin servicer over :mod:`registry.epochs`.

    Args:
        held: Reads what is held of cities' logs.
        own: Reads the registry's own log.
        given_back: Takes back what the database lost of it.
        log: Writes the registry's own decisions.
        trust_domain: Prefix of log origins.
    """

    def __init__(
        self, *, held: HeldLogs, own: OwnPages, given_back: GivenBack, log: DecisionLog, trust_domain: str
    ) -> None:
        self._held = held
        self._own = own
        self._given_back = given_back
        self._log = log
        self._trust_domain = trust_domain

    async def ListEpochs(self, request: pb.ListEpochsRequest, context: Any) -> pb.ListEpochsResponse:
        """List the caller's epochs; see the proto."""
        epochs = await self._held.epochs(own_city(current_caller()))
        return pb.ListEpochsResponse(
            epochs=[
                pb.EpochState(epoch=each.epoch, log_verifier_key=each.log_key, size=each.size, receipt=each.receipt)
                for each in epochs
            ]
        )

    async def ReadLog(self, request: pb.ReadLogRequest, context: Any) -> pb.ReadLogResponse:
        """Read the caller's log; see the proto."""
        page = await self._held.page(LogKey(own_city(current_caller()), request.epoch), request.first_index)
        return pb.ReadLogResponse(
            entries=map(_entry, page.entries),
            heads=map(_head, page.heads),
        )

    async def ListEmptiedSlots(self, request: pb.ListEmptiedSlotsRequest, context: Any) -> pb.ListEmptiedSlotsResponse:
        """List the caller's emptied slots; see the proto."""
        key = LogKey(own_city(current_caller()), request.epoch)
        indices, next_index = await self._held.emptied(key, request.first_index)
        return pb.ListEmptiedSlotsResponse(indices=indices, next_index=next_index)

    async def ReadRegistryLog(self, request: pb.ReadRegistryLogRequest, context: Any) -> pb.ReadRegistryLogResponse:
        """Read the registry's own log; see the proto."""
        own = await self._own.read(request.epoch, request.first_index, wanted=request.evidence_wanted)
        return pb.ReadRegistryLogResponse(
            entries=map(_entry, own.page.entries),
            heads=map(_head, own.page.heads),
            head=own.head,
            open_epoch=own.open_epoch,
            evidence=own.evidence,
            evidence_wanted=own.lacks,
        )

    async def OpenEpoch(self, request: pb.OpenEpochRequest, context: Any) -> pb.OpenEpochResponse:
        """Open the caller's next epoch; see the proto."""
        caller = current_caller()
        command = OpenEpoch(
            city=own_city(caller),
            actor=str(caller.spiffe_id),
            epoch=request.epoch,
            log_key=request.log_verifier_key,
            closed_size=request.closed_size,
            closed_root=request.closed_root,
        )
        check_key(command, request.log_possession_note, trust_domain=self._trust_domain)
        await self._log.open_epoch(command)
        return pb.OpenEpochResponse(epoch=command.epoch)

    async def ReturnRegistryLog(
        self, request: pb.ReturnRegistryLogRequest, context: Any
    ) -> pb.ReturnRegistryLogResponse:
        """Take back what a city mirrored; see the proto."""
        size = await self._given_back.take(
            request.epoch, request.first_index, request, request.head, evidence=request.evidence
        )
        return pb.ReturnRegistryLogResponse(size=size)


def _entry(entry: StoredEntry) -> log_pb2.LogEntry:
    if entry.record is None or entry.salt is None:
        return log_pb2.LogEntry(leaf_hash=entry.leaf_hash)
    return log_pb2.LogEntry(record=entry.record, salt=entry.salt)


def _head(row: CheckpointRow) -> pb.SignedHead:
    return pb.SignedHead(size=row.size, note=row.note, cosigned=row.cosigned)
