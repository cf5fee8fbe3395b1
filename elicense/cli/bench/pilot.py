"""``elicense bench pilot``: the licences of the pilot lie in the logs of three cities; how soon has the registry all?

As after an outage of the registry that lasted weeks: three city nodes have issued,
the registry has granted every person and holds none of their logs.  All four run as
processes of their own and talk over mutual TLS; nothing is left out on the way.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from elicense.cli.bench.drive import Driver
from elicense.cli.bench.house import House
from elicense.cli.bench.usage import Processes
from elicense.cli.bench.verify import BATCH, ROLE, Questions
from elicense.cli.demo.figures import ExpectationFailed
from elicense.cli.demo.nation import CHENGDU, CITY_NODE, REGISTRY, SUZHOU, TIANJIN, City
from elicense.cli.demo.processes import Child, last_line, wait_listening
from elicense.rpc.channel import secure_channel
from elicense.trust.credentials import load_credentials
from elicense.v1 import replication_pb2, replication_pb2_grpc
from elicense.v1 import verification_pb2 as pb

LICENSES: Final = 1_950_000
"""Issued in the pilot from 1 June to 18 August 2021."""

#: Inhabitants by the census of 2020, in ten thousands: how the licences are shared out.
INHABITANTS: Final = {TIANJIN: 1_387, CHENGDU: 2_094, SUZHOU: 1_275}

REGISTRY_NAME: Final = "registry"
DATABASE_NAME: Final = "PostgreSQL"

_PREPARE: Final = (sys.executable, "-m", "city_node.bench")

#: Grants must hold until the last record was sent, however long filling takes.
SETTINGS: Final = "\n[limits]\nclaim_lease_minutes = 1_440\n"

_ASK_EVERY_S: Final = 0.25
#: What is looked at costs the CPU that is measured: to find the backends of a database, all processes are gone through.
_SEE_EVERY_S: Final = 1.0
_TELL_EVERY_S: Final = 5.0
_STUCK_S: Final = 120.0
_CALL_S: Final = 60.0
_SAMPLE: Final = 1_000


@dataclass(slots=True)
class PilotCity:
    """A city of the pilot.

    Attributes:
        city: Which.
        folder: Its data folder.
        port: Its port.
        first: Ordinal of its first holder.
        licenses: How many it has issued.
        log: What its processes say.
    """

    city: City
    folder: Path
    port: int
    first: int
    licenses: int
    log: Path

    @property
    def config(self) -> str:
        """Its configuration file."""
        return str(self.folder / "config.toml")


@dataclass(slots=True)
class Cost:
    """What a process took.

    Attributes:
        name: Which.
        records: Records that it handled.
        cpu_s: User and system time, its start included unless it ran before.
        memory: Most anonymous memory that it, or one that it had started, was seen with, in bytes.
        memory_with_assistants: The same of it and of all that it had started together, in bytes.
    """

    name: str
    records: int
    cpu_s: float = 0.0
    memory: int = 0
    memory_with_assistants: int = 0

    def see(self, anonymous: Sequence[int]) -> None:
        """Remember how much memory it has now, and each that it had started."""
        self.memory = max(self.memory, *anonymous)
        self.memory_with_assistants = max(self.memory_with_assistants, sum(anonymous))

    @property
    def record_us(self) -> float:
        """CPU a record, in microseconds."""
        return self.cpu_s / self.records * 1e6


@dataclass(slots=True)
class Replicated:
    """What came out.

    Attributes:
        licenses: How many there were.
        seconds: From the start of the city nodes until the registry had all.
        first_s: From there until it had the first.
        filled_s: How long filling the cities took before.
        costs: What each process took.
    """

    licenses: int
    seconds: float
    first_s: float
    filled_s: float
    costs: list[Cost] = field(default_factory=list)

    @property
    def rate(self) -> float:
        """Records a second."""
        return self.licenses / self.seconds


def shares(licenses: int) -> dict[City, int]:
    """Share licences out by inhabitants; they add up."""
    everybody = sum(INHABITANTS.values())
    ends, people = [0], 0
    for inhabitants in INHABITANTS.values():
        people += inhabitants
        ends.append(licenses * people // everybody)
    return {city: end - start for city, start, end in zip(INHABITANTS, ends, ends[1:], strict=False)}


class Pilot:
    """Sets the pilot up and lets it replicate.

    Args:
        house: The registry; founded and empty.
        licenses: How many, in all three cities.
        say: Told what is going on, a line each.
    """

    def __init__(self, house: House, *, licenses: int, say: Callable[[str], None]) -> None:
        self._house = house
        self._licenses = licenses
        self._say = say
        self._cities: list[PilotCity] = []
        first = 0
        for city, count in shares(licenses).items():
            name = city.name.lower()
            folder, log = house.folder / name, house.folder / f"{name}.log"
            self._cities.append(PilotCity(city, folder, house.household.port(), first, count, log))
            first += count

    async def run(self) -> Replicated:
        """Fill the cities, replicate, and check that the registry says VALID.

        Raises:
            ExpectationFailed: A process ended, replication stood still, or a licence is not VALID.
        """
        serving = await self._house.serve()
        await self._join()
        filled_s = await self._fill()
        # A new process: what it took to grant persons must not show in its memory.
        await serving.stop()
        serving = await self._house.serve()
        result = await self._replicate(serving)
        result.filled_s = filled_s
        await self._check()
        return result

    async def _join(self) -> None:
        house = self._house
        codes = (str(city.city.code) for city in self._cities)
        tokens = (await house.command(*REGISTRY, "token", "city", *codes, "--config", house.config)).split()

        async def join(city: PilotCity, token: str) -> None:
            where = ("--data", str(city.folder), "--listen", house.address(city.port))
            await house.command(*CITY_NODE, "join", token, *where)

        await asyncio.gather(*map(join, self._cities, tokens))

    # -- before --------------------------------------------------------------------------------------------------------

    async def _fill(self) -> float:
        began = time.monotonic()

        def progress() -> str:
            filled = sum(_filled(city.log) for city in self._cities)
            return f"filled {filled:,} of {self._licenses:,} licences"

        numbers = [("--first", str(city.first), "--licenses", str(city.licenses)) for city in self._cities]
        await self._prepare("fill", numbers, progress, began)
        # A city follows the registry's log while its persons are granted: it does not have all of it to fetch now.
        await self._prepare("mirror", [()] * len(numbers), lambda: "copying the registry's log into the cities", began)
        return time.monotonic() - began

    async def _prepare(
        self, verb: str, options: Sequence[Sequence[str]], progress: Callable[[], str], began: float
    ) -> None:
        """Run a command for every city at once, and say how far it is."""
        children = [
            await self._house.household.start([*_PREPARE, verb, *given, "--config", city.config], log=city.log)
            for city, given in zip(self._cities, options, strict=True)
        ]
        ended = asyncio.gather(*(child.ended() for child in children))
        while not ended.done():
            await asyncio.wait((ended,), timeout=_TELL_EVERY_S)
            self._say(f"{progress()} ({time.monotonic() - began:.0f} s)")
        for city, status in zip(self._cities, ended.result(), strict=True):
            if status:
                raise ExpectationFailed(f"{city.city.name} could not be prepared: {last_line(city.log)}")

    # -- what is measured ----------------------------------------------------------------------------------------------

    async def _replicate(self, serving: Child) -> Replicated:
        house = self._house
        registry = Processes(serving.pid)
        watched = [(Cost(REGISTRY_NAME, self._licenses), registry, registry.cpu_s())]
        if house.database.pid is not None:
            database = Processes(house.database.pid)
            watched.append((Cost(DATABASE_NAME, self._licenses), database, database.cpu_s()))
        began = time.monotonic()
        children = [
            await house.household.start([*CITY_NODE, "serve", "--config", city.config], log=city.log)
            for city in self._cities
        ]
        for city, child in zip(self._cities, children, strict=True):
            watched.append((Cost(city.city.name, city.licenses), Processes(child.pid), 0.0))
        first_s = await self._watch(began, [serving, *children], watched)
        seconds = time.monotonic() - began
        for cost, processes, before in watched:
            cost.cpu_s = processes.cpu_s() - before
        for city, child in zip(self._cities, children, strict=True):
            await wait_listening(child, city.port, city.city.name)
        return Replicated(self._licenses, seconds, first_s, 0.0, [cost for cost, _, _ in watched])

    async def _watch(self, began: float, children: list[Child], watched: list[tuple[Cost, Processes, float]]) -> float:
        """Wait until the registry has all, and return after how many seconds it had the first."""
        channels = [secure_channel(load_credentials(city.folder / "credentials")) for city in self._cities]
        stubs = [replication_pb2_grpc.ReplicationServiceStub(channel) for channel in channels]
        first_s, held, moved = 0.0, 0, began
        told, held_then, seen = began, 0, began - _SEE_EVERY_S
        try:
            while held < self._licenses:
                await asyncio.sleep(_ASK_EVERY_S)
                held_now = sum([await _held(stub) for stub in stubs])
                now = time.monotonic()
                first_s = first_s or (now - began if held_now else 0.0)
                moved = now if held_now > held else moved
                if now - seen >= _SEE_EVERY_S or held_now >= self._licenses:
                    seen = now
                    for cost, processes, _ in watched:
                        cost.see(processes.anonymous_of_each())
                if now - told >= _TELL_EVERY_S:
                    rate = (held_now - held_then) / (now - told)
                    self._say(
                        f"replicated {held_now:,} of {self._licenses:,} ({now - began:.0f} s, {rate:,.0f} a second)"
                    )
                    told, held_then = now, held_now
                held = held_now
                self._require_alive(children, now - moved)
        finally:
            for channel in channels:
                await channel.close()
        return first_s

    def _require_alive(self, children: list[Child], still_s: float) -> None:
        for child in children:
            if not child.running:
                raise ExpectationFailed(f"a process ended: {last_line(child.log)}")
        if still_s > _STUCK_S:
            raise ExpectationFailed(f"nothing was replicated for {still_s:.0f} s: {last_line(self._house.log)}")

    # -- after ---------------------------------------------------------------------------------------------------------

    async def _check(self) -> None:
        """Ask an insurer's questions about a sample of all cities' licences."""
        count = min(_SAMPLE, self._licenses)
        driver = Driver(await self._house.admit(ROLE), BATCH, in_flight=1)
        try:
            answer = await driver.one(Questions(self._licenses).many(count))
        finally:
            await driver.close()
        verdicts = pb.BatchVerifyLicensesResponse.FromString(answer).verdicts
        valid = sum(verdict.outcome == pb.OUTCOME_VALID for verdict in verdicts)
        if valid != count:
            raise ExpectationFailed(f"the registry says VALID of {valid} of {count} replicated licences only")
        self._say(f"the registry says VALID of each of {count:,} licences drawn at random")


async def _held(stub: replication_pb2_grpc.ReplicationServiceStub) -> int:
    state: replication_pb2.GetReplicationStateResponse = await stub.GetReplicationState(
        replication_pb2.GetReplicationStateRequest(), timeout=_CALL_S
    )
    return state.next_index


def _filled(log: Path) -> int:
    line = last_line(log)
    return int(line.split()[1]) if line.startswith("filled ") else 0
