"""A registry and any number of cities in one process: real gRPC, real mTLS, SQLite in a folder of its own.

Nodes listen on ports that are held for them over a restart, so that an outage is
``await cluster.stop_registry()`` and its end ``await cluster.start_registry()``.
"""

from __future__ import annotations

import asyncio
import secrets
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from datetime import date
from functools import partial
from pathlib import Path
from typing import TypeVar

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

import city_node.app
import city_node.enrollment
import registry.app
import registry.enrollment
from city_node import setup as city_setup
from city_node.config import CityConfig, load_city_config
from city_node.keys import load_keys as load_city_keys
from city_node.node import RunningNode as RunningCity
from city_node.store import CityStore
from elicense.cli.demo.drivers import generate
from elicense.cli.join import join as join_person
from elicense.clock import china_date, utc_micros
from elicense.errors import Error
from elicense.license.codec import license_to_message
from elicense.license.csv_format import parse_row
from elicense.rpc.channel import secure_channel
from elicense.rpc.errors import from_rpc_error
from elicense.sql.database import Database
from elicense.trust.credentials import Credentials
from elicense.trust.enrollment import Enrollment
from elicense.trust.spiffe import SpiffeId, city_id
from elicense.trust.token import format_token
from elicense.v1 import issuance_pb2 as pb
from elicense.v1 import issuance_pb2_grpc, license_pb2, verification_pb2, verification_pb2_grpc
from registry.config import RegistryConfig
from registry.config import load as load_registry_config
from registry.init import Plan, initialize
from registry.keys import load_keys as load_registry_keys
from registry.node import RunningNode as RunningRegistry
from registry.store import RegistryStore
from tests.support.ports import HeldPorts
from tests.support.proxy import Proxy, running_proxy

T = TypeVar("T")

TRUST_DOMAIN = "test.elicense.example"
SUZHOU, TIANJIN, CHENGDU = 320500, 120000, 510100
#: Longer than anything takes on a machine that is slow and busy with other tests, and than any pause before a retry.
DEADLINE_S = 120.0


def drivers(city: int, count: int, *, seed: int = 1, on: date | None = None) -> Iterator[license_pb2.License]:
    """Yield licences that are eligible in ``city``; the same seed gives the same people."""
    day = on or china_date(utc_micros())
    for row, _ in generate(city, count, seed=seed, on=day):
        yield license_to_message(parse_row(row))


async def eventually(holds: Callable[[], Awaitable[T]], *, deadline_s: float = DEADLINE_S) -> T:
    """Ask again until the answer is true; fails only when the deadline of the whole test is over."""
    async with asyncio.timeout(deadline_s):
        while not (answer := await holds()):  # noqa: ASYNC110  # what is waited for is in another process or table
            await asyncio.sleep(0.02)
        return answer


@dataclass
class City:
    """One city of the cluster.

    Attributes:
        code: Division code.
        folder: Its data folder.
        config: Its configuration, with the port that is held for it.
        clerk: Credentials folder of its clerk.
        wire: Its way to the registry, where that is one that can fail.
        node: The node while it runs.
    """

    code: int
    folder: Path
    config: CityConfig
    clerk: Path
    clerk_credentials: Credentials
    wire: Proxy | None = None
    node: RunningCity | None = None
    _channels: list[grpc.aio.Channel] = field(default_factory=list)

    @property
    def parent(self) -> str:
        return f"cities/{self.code}"

    @property
    def running(self) -> RunningCity:
        assert self.node is not None
        return self.node

    def channel(self, credentials: Credentials | None = None) -> grpc.aio.Channel:
        channel = secure_channel(
            credentials or self.clerk_credentials, address=self.running.address, retries=False, local_pool=True
        )
        self._channels.append(channel)
        return channel

    def issuance(self, credentials: Credentials | None = None) -> issuance_pb2_grpc.IssuanceServiceStub:
        return issuance_pb2_grpc.IssuanceServiceStub(self.channel(credentials))

    async def issue(
        self, license_: license_pb2.License, *, request_id: str | None = None, validate_only: bool = False
    ) -> pb.CreateLicenseResponse:
        """Issue over the wire; raises the domain error that the server raised."""
        request = pb.CreateLicenseRequest(
            parent=self.parent,
            license=license_,
            request_id=request_id or str(uuid.uuid4()),
            validate_only=validate_only,
        )
        return await call(self.issuance().CreateLicense(request, timeout=DEADLINE_S))

    async def start(self, clock: Callable[[], int] = utc_micros) -> None:
        self.node = await city_node.app.build(self.config, clock=clock)
        await self.node.start()

    async def stop(self) -> None:
        for channel in self._channels:
            await channel.close()
        self._channels.clear()
        if self.node is not None:
            node, self.node = self.node, None
            await node.stop(grace_s=1)

    async def hears_the_registry(self) -> None:
        """Wait until the registry answers on each way that the node has to it, unless its wire is silent.

        A channel that lost its server waits before it tries again, and meanwhile whatever is asked over it fails.
        """
        if self.node is None or (self.wire is not None and (self.wire.holding or self.wire.refusing)):
            return
        for channel in self.node._parts.channels:
            await eventually(partial(_is_answered, channel))

    async def replicated(self) -> None:
        """Wait until the registry has confirmed everything."""

        async def done() -> bool:
            return self.running.replicator.backlog == 0

        await eventually(done)


