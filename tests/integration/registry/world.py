"""A registry in this process, reached over real mutual TLS, with a clock that can be set."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path

import grpc

from elicense.cli.join import join
from elicense.clock import utc_micros
from elicense.log.check_run import Report
from elicense.log.checkpoint import cosign, cosigner_verifier_key
from elicense.rpc.channel import secure_channel
from elicense.rpc.errors import from_rpc_error
from elicense.sql.database import Database
from elicense.trust.signer import generate_key_file
from elicense.trust.spiffe import city_id, parse_spiffe_id
from elicense.trust.token import JoinToken, format_token
from elicense.v1 import verification_pb2, verification_pb2_grpc
from elicense.v1.license_pb2 import DOCUMENT_TYPE_RESIDENT_ID, IdentityDocument
from registry.app import build
from registry.config import RegistryConfig, load
from registry.enrollment import enrollment
from registry.fsck import Fsck
from registry.init import Plan, initialize
from registry.keys import RegistryKeys, load_keys
from registry.node import RunningNode
from registry.store import RegistryStore
from tests.support.city import DEADLINE_S, City
from tests.support.ports import HeldPorts

TRUST_DOMAIN = "elicense.test"
TIANJIN, CHENGDU, SUZHOU = 120000, 510100, 320500


class SetClock:
    """The real clock, moved by as much as a test says."""

    def __init__(self) -> None:
        self.offset_us = 0

    def __call__(self) -> int:
        return utc_micros() + self.offset_us

    def advance(self, *, seconds: int) -> None:
        self.offset_us += seconds * 1_000_000


def set_up(folder: Path, *, database_url: str | None = None, clock: Callable[[], int] = utc_micros) -> RegistryConfig:
    plan = Plan(data_dir=folder, trust_domain=TRUST_DOMAIN, listen="127.0.0.1:0", database_url=database_url)
    return load(initialize(plan, clock=clock, random=secrets.token_bytes))


@dataclass
class World:
    """A running registry and what joined it."""

    folder: Path
    config: RegistryConfig
    clock: SetClock
    keys: RegistryKeys
    database: Database
    node: RunningNode
    store: RegistryStore = field(default_factory=RegistryStore)
    joined: list[City] = field(default_factory=list)

    async def token(self, subject: str) -> JoinToken:
        use_case = enrollment(
            self.config, self.keys, self.database, self.store, clock=self.clock, random=secrets.token_bytes
        )
        return await use_case.create_token(
            subject=parse_spiffe_id(subject), address=self.node.address, issued_by=f"spiffe://{TRUST_DOMAIN}/registry"
        )

    async def city(self, code: int) -> City:
        token = await self.token(str(city_id(TRUST_DOMAIN, code)))
        signer = generate_key_file(self.folder / f"city-{code}-{len(self.joined)}.pem")
        city = await City.join(token, code, signer=signer, clock=self.clock)
        self.joined.append(city)
        return city

    async def verifier(self, role: str = "police") -> Verifier:
        token = await self.token(f"spiffe://{TRUST_DOMAIN}/verifier/{role}/test")
        credentials = await asyncio.to_thread(join, format_token(token), self.folder / f"verifier-{role}")
        return Verifier(secure_channel(credentials, retries=False, local_pool=True))

    async def restart(self) -> None:
        """End the registry and start it again over the same folder, at the same address."""
        await self.node.stop(grace_s=0)
        await self.start_again()

    async def start_again(self) -> None:
        """Start a registry that has ended, at the address that it had."""
        self.node = await build(self.config, clock=self.clock)
        await self.node.start()
        for city in self.joined:
            await city.close()  # a channel that lost its server waits before it tries again

    def fsck(self) -> Report:
        return Fsck(
            database=self.database,
            store=self.store,
            persons=self.keys.persons,
            trust_domain=TRUST_DOMAIN,
            log_key=self.keys.log.public_key(),
            cosigner_key=self.keys.cosigner.public_key(),
            progress=lambda _: None,
        ).run()

    def has_held(self, city: City) -> None:
        """Give a city the receipt for all of its log, as before the registry was set back."""
        note = cosign(city.note(), name=self.cosigner_name, signer=self.keys.cosigner, time_s=self.clock() // 1_000_000)
        city.receipt = (city.size, note)

    @property
    def cosigner_name(self) -> str:
        return cosigner_verifier_key(f"{TRUST_DOMAIN}/registry/cosigner", self.keys.cosigner.public_key()).name


class Verifier:
    """Asks the registry."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self.channel = channel

    async def ask(self, number: str, *, name: str = "", behalf: str = "") -> verification_pb2.Verdict:
        request = verification_pb2.VerifyLicenseRequest(
            query=verification_pb2.LicenseQuery(
                document=IdentityDocument(type=DOCUMENT_TYPE_RESIDENT_ID, number=number), holder_name=name
            ),
            context=verification_pb2.LookContext(
                purpose=verification_pb2.PURPOSE_ROADSIDE_CHECK, case_number="case-1", on_behalf_of=behalf
            ),
        )
        try:
            answer = await verification_pb2_grpc.VerificationServiceStub(self.channel).VerifyLicense(
                # A channel whose server was started again waits before it tries again.
                request,
                timeout=DEADLINE_S,
                wait_for_ready=True,
            )
        except grpc.aio.AioRpcError as error:
            raise from_rpc_error(error) from error
        verdict: verification_pb2.Verdict = answer.verdict
        return verdict


@contextlib.asynccontextmanager
async def running_world(folder: Path, *, database_url: str | None = None) -> AsyncIterator[World]:
    """A registry that runs until the block ends, always at the same address."""
    with HeldPorts() as ports:
        async with _running_world(folder, database_url, ports.address()) as world:
            yield world


@contextlib.asynccontextmanager
async def _running_world(folder: Path, database_url: str | None, address: str) -> AsyncIterator[World]:
    clock = SetClock()
    config = set_up(folder / "registry", database_url=database_url, clock=clock)
    config = config.model_copy(update={"node": config.node.model_copy(update={"listen": address})})
    node = await build(config, clock=clock)
    await node.start()
    keys = load_keys(config, random=secrets.token_bytes)
    world = World(folder, config, clock, keys, Database(config.database.url), node)
    try:
        yield world
    finally:
        for city in world.joined:
            await city.close()
        await world.node.stop(grace_s=1)
        world.database.close()


async def stand_and_wait(world: World, count: int) -> bool:
    """Whether so many sessions wait for a lock."""
    query = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    waiting = await world.database.read(lambda conn: conn.exec_driver_sql(query).scalar_one())
    return bool(waiting >= count)
