"""One seed: a nation at work while its network, machines and clocks fail, healed at the end."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import lru_cache
from random import Random
from typing import Any, Final
from unittest.mock import patch

from city_node.keys import LogSigners
from elicense.log import note
from tests.simulation.citizens import COUNTERS, Citizens
from tests.simulation.city import CityNode
from tests.simulation.disputes import Disputants
from tests.simulation.forks import Fork
from tests.simulation.loop import Stuck, VirtualLoop, outside
from tests.simulation.network import Network
from tests.simulation.nodes import Doubles, Node, Surroundings
from tests.simulation.oracle import Oracle
from tests.simulation.registry import RegistryNode
from tests.simulation.setbacks import CitySetBack, RegistrySetBack
from tests.simulation.template import CITIES, Template, copy_stores, file_of
from tests.simulation.trouble import Trouble
from tests.simulation.written import Violated, watch

#: Share of seeds in which a city is set back.
SET_BACK: Final = 0.3
#: Share of seeds in which the registry is, which its cities mirror then.
REGISTRY_SET_BACK: Final = 0.15
#: Share of those in which a city is, too, after it.
BOTH_SET_BACK: Final = 0.4
#: Share of those in which an operator does without decisions that are lost.
GIVEN_UP: Final = 0.3
#: Share of seeds in which a city has two histories, or a head that nobody can compute.
FORKED: Final = 0.15
#: Share of seeds in which conflicts are ruled on, of which there are more then.
RULED: Final = 0.25
#: Within which everything must have healed, virtual seconds.
HEALED_S: Final = 120.0


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
        moved: Licences that another city took over.
        renumbered: Holders who were given another number.
        barred: Holders who were barred from applying anew.
        ruled: Conflicts that a city or an operator ended.
        restored: Databases that were set back, and restored.
        quarantined: Quarantines that were decided.
        verdicts: What verifiers were told.
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
    moved: int = 0
    renumbered: int = 0
    barred: int = 0
    ruled: int = 0
    restored: int = 0
    quarantined: int = 0
    verdicts: int = 0
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
    nation = Nation(seed, template, loop, doubles, outcome)
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
    outcome.trace, outcome.steps, outcome.checks = loop.trace, loop.steps, nation.oracle.all_checks
    outcome.quarantined = nation.oracle.quarantines.decided
    return outcome


class Nation:
    """Everything of one seed."""

    def __init__(self, seed: int, template: Template, loop: VirtualLoop, doubles: Doubles, outcome: Outcome) -> None:
        self._random = Random(f"nation {seed}")
        self.mirrored = Random(f"mirrors {seed}").random() < REGISTRY_SET_BACK
        forked = Random(f"forks {seed}")
        self.fork: Random | None = forked if forked.random() < FORKED else None
        self.ruled = not self.mirrored and Random(f"rulings {seed}").random() < RULED
        self.loop = loop
        self.outcome = outcome
        self.trouble = Trouble(self, Random(f"trouble {seed}"))
        self.network = Network(loop, Random(f"network {seed}"), on_fault=self._fault)
        self.registry_path, self.configs = copy_stores(template)
        self.city_paths = {code: file_of(config.database_url) for code, config in self.configs.items()}
        self.signers = {code: LogSigners(config) for code, config in self.configs.items()}
        self.oracle = Oracle(
            template,
            loop.time,
            watch(self.registry_path),
            {code: watch(path) for code, path in self.city_paths.items()},
        )
        self.around = Surroundings(
            template,
            loop,
            Random(f"nodes {seed}"),
            self.network,
            self.oracle.signatures.witness,
            doubles,
            self.trouble.fate,
        )
        self.registry: RegistryNode | None = None
        self.cities: dict[int, CityNode | None] = dict.fromkeys(CITIES)
        self._offsets = dict.fromkeys(CITIES, doubles.clock_off_s)
        #: Where a city is set back too: once the registry has everything again, for what both have lost is lost.
        self.registry_is_whole = asyncio.Event()
        self._rising: dict[asyncio.Task[None], str] = {}
        self._down: set[str] = set()
        #: Those that start by themselves once nobody keeps them down: a node runs once.
        self._waiting: set[str] = set()
        self.broken: Exception | None = None
        loop.set_exception_handler(self._unhandled)
        loop.crashes = self.trouble.may_crash
        loop.after_step = self._after_step

    # -- lives of nodes --------------------------------------------------------------------------------------------

    async def start_registry(self) -> None:
        self.registry = RegistryNode(self.around, "registry", self.registry_path)
        await self._begun(self.registry)

    async def start_city(self, code: int) -> None:
        city = CityNode(
            self.around,
            str(code),
            self.city_paths[code],
            self._offsets[code],
            code=code,
            config=self.configs[code],
            signers=self.signers[code],
            mirrors=self.mirrored,
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
        if node.name in self._waiting:
            return
        self._waiting.add(node.name)

        async def rise() -> None:
            await asyncio.sleep(self._random.uniform(0.05, 3))
            while node.name in self._down:  # noqa: ASYNC110  # an operator ends it
                await asyncio.sleep(0.1)
            self._waiting.discard(node.name)
            await again()

        task = self.loop.create_task(rise(), context=outside())
        self._rising[task] = node.name
        task.add_done_callback(self._risen)

    def keep_down(self, name: str) -> None:
        """End a node, if it runs, and let it not start again."""
        self._down.add(name)
        for node in (self.registry, *self.cities.values()):
            if node is not None and node.name == name:
                self.crash(node)

    async def let_up(self, name: str) -> None:
        """Let a node that was kept down start."""
        self._down.discard(name)
        if name not in self._rising.values():
            await (self.start_registry() if name == "registry" else self.start_city(int(name)))

    def _risen(self, task: asyncio.Task[None]) -> None:
        del self._rising[task]
        if (error := task.exception()) is not None:
            self.broken = self.broken or error  # type: ignore[assignment]

    def set_clock(self, code: int, off_s: float) -> None:
        """Set a city's clock, in this life and later ones."""
        self._offsets[code] = off_s
        city = self.cities[code]
        if city is not None:
            city.clock_off_s = off_s

    # -- the whole -------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        await self.start_registry()
        for code in CITIES:
            await self.start_city(code)
        citizens = Citizens(self, Random(f"citizens {self.outcome.seed}"))
        await asyncio.gather(
            self.trouble.run(),
            *(setback.run() for setback in self.setbacks()),
            *([Disputants(self, Random(f"disputes {self.outcome.seed}")).run()] if self.ruled else []),
            *([Fork(self, self.fork, self.fork.choice(CITIES)).run()] if self.fork else []),
            *(citizens.live(code, number) for code in CITIES for number in range(COUNTERS)),
            *(citizens.verify(code) for code in CITIES),
        )
        try:
            async with asyncio.timeout(HEALED_S):
                while self._unsettled() is not None:  # noqa: ASYNC110  # what is waited for are rows
                    await asyncio.sleep(0.25)
        except TimeoutError:
            raise Violated(f"what was healed did not settle: {self._unsettled()}") from None
        assert self.registry is not None
        self.oracle.settled(self.registry, {code: city for code, city in self.cities.items() if city is not None})

    def setbacks(self) -> list[CitySetBack | RegistrySetBack]:
        """Return what sets machines back in this seed: nothing in most."""
        random = Random(f"setbacks {self.outcome.seed}")
        if not self.mirrored:
            self.registry_is_whole.set()
            # One disaster is enough for a city.
            is_set_back = random.random() < SET_BACK and not self.fork
            return [CitySetBack(self, random, random.choice(CITIES))] if is_set_back else []
        both = Random(f"both {self.outcome.seed}")
        drawn = both.random()
        waits = drawn < 1 - GIVEN_UP
        setbacks: list[CitySetBack | RegistrySetBack] = [RegistrySetBack(self, random, waits=waits)]
        if drawn < BOTH_SET_BACK and not self.fork:
            setbacks.append(CitySetBack(self, both, both.choice(CITIES)))
        return setbacks

    def _unsettled(self) -> str | None:
        """Return what is under way still; None when nothing is."""
        if self.registry is None or self._rising or self._down or any(city is None for city in self.cities.values()):
            return "a node has not risen"
        if self.registry.writer.failure is not None:
            return "the registry decides nothing"
        if (table := self.oracle.healed.undecided(self.oracle.now_us())) is not None:
            return f"the registry has not decided everything in {table}"
        for code, city in self.cities.items():
            if self.oracle.registry.head(code) != self.oracle.cities[code].head(code):
                return f"the registry does not hold all of {code}"
            if city is None or city.replicator.backlog:
                return f"{code} has no receipt for all of its log"
        return self.oracle.healed.disagreement() or self.oracle.healed.not_erased()

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
        self.around.template.close()
