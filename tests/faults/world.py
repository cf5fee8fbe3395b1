"""The nation under attack: a registry and three cities as processes, each reached through a proxy that can fail.

Suzhou keeps its log in SQLite, Chengdu in PostgreSQL; both are attacked.  The registry is on either.
Tianjin is left in peace: what it feels of the others' trouble is a figure.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import grpc

from city_node.config import CityConfig
from city_node.store import CityStore
from elicense.rpc.channel import secure_channel
from elicense.sql.database import Database
from elicense.trust.credentials import Credentials
from elicense.v1 import issuance_pb2_grpc
from registry.config import RegistryConfig
from registry.store import RegistryStore
from tests.faults.processes import DEADLINE_S, Nursery, Process, SteppingClock, running_nursery
from tests.support.cluster import CHENGDU, SUZHOU, TIANJIN, Cluster
from tests.support.ports import HeldPorts
from tests.support.proxy import Proxy, running_proxy

__all__ = ["CHENGDU", "SUZHOU", "TIANJIN", "CityNode", "Node", "Stores", "World", "running_world"]

C = TypeVar("C", RegistryConfig, CityConfig)


@dataclass
class Node:
    """One node of the nation.

    Attributes:
        side: ``registry`` or ``city``.
        folder: Its data folder.
        clock: How far its clock is off.
        process: Its process; the last one, if it has ended.
        storage: The way to its PostgreSQL; None for SQLite.
        database_url: Its database without the proxy before it, for whoever looks from outside.
        pragmas: What SQLite is told there beside what the product tells it.
    """

    side: str
    folder: Path
    nursery: Nursery
    clock: SteppingClock
    process: Process | None = None
    storage: Proxy | None = field(default=None, kw_only=True)
    database_url: str = field(kw_only=True)
    pragmas: tuple[str, ...] = ()

    @property
    def running(self) -> Process:
        assert self.process is not None
        return self.process

    def configuration(self) -> str:
        raise NotImplementedError

    async def start(self) -> None:
        self.process = await self.nursery.serve(
            self.side,
            self.configuration(),
            clock=self.clock,
            log=self.folder.with_suffix(".log"),
            pragmas=self.pragmas,
        )

    async def kill(self) -> None:
        await self.running.kill()

    async def stop(self) -> None:
        """End it in order."""
        self.running.terminate()
        await self.running.wait()

    async def restart(self) -> None:
        await self.kill()
        await self.start()


@dataclass
class RegistryNode(Node):
    config: RegistryConfig = field(kw_only=True)

    def configuration(self) -> str:
        return self.config.model_dump_json()

    @property
    def address(self) -> tuple[str, int]:
        host, _, port = self.config.node.listen.rpartition(":")
        return host, int(port)


@dataclass
class CityNode(Node):
    """A city.

    Attributes:
        code: Division code.
        config: Its configuration.
        clerk: Who issues there.
        upstream: The way to the registry.
    """

    code: int = field(kw_only=True)
    config: CityConfig = field(kw_only=True)
    clerk: Credentials = field(kw_only=True)
    upstream: Proxy = field(kw_only=True)

    def configuration(self) -> str:
        return self.config.model_dump_json()

    def line(self) -> Line:
        """Return a connection of a caller's own."""
        return Line(self)

    @property
    def parent(self) -> str:
        return f"cities/{self.code}"


@dataclass
class Line:
    """A connection of one caller to a city."""

    city: CityNode
    _channel: grpc.aio.Channel | None = None

    def stub(self) -> issuance_pb2_grpc.IssuanceServiceStub:
        if self._channel is None:
            city = self.city
            self._channel = secure_channel(city.clerk, address=city.config.node.listen, retries=False, local_pool=True)
        return issuance_pb2_grpc.IssuanceServiceStub(self._channel)

    async def hang_up(self) -> None:
        """Give up the channel: one that lost its server waits before it tries again, a new one does not."""
        channel, self._channel = self._channel, None
        if channel is not None:
            await channel.close()


