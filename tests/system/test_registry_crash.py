"""kill -9 of the registry while a city replicates: nothing acknowledged is lost, nothing is twice."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import secrets
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TypeVar

from elicense import errors
from elicense.clock import utc_micros
from elicense.log.checkpoint import CosignedCheckpoint, open_cosigned
from elicense.sql.database import Database
from elicense.trust.signer import generate_key_file
from elicense.trust.spiffe import city_id, parse_spiffe_id
from elicense.trust.token import JoinToken
from registry.config import RegistryConfig, load
from registry.enrollment import enrollment
from registry.init import Plan, initialize
from registry.keys import load_keys
from registry.store import RegistryStore
from tests.support.city import DEADLINE_S, City
from tests.support.ports import HeldPorts

T = TypeVar("T")

KILLS = int(os.environ.get("FAULT_KILLS", "3"))
SUZHOU, TRUST_DOMAIN = 320500, "elicense.test"
PERSONS_A_BATCH = 40
#: A kill comes within this time of a call, so that it may hit any moment of it.
WITHIN_S = 0.03


@dataclass
class RegistryProcess:
    """`elicense-registry serve` in a process of its own."""

    config: RegistryConfig
    process: asyncio.subprocess.Process | None = None

    async def run(self, *words: str) -> asyncio.subprocess.Process:
        path = str(self.config.node.data_dir / "config.toml")
        return await asyncio.create_subprocess_exec(
            sys.executable,
            "-c",
            "from registry.cli import main; main()",
            *words,
            "--config",
            path,
            stdout=asyncio.subprocess.DEVNULL if words == ("serve",) else asyncio.subprocess.PIPE,
        )

    async def start(self) -> None:
        self.process = await self.run("serve")
        async with asyncio.timeout(DEADLINE_S):
            while True:
                try:
                    _, writer = await asyncio.open_connection("127.0.0.1", self.port)
                except OSError:
                    await asyncio.sleep(0.02)
                else:
                    writer.close()
                    return

    @property
    def port(self) -> int:
        return int(self.config.node.listen.rpartition(":")[2])

    async def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        await self.process.wait()

    async def fsck(self) -> tuple[int, str]:
        check = await self.run("fsck")
        output, _ = await check.communicate()
        assert check.returncode is not None
        return check.returncode, output.decode()


async def city_token(config: RegistryConfig) -> JoinToken:
    database = Database(config.database.url)
    try:
        return await enrollment(
            config,
            load_keys(config, random=secrets.token_bytes),
            database,
            RegistryStore(),
            clock=utc_micros,
            random=secrets.token_bytes,
        ).create_token(
            subject=city_id(TRUST_DOMAIN, SUZHOU),
            address=config.advertised,
            issued_by=str(parse_spiffe_id(f"spiffe://{TRUST_DOMAIN}/registry")),
        )
    finally:
        database.close()


@contextlib.asynccontextmanager
async def registry_process(folder: Path) -> AsyncIterator[RegistryProcess]:
    with HeldPorts() as ports:
        plan = Plan(data_dir=folder, trust_domain=TRUST_DOMAIN, listen=ports.address())
        registry = RegistryProcess(load(initialize(plan, clock=utc_micros, random=secrets.token_bytes)))
        await registry.start()
        try:
            yield registry
        finally:
            if registry.process is not None and registry.process.returncode is None:
                await registry.kill()


@dataclass
class Replicating:
    """A city that issues and replicates for as long as it is let, whatever becomes of the registry."""

    city: City
    receipts: list[CosignedCheckpoint] = field(default_factory=list)
    persons: int = 0
    failures: int = 0
    calling: asyncio.Event = field(default_factory=asyncio.Event)

    async def persist(self, batches: int) -> None:
        """Issue and replicate that many batches, repeating whatever was not answered."""
        for _ in range(batches):
            numbers = [f"{32050019900101_0000 + self.persons + offset}" for offset in range(PERSONS_A_BATCH)]
            grants = await self._repeat(partial(self.city.claim, *numbers))
            for number, grant in zip(numbers, grants, strict=True):
                assert grant.HasField("grant"), grant
                self.city.issue(number, claim=grant)
            self.persons += PERSONS_A_BATCH
            answer = await self._repeat(self.city.replicate)
            self.receipts.append(
                open_cosigned(
                    answer.receipt, origin=self.city.origin, log_key=self.city.key, cosigner_key=self.city.cosigner
                )
            )

    async def _repeat(self, call: Callable[[], Awaitable[T]]) -> T:
        async with asyncio.timeout(2 * DEADLINE_S):
            while True:
                self.calling.set()
                try:
                    return await call()
                except errors.Unavailable:
                    self.failures += 1
                    # A channel that lost its server waits before it tries again; a new one does not.
                    await self.city.close()
                    await asyncio.sleep(0.02)
                finally:
                    self.calling.clear()


async def test_kill_9_of_the_registry_during_replication_loses_nothing_and_doubles_nothing(tmp_path: Path) -> None:
    moments = random.Random(20210601)
    async with registry_process(tmp_path / "registry") as registry:
        token = await city_token(registry.config)
        signer = generate_key_file(tmp_path / "city.pem")
        city = await City.join(token, SUZHOU, signer=signer, clock=utc_micros)
        work = Replicating(city)
        for _ in range(KILLS):
            batches = asyncio.create_task(work.persist(3))
            await work.calling.wait()
            # Any moment of the calls will do; the seed only spreads them.
            await asyncio.sleep(moments.uniform(0, WITHIN_S))
            await registry.kill()
            await registry.start()
            await batches
        await work.persist(1)
        state = await city.state()
        await city.close()

        # Nothing acknowledged is lost, and what is held is what the city wrote.
        assert state.next_index == city.size == work.persons
        for receipt in work.receipts:
            assert receipt.checkpoint.root == city.root(receipt.checkpoint.size)
        # No gap, no duplicate, no difference between logs and view; no hand was needed.
        status, output = await registry.fsck()
        assert status == 0, output
        assert f"{work.persons:,} licenses: no difference" in output


async def test_sigterm_ends_the_registry_in_order(tmp_path: Path) -> None:
    async with registry_process(tmp_path / "registry") as registry:
        assert registry.process is not None
        signer = generate_key_file(tmp_path / "city.pem")
        city = await City.join(await city_token(registry.config), SUZHOU, signer=signer, clock=utc_micros)
        work = Replicating(city)
        await work.persist(1)
        registry.process.terminate()
        async with asyncio.timeout(DEADLINE_S):
            assert await registry.process.wait() == 0
        await city.close()
        status, output = await registry.fsck()
        assert status == 0, output
        assert f"{work.persons:,} licenses" in output