async def _is_answered(channel: grpc.aio.Channel) -> bool:
    """Whether there is a server at the other end, whatever it answers."""
    try:
        await health_pb2_grpc.HealthStub(channel).Check(
            health_pb2.HealthCheckRequest(), timeout=DEADLINE_S, wait_for_ready=True
        )
    except grpc.aio.AioRpcError as error:
        return bool(error.code() is not grpc.StatusCode.UNAVAILABLE)
    return True


async def call(pending: Awaitable[T]) -> T:
    """Await a call; raises the domain error that the server raised."""
    try:
        return await pending
    except grpc.aio.AioRpcError as error:
        raise from_rpc_error(error) from error


class Cluster:
    """A registry and its cities; see :func:`run_cluster`.

    Args:
        folder: Where their folders are.
        clock: Everybody's clock.
        ports: Holds the ports of all of them.
        database_url: The registry's database; SQLite in its folder when None.
    """

    def __init__(
        self,
        folder: Path,
        clock: Callable[[], int] = utc_micros,
        *,
        ports: HeldPorts,
        database_url: str | None = None,
    ) -> None:
        self.folder = folder
        self.clock = clock
        self.ports = ports
        self.cities: dict[int, City] = {}
        path = initialize(
            Plan(
                data_dir=folder / "registry",
                trust_domain=TRUST_DOMAIN,
                listen="127.0.0.1:0",
                database_url=database_url,
            ),
            clock=clock,
            random=secrets.token_bytes,
        )
        config = load_registry_config(path)
        listening = config.node.model_copy(update=self._held())
        self.registry_config: RegistryConfig = config.model_copy(update={"node": listening})
        self.registry: RunningRegistry | None = None

    async def start_registry(self) -> None:
        """Start the registry, and wait until every city that runs hears it."""
        self.registry = await registry.app.build(self.registry_config, clock=self.clock)
        await self.registry.start()
        for city in self.cities.values():
            await city.hears_the_registry()

    async def stop_registry(self) -> None:
        if self.registry is not None:
            node, self.registry = self.registry, None
            await node.stop(grace_s=1)

    def _held(self) -> dict[str, str]:
        """Where one more node listens."""
        address = self.ports.address()
        return {"listen": address, "advertise": address}

    def wire(self) -> AbstractAsyncContextManager[Proxy]:
        """Return a wire to the registry, which has to run, that can be cut or go silent."""
        host, _, port = self.registry_config.node.listen.rpartition(":")
        return running_proxy((host, int(port)))

    async def add_city(
        self,
        code: int,
        *,
        provisional: str = "issue",
        heartbeat_s: float = 0.2,
        claim_s: float = 5.0,
        through: Proxy | None = None,
        database_url: str | None = None,
        retention_days: int | None = None,
    ) -> City:
        """Enrol a city with a token, start its node, which may reach the registry by a wire, and enrol a clerk."""
        folder = self.folder / str(code)
        token = await self.national_token(city_id(TRUST_DOMAIN, code))
        plan = city_setup.Plan(
            token=token,
            data_dir=folder,
            listen="127.0.0.1:0",
            database_url=database_url,
            provisional_policy=provisional,  # type: ignore[arg-type]
        )
        config = (await asyncio.to_thread(city_setup.join, plan, random=secrets.token_bytes)).config
        limits = config.limits.model_copy(update={"heartbeat_seconds": heartbeat_s, "claim_seconds": claim_s})
        if retention_days is not None:
            limits = limits.model_copy(update={"retention_days": retention_days})
        node = config.node.model_copy(update=self._held())
        config = config.model_copy(update={"limits": limits, "node": node})
        if through is not None:
            section = config.city.model_copy(update={"registry_address": through.address})
            config = config.model_copy(update={"city": section})
        clerk = self.folder / f"clerk-{code}"
        city = City(code, folder, config, clerk, None, through)  # type: ignore[arg-type]
        await city.start(self.clock)
        city.clerk_credentials = await self.enroll_at(city, ("clerk", str(code), "window-1"), clerk)
        self.cities[code] = city
        return city

    async def national_token(self, subject: SpiffeId) -> str:
        """Return a token of the registry."""
        config = self.registry_config
        keys = load_registry_keys(config, random=secrets.token_bytes)
        database = Database(config.database.url, readers=1, writers=1)
        try:
            use_case = registry.enrollment.enrollment(
                config, keys, database, RegistryStore(), clock=self.clock, random=secrets.token_bytes
            )
            return await _token(use_case, subject, config.node.listen)
        finally:
            await asyncio.to_thread(database.close)

    async def enroll_national(self, path: tuple[str, ...], folder: Path) -> Credentials:
        """Return credentials that the registry gave out."""
        token = await self.national_token(SpiffeId(TRUST_DOMAIN, path))
        return await asyncio.to_thread(join_person, token, folder)

    async def enroll_at(self, city: City, path: tuple[str, ...], folder: Path) -> Credentials:
        """Return credentials that a city gave out."""
        return await asyncio.to_thread(join_person, await self.token_at(city, path), folder)

    async def token_at(self, city: City, path: tuple[str, ...]) -> str:
        """Return a token of a city."""
        keys = load_city_keys(city.config, random=secrets.token_bytes)
        database = Database(city.config.database_url, readers=1, writers=1)
        try:
            use_case = city_node.enrollment.enrollment(
                city.config, keys, database, CityStore(), clock=self.clock, random=secrets.token_bytes
            )
            return await _token(use_case, SpiffeId(TRUST_DOMAIN, path), city.running.address)
        finally:
            await asyncio.to_thread(database.close)

    async def verify(
        self,
        credentials: Credentials,
        address: str,
        document: license_pb2.IdentityDocument,
        *,
        purpose: verification_pb2.Purpose,
        name: str = "",
        case_number: str = "case 1",
    ) -> verification_pb2.Verdict:
        """Ask a node about one document."""
        async with secure_channel(credentials, address=address, retries=False, local_pool=True) as channel:
            stub = verification_pb2_grpc.VerificationServiceStub(channel)
            request = verification_pb2.VerifyLicenseRequest(
                query=verification_pb2.LicenseQuery(document=document, holder_name=name),
                context=verification_pb2.LookContext(purpose=purpose, case_number=case_number),
            )
            response = await call(stub.VerifyLicense(request, timeout=DEADLINE_S))
            verdict: verification_pb2.Verdict = response.verdict
            return verdict

    async def close(self) -> None:
        for city in self.cities.values():
            await city.stop()
        await self.stop_registry()


async def _token(use_case: Enrollment, subject: SpiffeId, address: str) -> str:
    return format_token(await use_case.create_token(subject=subject, address=address, issued_by="spiffe://test/setup"))


@asynccontextmanager
async def run_cluster(
    folder: Path,
    *codes: int,
    clock: Callable[[], int] = utc_micros,
    provisional: str = "issue",
    database_url: str | None = None,
) -> AsyncIterator[Cluster]:
    """Run a registry, by URL or on SQLite, and these cities; everything has ended on return."""
    with HeldPorts() as ports:
        cluster = Cluster(folder, clock, ports=ports, database_url=database_url)
        try:
            await cluster.start_registry()
            for code in codes:
                await cluster.add_city(code, provisional=provisional)
            yield cluster
        finally:
            await cluster.close()


__all__ = [
    "CHENGDU",
    "DEADLINE_S",
    "SUZHOU",
    "TIANJIN",
    "TRUST_DOMAIN",
    "City",
    "Cluster",
    "Error",
    "call",
    "drivers",
    "eventually",
    "load_city_config",
    "run_cluster",
]