@dataclass
class World:
    """See :func:`running_world`.

    Attributes:
        folder: Where everything lies.
        cluster: Who enrols whom, while the registry runs.
        registry: The registry.
        cities: The cities by division code.
        police: Police who ask the registry.
        city_police: Police who ask Tianjin.
    """

    folder: Path
    nursery: Nursery
    cluster: Cluster
    registry: RegistryNode
    cities: dict[int, CityNode]
    police: Credentials
    city_police: Credentials
    #: Databases that are only looked at; opened once.
    _looking: dict[str, Database] = field(default_factory=dict)

    @property
    def suzhou(self) -> CityNode:
        return self.cities[SUZHOU]

    @property
    def tianjin(self) -> CityNode:
        return self.cities[TIANJIN]

    @property
    def chengdu(self) -> CityNode:
        return self.cities[CHENGDU]

    def look(self, url: str) -> Database:
        """Return a database to read from beside the process that owns it."""
        if url not in self._looking:
            self._looking[url] = Database(url, readers=1)
        return self._looking[url]

    def look_away(self, url: str) -> None:
        """Close it: its file is about to be copied or replaced.

        Closing any descriptor of a file drops every lock that this process has
        on it, so whoever copies an open database leaves SQLite without locks.
        """
        held = self._looking.pop(url, None)
        if held is not None:
            held.close()

    def sizes(self, city: CityNode) -> tuple[int, int]:
        """Return how many entries of a city's newest epoch the city and the registry hold."""

        def size(url: str, store: CityStore | RegistryStore) -> int:
            def read(conn: object) -> int:
                keys = [key for key in store.logs.keys(conn) if key.log == city.code]  # type: ignore[arg-type]
                head = store.logs.head(conn, max(keys)) if keys else None  # type: ignore[arg-type]
                return 0 if head is None else head.size

            return self.look(url).read_now(read)

        return size(city.database_url, CityStore()), size(self.registry.database_url, RegistryStore())

    async def caught_up(self, city: CityNode, *, deadline_s: float = DEADLINE_S) -> float:
        """Wait until the registry holds all that a city holds; return how long that took, seconds."""
        started = time.perf_counter()
        async with asyncio.timeout(deadline_s):
            while True:
                ours, theirs = await asyncio.to_thread(self.sizes, city)
                if ours == theirs:
                    return time.perf_counter() - started
                await asyncio.sleep(0.02)

    async def close(self) -> None:
        for database in self._looking.values():
            await asyncio.to_thread(database.close)


@dataclass(frozen=True, slots=True)
class Stores:
    """Databases on a PostgreSQL, each empty; whoever has none keeps its log in SQLite.

    Attributes:
        socket: Unix socket of the server, for the proxies before it.
        chengdu: URL of Chengdu's; None leaves Chengdu out.
        registry: URL of the registry's.
    """

    socket: str = ""
    chengdu: str | None = None
    registry: str | None = None


@asynccontextmanager
async def running_world(folder: Path, stores: Stores) -> AsyncIterator[World]:
    """Enrol a registry and its cities, then run each as a process of its own.

    Args:
        folder: An empty folder.
        stores: Who is on PostgreSQL.
    """
    async with AsyncExitStack() as stack:
        yield await _world(folder, stack, stores)


async def _world(folder: Path, stack: AsyncExitStack, stores: Stores) -> World:
    ports = stack.enter_context(HeldPorts())
    cluster = Cluster(folder, ports=ports, database_url=stores.registry)
    await cluster.start_registry()
    wanted = {SUZHOU: None, TIANJIN: None} | ({} if stores.chengdu is None else {CHENGDU: stores.chengdu})
    for code, url in wanted.items():
        await cluster.add_city(code, database_url=url)
    police = await cluster.enroll_national(("verifier", "police", "highway"), folder / "police")
    local = ("city", str(TIANJIN), "verifier", "police", "tianjin")
    city_police = await cluster.enroll_at(cluster.cities[TIANJIN], local, folder / "city-police")
    await cluster.close()
    nursery = await stack.enter_async_context(running_nursery(folder))

    async def through_proxy(config: C, url: str | None) -> tuple[C, Proxy | None]:
        if url is None:
            return config, None
        storage = await stack.enter_async_context(running_proxy(stores.socket))
        section = config.database.model_copy(update={"url": _through(config.database.url, storage.port)})
        return config.model_copy(update={"database": section}), storage

    config, storage = await through_proxy(cluster.registry_config, stores.registry)
    registry = RegistryNode(
        "registry",
        folder / "registry",
        nursery,
        SteppingClock(folder / "registry.clock"),
        config=config,
        storage=storage,
        database_url=cluster.registry_config.database.url,
    )
    cities: dict[int, CityNode] = {}
    for code, joined in cluster.cities.items():
        upstream = await stack.enter_async_context(running_proxy(registry.address))
        reached = joined.config.city.model_copy(update={"registry_address": f"127.0.0.1:{upstream.port}"})
        city_config, storage = await through_proxy(joined.config.model_copy(update={"city": reached}), wanted[code])
        cities[code] = CityNode(
            "city",
            joined.folder,
            nursery,
            SteppingClock(folder / f"{code}.clock"),
            code=code,
            config=city_config,
            clerk=joined.clerk_credentials,
            upstream=upstream,
            storage=storage,
            database_url=joined.config.database_url,
        )
    world = World(folder, nursery, cluster, registry, cities, police, city_police)
    stack.push_async_callback(world.close)
    for node in (registry, *cities.values()):
        await node.start()
    return world


def _through(url: str, port: int) -> str:
    """Return a database URL that goes by TCP to a proxy instead of to a Unix socket."""
    return f"{url.partition('?')[0].replace('@/', f'@127.0.0.1:{port}/')}"
