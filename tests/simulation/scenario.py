"""One seed: a nation at work while its network, machines and clocks fail, healed at the end."""

from __future__ import annotations

import asyncio
import gc
import uuid
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from random import Random
from typing import Any, Final
from unittest.mock import patch

import grpc

from elicense.clock import china_date
from elicense.errors import Error, Unavailable
from elicense.license.civil_date import date_to_message
from elicense.log import note
from elicense.rpc.errors import from_rpc_error
from elicense.trust.roles import Role
from elicense.trust.spiffe import Caller, SpiffeId
from elicense.v1 import issuance_pb2 as pb
from elicense.v1 import license_pb2
from tests.simulation.database import Fate
from tests.simulation.loop import Owner, Stuck, VirtualLoop, outside
from tests.simulation.network import Network, Weather
from tests.simulation.nodes import (
    CITIES,
    START_US,
    CityNode,
    Doubles,
    Node,
    RegistryNode,
    Surroundings,
    Template,
    copy_stores,
)
from tests.simulation.oracle import Oracle, Violated, watch
from tests.support.cluster import TRUST_DOMAIN, drivers

#: How long things fail, and within which everything must have healed, virtual seconds.
TROUBLE_S: Final = 12.0
HEALED_S: Final = 120.0
_CALL_S: Final = 3.0
_ASKS: Final = 5
_SHARED: Final = 4
#: How often a citizen asks for an erasure, which is refused until the registry holds the licence.
_ERASING: Final = 6


@dataclass
class Outcome:
    """What a seed came to.

    Attributes:
        seed: The seed.
        trace: Hash over everything that happened; the same for the same seed.
        steps: Callbacks of nodes that ran.
        crashes: How often a node crashed.
        acknowledged: Licences that were acknowledged.
        erased: Licences that were erased.
        checks: What the oracle compared.
        events: What was broken, in order.
        violation: The promise that was broken, or None.
    """

    seed: int
    trace: str = ""
    steps: int = 0
    crashes: int = 0
    acknowledged: int = 0
    erased: int = 0
    checks: int = 0
    events: list[str] = field(default_factory=list)
    violation: str | None = None


def simulate(seed: int, template: Template, *, doubles: Doubles | None = None) -> Outcome:
    """Run one seed."""
    # All of a seed's garbage is collected at its end.
    gc.disable()
    try:
        with patch.object(note, "_verify", _verify_once):
            return _simulate(seed, template, doubles or Doubles())
    finally:
        gc.enable()


#: Most signatures are checked again and again, and no two answers to that can differ.
_verify_once: Final = lru_cache(maxsize=1_024)(note._verify)


def _simulate(seed: int, template: Template, doubles: Doubles) -> Outcome:
    outcome = Outcome(seed)
    loop = VirtualLoop(Random(f"loop {seed}"))
    nation = _Nation(seed, template, loop, doubles, outcome)
    try:
        loop.run_until_complete(nation.run())
    except Violated as violated:
        outcome.violation = str(violated)
    except Stuck:
        outcome.violation = "somebody waits for ever"
    finally:
        nation.close()
        loop.discard()
        loop.close()
    outcome.trace, outcome.steps, outcome.checks = loop.trace, loop.steps, nation.oracle.checks
    return outcome


