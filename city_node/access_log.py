"""A city node's access log, put together: its looks, their way to the registry, and what is dropped when."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Final

import grpc
from prometheus_client import CollectorRegistry

from city_node.config import CityConfig
from city_node.store import access_metadata, access_store
from elicense.access.alarms import AccessAlarms
from elicense.access.entry import AccessPosition
from elicense.access.housekeeping import Housekeeper
from elicense.access.process_log import ProcessLog, former_processes, process_url
from elicense.access.shipping_metrics import ShippingMetrics
from elicense.rpc.errors import from_rpc_error
from elicense.v1 import replication_pb2, replication_pb2_grpc
from elicense.workers.place import Place

HEARTBEATS_PER_IDLE_SHIP: Final = 6
"""A node without new looks tells the registry so only every so many heartbeats."""

CALL_SECONDS: Final = 30.0


class AccessLog:
    """Who looked at whom, on a city node.

    Args:
        config: The node's configuration.
        stub: The registry's ReplicationService.
        chores: Further chores of the node, done along with the log's own.
        metrics: Where alarms and delays are shown.
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
        self._stub = stub
        self._leads = leads
        self._chores = tuple(chores)
        url, alarms = config.access_log_url, AccessAlarms(metrics)
        shipping = ShippingMetrics(registry=metrics, clock=clock)
        heartbeat_s = config.limits.heartbeat_seconds
        # First this process's own, then those of processes that are no more.
        self._logs = [
            ProcessLog(
                url=process_url(url, each, access_metadata),
                store=access_store(),
                node=each.named(f"city-{config.city.code}"),
                reserve=each.file(config.reserve_path),
                alarms=alarms,
                metrics=shipping,
                clock=clock,
                send=self._send,
                period_s=heartbeat_s,
                idle_s=heartbeat_s * HEARTBEATS_PER_IDLE_SHIP,
            )
            for each in (place, *former_processes(url, place))
        ]
        self.recorder = self._logs[0].recorder
        self._housekeeper = Housekeeper([*(log.housekeep for log in self._logs), self._do_chores])

    def start(self) -> None:
        """Begin to ship and to do the chores."""
        for log in self._logs:
            log.start()
        self._housekeeper.start()

    async def close(self) -> None:
        """Wait for looks that were accepted, and close everything; what was not shipped waits for the next start."""
        await self._housekeeper.close()
        for log in self._logs:
            await log.close()

    async def _send(self, request: replication_pb2.ShipAccessesRequest) -> AccessPosition:
        try:
            answer = await self._stub.ShipAccesses(request, timeout=CALL_SECONDS)
        except grpc.RpcError as error:
            raise from_rpc_error(error) from error
        return AccessPosition(answer.day, answer.sequence)

    async def _do_chores(self) -> None:
        if self._leads():
            for chore in self._chores:
                await chore()
