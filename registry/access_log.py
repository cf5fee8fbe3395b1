"""The registry's access log, put together: its own looks, those of the cities, their index and their lists."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from prometheus_client import CollectorRegistry

from elicense.access.alarms import AccessAlarms
from elicense.access.entry import DAY_US, AccessPosition
from elicense.access.housekeeping import Housekeeper
from elicense.access.process_log import ProcessLog, former_processes, process_url
from elicense.access.recorder import AccessRecorder
from elicense.access.reserve import AccessReserve
from elicense.access.retention import REGISTRY_DAYS
from elicense.access.shipping import from_shipped
from elicense.access.shipping_metrics import ShippingMetrics
from elicense.clock import from_timestamp
from elicense.sql.database import Database
from elicense.v1 import replication_pb2
from elicense.workers.place import Place
from registry.access_index import AccessIndex
from registry.access_intake import AccessIntake
from registry.access_list import AccessList
from registry.config import RegistryConfig
from registry.store import RegistryStore, access_metadata, access_store

#: Name of the registry in the access log.
_NODE_NAME: Final = "registry"


class AccessLog:
    """Who looked at whom, on the registry.

    Args:
        config: The registry's configuration.
        registry: The registry's database, which knows the cities.
        store: Its tables.
        token_key: Secret that binds page tokens to their list.
        chores: Further chores of the node, done along with the log's own.
        metrics: Where alarms and delays are shown.
        clock: UTC microseconds.
        place: Which of the registry's processes this is.
        leads: Whether this process does what is to be done once.

    Attributes:
        recorder: Makes looks durable.
        intake: Takes in the looks of cities.
        lists: Shows holders who looked.
        index: The index by subject.
    """

    def __init__(
        self,
        *,
        config: RegistryConfig,
        registry: Database,
        store: RegistryStore,
        token_key: bytes,
        chores: Sequence[Callable[[], Awaitable[None]]],
        metrics: CollectorRegistry,
        clock: Callable[[], int],
        place: Place,
        leads: Callable[[], bool],
    ) -> None:
        self._clock = clock
        self._leads = leads
        self._chores = tuple(chores)
        url, alarms = config.access_log.url, AccessAlarms(metrics)
        shipping = ShippingMetrics(registry=metrics, clock=clock)
        self._database = Database(url)
        self._store = access_store()
        self.intake = AccessIntake(database=self._database, store=self._store)
        # Files whose looks are to move into the common one: this process's own, or those of some that are no more.
        self._logs = [
            ProcessLog(
                url=own,
                store=self._store.looks,
                node=each.named(_NODE_NAME),
                reserve=each.file(config.reserve_path),
                alarms=alarms,
                metrics=shipping,
                clock=clock,
                send=self._take,
            )
            for each in (place, *former_processes(url, place))
            if (own := process_url(url, each, access_metadata)) != url
        ]
        self._reserve: AccessReserve | None = None
        common: AccessRecorder | None = None
        if place.main or not self._logs:
            self._reserve = AccessReserve(place.file(config.reserve_path))
            common = AccessRecorder(
                database=self._database,
                store=self._store.looks,
                node=place.named(_NODE_NAME),
                clock=clock,
                reserve=self._reserve,
                alarms=alarms,
            )
        self._common = common
        self.recorder = self._logs[0].recorder if common is None else common
        self.lists = AccessList(
            database=self._database,
            store=self._store,
            registry=registry,
            registry_store=store,
            token_key=token_key,
            clock=clock,
        )
        self.index = AccessIndex(
            database=self._database, store=self._store, recorder=common, alarms=alarms, clock=clock, leads=leads
        )
        drains = [log.housekeep for log in self._logs] if common is None else [common.drain]
        self._housekeeper = Housekeeper([*drains, self._drop_old, self._do_chores])

    def start(self) -> None:
        """Begin to index and to do the chores."""
        for log in self._logs:
            log.start()
        self.index.start()
        self._housekeeper.start()

    async def close(self) -> None:
        """Wait for looks that were accepted, and close everything."""
        await self._housekeeper.close()
        await self.index.close()
        for log in self._logs:
            await log.close()
        if self._common is not None:
            await self._common.close()
        if self._reserve is not None:
            self._reserve.close()
        await asyncio.to_thread(self._database.close)

    async def _take(self, request: replication_pb2.ShipAccessesRequest) -> AccessPosition:
        """Move looks of another file into the common one."""
        return await self.intake.take(
            node=request.node,
            city=0,
            looks=[from_shipped(request.node, access) for access in request.accesses],
            complete_us=from_timestamp(request.complete_until) if request.HasField("complete_until") else 0,
        )

    async def _do_chores(self) -> None:
        if self._leads():
            for chore in self._chores:
                await chore()

    async def _drop_old(self) -> None:
        if not self._leads():
            return
        day = self._clock() // DAY_US - REGISTRY_DAYS
        await self._database.write(lambda conn: self._store.drop_before(conn, day))
