"""The registry's access log, put together: its own looks, those of the cities, their index and their lists."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from prometheus_client import CollectorRegistry

from elicense.access.alarms import AccessAlarms
from elicense.access.entry import DAY_US
from elicense.access.housekeeping import Housekeeper
from elicense.access.recorder import AccessRecorder
from elicense.access.reserve import AccessReserve
from elicense.access.retention import REGISTRY_DAYS
from elicense.sql.database import Database
from elicense.workers.place import Place
from registry.access_index import AccessIndex
from registry.access_intake import AccessIntake
from registry.access_list import AccessList
from registry.config import RegistryConfig
from registry.store import RegistryStore, access_store

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
        metrics: Where alarms are counted.
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
        self._database = Database(config.access_log.url)
        self._store = access_store()
        self._reserve = AccessReserve(place.file(config.reserve_path))
        alarms = AccessAlarms(metrics)
        self.recorder = AccessRecorder(
            database=self._database,
            store=self._store.looks,
            node=place.named(_NODE_NAME),
            clock=clock,
            reserve=self._reserve,
            alarms=alarms,
        )
        self.intake = AccessIntake(database=self._database, store=self._store)
        self.lists = AccessList(
            database=self._database,
            store=self._store,
            registry=registry,
            registry_store=store,
            token_key=token_key,
            clock=clock,
        )
        self.index = AccessIndex(
            database=self._database, store=self._store, recorder=self.recorder, alarms=alarms, clock=clock, leads=leads
        )
        self._housekeeper = Housekeeper([self.recorder.drain, self._drop_old, self._do_chores])

    def start(self) -> None:
        """Begin to index and to do the chores."""
        self.index.start()
        self._housekeeper.start()

    async def close(self) -> None:
        """Wait for looks that were accepted, and close everything."""
        await self._housekeeper.close()
        await self.index.close()
        await self.recorder.close()
        self._reserve.close()
        await asyncio.to_thread(self._database.close)

    async def _do_chores(self) -> None:
        if self._leads():
            for chore in self._chores:
                await chore()

    async def _drop_old(self) -> None:
        if not self._leads():
            return
        day = self._clock() // DAY_US - REGISTRY_DAYS
        await self._database.write(lambda conn: self._store.drop_before(conn, day))
