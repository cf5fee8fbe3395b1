"""A city node's access log, put together: its looks, their way to the registry, and what is dropped when."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from prometheus_client import CollectorRegistry

from city_node.config import CityConfig
from city_node.shipper import AccessShipper
from city_node.store import access_store
from elicense.access.alarms import AccessAlarms
from elicense.access.housekeeping import Housekeeper
from elicense.access.recorder import AccessRecorder
from elicense.access.reserve import AccessReserve
from elicense.sql.database import Database
from elicense.v1 import replication_pb2_grpc
from elicense.workers.place import Place

HEARTBEATS_PER_IDLE_SHIP: Final = 6
"""A node without new looks tells the registry so only every so many heartbeats."""


class AccessLog:
    """Who looked at whom, on a city node.

    Args:
        config: The node's configuration.
        stub: The registry's ReplicationService.
        chores: Further chores of the node, done along with the log's own.
        metrics: Where alarms are counted.
        clock: UTC microseconds.
        place: Which of the node's processes this is.
        leads: Whether this process does what is to be done once.

    Attributes:
        recorder: Makes looks durable.
    """

    def __init__(
        self,
        *,
        config: CityConfig,
        stub: replication_pb2_grpc.ReplicationServiceStub,
        chores: Sequence[Callable[[], Awaitable[None]]],
        metrics: CollectorRegistry,
        clock: Callable[[], int],
        place: Place,
        leads: Callable[[], bool],
    ) -> None:
        self._leads = leads
        self._chores = tuple(chores)
        self._database = Database(config.access_log_url)
        self._reserve = AccessReserve(place.file(config.reserve_path))
        store = access_store()
        alarms = AccessAlarms(metrics)
        heartbeat_s = config.limits.heartbeat_seconds
        self.recorder = AccessRecorder(
            database=self._database,
            store=store,
            node=place.named(f"city-{config.city.code}"),
            clock=clock,
            reserve=self._reserve,
            alarms=alarms,
        )
        self._shipper = AccessShipper(
            database=self._database,
            store=store,
            recorder=self.recorder,
            stub=stub,
            alarms=alarms,
            clock=clock,
            period_s=heartbeat_s,
            idle_s=heartbeat_s * HEARTBEATS_PER_IDLE_SHIP,
        )
        self._housekeeper = Housekeeper([self.recorder.drain, self._shipper.drop_old, self._do_chores])

    def start(self) -> None:
        """Begin to ship and to do the chores."""
        self._shipper.start()
        self._housekeeper.start()

    async def close(self) -> None:
        """Wait for looks that were accepted, and close everything; what was not shipped waits for the next start."""
        await self._housekeeper.close()
        await self._shipper.close()
        await self.recorder.close()
        self._reserve.close()
        await asyncio.to_thread(self._database.close)

    async def _do_chores(self) -> None:
        if self._leads():
            for chore in self._chores:
                await chore()
