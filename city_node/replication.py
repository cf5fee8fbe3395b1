"""The way of the log to the registry, put together: batches out, receipts back."""

from __future__ import annotations

import random as random_module
from collections.abc import Mapping
from typing import TYPE_CHECKING

from city_node.batches import BatchReader
from city_node.custody import CustodyFeed
from city_node.epochs import RegistryEpochs
from city_node.ground import Ground
from city_node.metrics import ReplicationMetrics
from city_node.own_log import OwnLog
from city_node.receipts import Receipts
from city_node.replicator import Replicator
from city_node.store import EpochKey
from elicense.v1 import recovery_pb2_grpc, replication_pb2_grpc

if TYPE_CHECKING:
    import grpc


class Replication:
    """Carries the log, and keeps what the registry says to it.

    Args:
        ground: What the node stands on.
        own_log: The log.
        epoch_keys: The key of each epoch.
        upstream: Channel to the registry.

    Attributes:
        receipts: What the registry has confirmed.
        replicator: Carries the log.
    """

    def __init__(
        self, ground: Ground, *, own_log: OwnLog, epoch_keys: Mapping[int, EpochKey], upstream: grpc.aio.Channel
    ) -> None:
        database, store, key, epochs = ground.database, ground.store, ground.key, ground.epochs
        self._leads = ground.leads
        self.receipts = Receipts(
            database=database,
            store=store,
            key=key,
            keys=epochs.trusted(epoch_keys, ground.keys.cosigner),
            custody=CustodyFeed(store=store, persons=ground.keys.persons),
            clock=ground.clock,
        )
        self.replicator = Replicator(
            key=key,
            log=own_log.log,
            batches=BatchReader(database=database, store=store, sign=epochs.sign),
            sign_told=epochs.sign_told,
            stub=replication_pb2_grpc.ReplicationServiceStub(upstream),
            opening=RegistryEpochs(
                database=database, store=store, epochs=epochs, stub=recovery_pb2_grpc.RecoveryServiceStub(upstream)
            ),
            receipts=self.receipts,
            comparison=own_log.comparison,
            gate=ground.gate,
            metrics=ReplicationMetrics(registry=ground.metrics, city=ground.city, clock=ground.clock),
            heartbeat_s=ground.config.limits.heartbeat_seconds,
            jitter=random_module.random,
        )

    async def look_at_receipts(self) -> None:
        """Learn what the registry told the process that carries the log, unless this one does."""
        if self._leads():
            return
        before = self.receipts.size
        await self.receipts.load()
        self.replicator.heard_elsewhere(self.receipts.size > before or not self.replicator.backlog)
        await self.replicator.compare_if_due()
