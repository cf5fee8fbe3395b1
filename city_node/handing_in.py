"""Giving the registry what the database of a stopped node holds beyond it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import grpc
from prometheus_client import CollectorRegistry

from city_node.batches import BatchReader
from city_node.comparison import Comparison
from city_node.config import CityConfig
from city_node.custody import CustodyFeed
from city_node.epochs import Epochs, RegistryEpochs
from city_node.gate import SigningGate
from city_node.keys import CityKeys
from city_node.metrics import ReplicationMetrics
from city_node.progress import own_head
from city_node.receipts import Receipts
from city_node.replicator import CALL_SECONDS, Replicator
from city_node.store import CityStore
from city_node.verify_only import verify_only_mark
from elicense.errors import EpochNotBound, Quarantined
from elicense.log.anchor import Anchor
from elicense.rpc.errors import from_rpc_error
from elicense.sql.database import Database
from elicense.v1 import recovery_pb2_grpc, replication_pb2, replication_pb2_grpc

_PEOPLE: Final = (
    "whom this city enrolled and revoked stands in the database that is moved aside alone: revoke once more whom a "
    "backup in its place has in force, and without one have all clerks join again"
)


@dataclass(frozen=True, slots=True)
class _OwnLog:
    """The log of a node that does not run: nothing is under way in it."""

    size: int
    clock: Callable[[], int]
    shared: bool = False
    is_urgent: bool = True
    behind_us: int = 0

    async def durable(self) -> tuple[int, int]:
        return self.clock(), self.size

    async def peek(self) -> int:
        return self.size


class HandingIn:
    """Replicates once, for a restore.

    Args:
        config: The node's configuration.
        keys: Its keys.
        database: Its database.
        store: Its tables.
        epochs: Keys and origins by epoch.
        recovery: The registry's RecoveryService.
        replication: Its ReplicationService.
        clock: UTC microseconds.
    """

    def __init__(
        self,
        *,
        config: CityConfig,
        keys: CityKeys,
        database: Database,
        store: CityStore,
        epochs: Epochs,
        recovery: recovery_pb2_grpc.RecoveryServiceStub,
        replication: replication_pb2_grpc.ReplicationServiceStub,
        clock: Callable[[], int],
    ) -> None:
        self._config = config
        self._keys = keys
        self._database = database
        self._store = store
        self._epochs = epochs
        self._recovery = recovery
        self._replication = replication
        self._clock = clock

    async def all(self) -> bool:
        """Give the registry everything that it lacks; return whether it has ended the open epoch for good.

        Raises:
            Quarantined: It takes nothing of this city, or nothing of what the database holds beyond it.
        """
        try:
            await self.carry()
            # What it had lost the registry takes also where it takes nothing more: a call that brings nothing tells.
            await self.carry()
        except Quarantined as error:
            if "released" not in error.metadata:
                raise
            head = await self._database.read(lambda conn: own_head(conn, self._store, self._config.city.code))
            # What it had lost it has taken before it refused the rest.
            epoch, size = await self._held()
            if (head.key.epoch, head.size) != (epoch, size):
                raise Quarantined(
                    "the registry takes nothing more of this epoch, but the database holds more of it; "
                    f"move the database aside, restore again, and have what is lost issued anew; {_PEOPLE}",
                    size=head.size,
                    heldSize=size,
                ) from error
            return True
        return False

    async def _held(self) -> tuple[int, int]:
        """Return epoch and size of what the registry holds."""
        request = replication_pb2.GetReplicationStateRequest()
        try:
            state = await self._replication.GetReplicationState(request, timeout=CALL_SECONDS)
        except grpc.RpcError as error:
            raise from_rpc_error(error) from error
        return state.epoch, state.next_index

    async def carry(self) -> None:
        """Give the registry everything that it lacks, as the running node would.

        Raises:
            EpochNotBound: The registry holds more of an epoch than this city knew when it opened the next one.
            Error: The registry refuses, or did not answer.
        """
        city = self._config.city.code
        head = await self._database.read(lambda conn: own_head(conn, self._store, city))
        known = await self._database.read(lambda conn: self._store.epoch_keys(conn, city))
        # Shut for certain, and its mark a file that the last step takes away: nothing here may open it.
        gate = SigningGate(verify_only_mark(self._config, self._clock))
        receipts = Receipts(
            database=self._database,
            store=self._store,
            key=head.key,
            keys=self._epochs.trusted(known, self._keys.cosigner),
            custody=CustodyFeed(store=self._store, persons=self._keys.persons),
            clock=self._clock,
        )
        await receipts.load()
        anchor = Anchor(self._config.anchor_path, self._epochs.origin(head.key.epoch))
        replicator = Replicator(
            key=head.key,
            log=_OwnLog(head.size, self._clock),
            batches=BatchReader(database=self._database, store=self._store, sign=self._epochs.sign),
            sign_told=self._epochs.sign_told,
            stub=self._replication,
            opening=RegistryEpochs(
                database=self._database, store=self._store, epochs=self._epochs, stub=self._recovery
            ),
            receipts=receipts,
            comparison=Comparison(database=self._database, store=self._store, key=head.key, anchor=anchor, gate=gate),
            gate=gate,
            metrics=ReplicationMetrics(registry=CollectorRegistry(), city=city, clock=self._clock),
            heartbeat_s=1.0,
            jitter=lambda: 0.0,
        )
        try:
            await replicator.catch_up()
        except EpochNotBound as error:
            # A call of the node's last moments was on its way still when the registry was asked what it holds.
            raise EpochNotBound(
                "the registry has got more of the epoch before than this one begins behind; move the database aside, "
                f"restore again, and have what was issued in this epoch, if anything, issued anew; {_PEOPLE}",
                epoch=head.key.epoch,
            ) from error
        finally:
            anchor.close()