class _Nation:
    """Everything of one seed."""

    def __init__(self, seed: int, template: Template, loop: VirtualLoop, doubles: Doubles, outcome: Outcome) -> None:
        self.random = Random(f"nation {seed}")
        self.loop = loop
        self.outcome = outcome
        self.network = Network(loop, Random(f"network {seed}"), on_fault=self._fault)
        self.registry_path, self.city_paths = copy_stores(template)
        self.oracle = Oracle(
            template,
            loop.time,
            watch(self.registry_path),
            {code: watch(path) for code, path in self.city_paths.items()},
        )
        self.around = Surroundings(
            template, loop, Random(f"nodes {seed}"), self.network, self.oracle.witness, doubles, self._fate
        )
        self.registry: RegistryNode | None = None
        self.cities: dict[int, CityNode | None] = dict.fromkeys(CITIES)
        self.offsets = dict.fromkeys(CITIES, doubles.clock_off_s)
        self.people = self._people()
        #: Chance that a node crashes before any one of its callbacks.
        self.crash_chance = self.random.choice((0.0, 0.0005, 0.002))
        #: Chance that a database does not say what became of a COMMIT.
        self.unheard_chance = self.random.choice((0.0, 0.0, 0.05))
        self.trouble = True
        self._rising: set[asyncio.Task[None]] = set()
        self.broken: Exception | None = None
        loop.set_exception_handler(self._unhandled)
        loop.crashes = self._maybe_crash
        loop.after_step = self._after_step

    # -- who is asked ----------------------------------------------------------------------------------------------

    def _people(self) -> dict[int, Iterator[license_pb2.License]]:
        """Return applicants of each city; some of them apply in the other one as well."""
        day = china_date(START_US)
        made = {code: list(drivers(code, _ASKS * 4, seed=self.outcome.seed % 7, on=day)) for code in CITIES}
        first, second = (made[code] for code in CITIES)
        for ours, theirs in zip(first[:_SHARED], second[:_SHARED], strict=True):
            theirs.holder.document.CopyFrom(ours.holder.document)
        for code in CITIES:
            self.random.shuffle(made[code])
        return {code: iter(made[code]) for code in CITIES}

    # -- lives of nodes --------------------------------------------------------------------------------------------

    async def start_registry(self) -> None:
        self.registry = RegistryNode(self.around, "registry", self.registry_path)
        await self._begun(self.registry)

    async def start_city(self, code: int) -> None:
        city = CityNode(
            self.around,
            str(code),
            self.city_paths[code],
            self.offsets[code],
            code=code,
            find_registry=lambda: self.registry,
        )
        self.cities[code] = city
        await self._begun(city)

    async def _begun(self, node: Node) -> None:
        """Wait until a node has started, or crashed meanwhile."""
        beginning = node.spawn(node.begin())
        while node.alive and not beginning.done():  # noqa: ASYNC110  # a node that crashed sets no event
            await asyncio.sleep(0.005)
        if node.alive and (error := beginning.exception()) is not None:
            raise Violated(f"{node.name} did not start: {error!r}")

    def crash(self, node: Node, *, power: bool = False) -> None:
        if not node.alive:
            return
        self.outcome.crashes += 1
        self.event(f"{'power cut at' if power else 'crash of'} {node.name}")
        node.crash(power=power)
        if isinstance(node, CityNode):
            self.cities[node.code] = None
            again: Callable[[], Awaitable[None]] = lambda: self.start_city(node.code)  # noqa: E731
        else:
            self.registry = None
            again = self.start_registry

        async def rise() -> None:
            await asyncio.sleep(self.random.uniform(0.05, 3))
            await again()

        task = self.loop.create_task(rise(), context=outside())
        self._rising.add(task)
        task.add_done_callback(self._risen)

    def _risen(self, task: asyncio.Task[None]) -> None:
        self._rising.discard(task)
        if (error := task.exception()) is not None:
            self.broken = self.broken or error  # type: ignore[assignment]

    def _maybe_crash(self, owner: Owner) -> bool:
        if self.trouble and self.crash_chance and self.random.random() < self.crash_chance:
            assert isinstance(owner, Node)
            self.crash(owner)
            return True
        return False

    def _fate(self) -> Fate:
        if not self.trouble or self.random.random() >= self.unheard_chance:
            return Fate.HEARD
        fate = self.random.choice((Fate.UNHEARD, Fate.UNDONE))
        self.event(f"a commit is {fate.value}")
        return fate

    # -- what breaks -----------------------------------------------------------------------------------------------

    async def break_things(self) -> None:
        """Bring about one thing after the other until the time of trouble is over."""
        while self.loop.time() < TROUBLE_S:
            await asyncio.sleep(self.random.uniform(0.1, 2.0))
            self.random.choice((self._cut, self._storm, self._crash_one, self._power_cut, self._jump))()
        self.trouble = False
        self.network.weather, self.network.cut = Weather(), set()
        self.offsets = dict.fromkeys(CITIES, 0.0)
        for city in self.cities.values():
            if city is not None:
                city.clock_off_s = 0.0
        self.event("healed")

    def _cut(self) -> None:
        pair = frozenset(("registry", str(self.random.choice(CITIES))))
        self.network.cut ^= {pair}
        self.event(f"{'cut' if pair in self.network.cut else 'joined'} {sorted(pair)}")

    def _storm(self) -> None:
        self.network.weather = self.random.choice(
            (Weather(), Weather(0.5), Weather(0.05, lost=0.2), Weather(0.2, doubled=0.5), Weather(2.0, 0.1, 0.3))
        )
        self.event(f"{self.network.weather}")

    def _crash_one(self) -> None:
        node = self.random.choice([self.registry, *self.cities.values()])
        if node is not None:
            self.crash(node)

    def _power_cut(self) -> None:
        node = self.random.choice([self.registry, *self.cities.values()])
        if node is not None:
            self.crash(node, power=True)

    def _jump(self) -> None:
        code = self.random.choice(CITIES)
        self.offsets[code] = self.random.choice((0.0, -5.0, 5.0, -300.0, 300.0, 660.0, -660.0))
        city = self.cities[code]
        if city is not None:
            city.clock_off_s = self.offsets[code]
        self.event(f"clock of {code} off by {self.offsets[code]:.0f} s")

    # -- who asks --------------------------------------------------------------------------------------------------

    async def citizens(self, code: int, number: int) -> None:
        """Ask for one licence after the other, each until it is acknowledged or refused for good."""
        clerk = Caller(SpiffeId(TRUST_DOMAIN, ("clerk", str(code), f"w{number}")), Role.CLERK, code, bytes(32))
        stub = self.network.connect(lambda: self.cities[code], caller=clerk, name=f"clerk-{code}-{number}")
        for _ in range(_ASKS):
            await asyncio.sleep(self.random.uniform(0, 2))
            person = next(self.people[code])
            request_id = str(uuid.UUID(bytes=self.random.randbytes(16), version=4))
            if self.random.random() < 0.25:
                item = pb.ImportItem(license=person, request_id=request_id)
                answer = await self._ask(
                    stub.ImportLicenses, pb.ImportLicensesRequest(parent=f"cities/{code}", items=[item])
                )
                if answer is not None and answer.results[0].name:
                    self._heard(code, request_id, None)
                continue
            request = pb.CreateLicenseRequest(parent=f"cities/{code}", license=person, request_id=request_id)
            answer = await self._ask(stub.CreateLicense, request)
            if answer is None:
                continue
            self._heard(code, request_id, answer)
            fate = self.random.random()
            if fate < 0.4:
                await self._suspend(stub, code, answer.license)
            elif fate < 0.6:
                await self._erase(stub, code, answer.license)

    async def _suspend(self, stub: Any, code: int, license_: license_pb2.License) -> None:
        request_id = str(uuid.UUID(bytes=self.random.randbytes(16), version=4))
        letter = license_pb2.StatusLetter(
            letter="D",
            legal_basis="道路交通安全法 第九十一条",
            start_date=date_to_message(china_date(START_US)),
            authority="公安局",
        )
        request = pb.SetStatusRequest(
            name=license_.name, etag=license_.etag, request_id=request_id, add_letters=[letter]
        )
        if await self._ask(stub.SetStatus, request) is not None:
            self._heard(code, request_id, None)

    async def _erase(self, stub: Any, code: int, license_: license_pb2.License) -> None:
        """Cancel a licence, and have it erased once the registry holds whatever was written of it."""
        cancel, erase = [str(uuid.UUID(bytes=self.random.randbytes(16), version=4)) for _ in range(2)]
        cancelled = pb.CancelLicenseRequest(name=license_.name, legal_basis="本人申请", request_id=cancel)
        if await self._ask(stub.CancelLicense, cancelled) is None:
            return
        self._heard(code, cancel, None)
        erased = pb.EraseLicenseRequest(name=license_.name, legal_basis="个人信息保护法 第四十七条", request_id=erase)
        for _ in range(_ERASING):
            await asyncio.sleep(self.random.uniform(0, 2))
            if await self._ask(stub.EraseLicense, erased) is not None:
                self.outcome.erased += 1
                self.oracle.erased(code, uuid.UUID(license_.name.rpartition("/")[2]).bytes)
                return

    async def _ask(self, method: Callable[..., Awaitable[Any]], request: Any) -> Any:
        """Ask until there is an answer; None when it is a refusal."""
        while True:
            try:
                return await method(request, timeout=_CALL_S)
            except grpc.aio.AioRpcError as error:
                raised: Error = from_rpc_error(error)
            if not isinstance(raised, Unavailable):
                self.event(f"refused: {raised.reason}")
                return None
            await asyncio.sleep(self.random.uniform(0.05, 0.5))

    def _heard(self, code: int, request_id: str, answer: Any) -> None:
        self.outcome.acknowledged += 1
        self.oracle.acknowledged(code, request_id, answer)

    # -- the whole -------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        await self.start_registry()
        for code in CITIES:
            await self.start_city(code)
        await asyncio.gather(self.break_things(), *(self.citizens(code, n) for code in CITIES for n in range(2)))
        try:
            async with asyncio.timeout(HEALED_S):
                while not self._settled():  # noqa: ASYNC110  # what is waited for are rows
                    await asyncio.sleep(0.25)
        except TimeoutError:
            raise Violated("what was healed did not settle") from None
        assert self.registry is not None
        self.oracle.settled(self.registry, {code: city for code, city in self.cities.items() if city is not None})

    def _settled(self) -> bool:
        if self.registry is None or self._rising or any(city is None for city in self.cities.values()):
            return False
        waiting = self.oracle.registry.connection.execute("SELECT COUNT(*) FROM pending_decision").fetchone()[0]
        level = all(self.oracle.registry.head(c) == w.head(c) for c, w in self.oracle.cities.items())
        told = all(city is not None and city.replicator.backlog == 0 for city in self.cities.values())
        return level and told and not waiting

    def event(self, what: str) -> None:
        self.loop.note(what)
        self.outcome.events.append(f"{self.loop.time():8.3f} s  {what}")

    def _after_step(self) -> None:
        if self.broken is not None:
            error, self.broken = self.broken, None
            raise error if isinstance(error, Violated) else Violated(f"{type(error).__name__}: {error}")
        if not self.loop.worked:
            return
        self.loop.worked = False
        self.oracle.after_step()
        if self.registry is not None:
            self.oracle.honest_registry(self.registry)
        for city in self.cities.values():
            if city is not None:
                self.oracle.honest(city)

    def _fault(self, method: str, error: Exception) -> None:
        self.broken = self.broken or Violated(f"{method} raised {error!r}")

    def _unhandled(self, _loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        error = context.get("exception")
        if error is not None:
            self.broken = self.broken or error

    def close(self) -> None:
        self.oracle.close()
        for node in (self.registry, *self.cities.values()):
            if node is not None:
                node.crash()
