"""What those feel who are not attacked: a healthy city's clerk, and police who ask the registry and that city.

They ask at set times, whatever the answers do, and each call counts from when it
was due: a node that stalls can not hide it.  Times of peace and of attack take
turns within one run, so that whatever else the machine does falls on both.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from itertools import count

from elicense.cli.load.calls import Asked, verifying
from elicense.cli.load.loops import Loop
from elicense.cli.load.tally import Tally
from elicense.client import Question, connect_async
from tests.faults.workload import Ledger
from tests.faults.world import Node, World

ISSUE = "a licence in the healthy city"
ASK_REGISTRY = "a verification at the registry"
ASK_CITY = "a verification in the healthy city"

#: Calls a second of each kind: far from what the nodes can do, so that waiting is not of their own making.
_RATE = 12
#: Licences asked about in turn.
_HOLDERS = 200

MOST_AT_P50 = 1.5
"""How many times as long the median call of those who are not attacked may take during an attack.

Of the slowest in a hundred nothing is asked: they are four of some 360 calls, on processors that the attack shares.
"""
#: Fewer calls than these say nothing: the short form has a dozen.
_JUDGED_FROM = 100


@dataclass(frozen=True, slots=True)
class Spread:
    """What calls of one kind took, milliseconds, and how many failed."""

    calls: int
    failed: int
    p50_ms: float
    p99_ms: float

    @classmethod
    def of(cls, tally: Tally) -> Spread:
        p50, p99 = (tally.latency.percentile(percent) / 1_000 for percent in (50, 99))
        # One that was due as the time ended and was never made has waited, not failed.
        return cls(tally.calls, tally.errors.total(), p50, p99)


@dataclass(frozen=True, slots=True)
class Felt:
    """What one kind of call took in times of peace and of attack.

    Attributes:
        call: What was asked for.
        peace: Before and between.
        attack: Meanwhile.
    """

    call: str
    peace: Spread
    attack: Spread

    @property
    def ratios(self) -> tuple[float, float]:
        """How much longer a call took during the attack: the median, and all but one in a hundred."""
        return self.attack.p50_ms / self.peace.p50_ms, self.attack.p99_ms / self.peace.p99_ms

    @property
    def too_long(self) -> str:
        """What to say where the median call took longer than it may; empty where it did not, or calls were too few."""
        p50, _ = self.ratios
        if min(self.peace.calls, self.attack.calls) < _JUDGED_FROM or p50 <= MOST_AT_P50:
            return ""
        return f"{self.call} took {p50:.2f} times as long at p50, more than {MOST_AT_P50:g}"

    def text(self) -> str:
        p50, p99 = self.ratios
        return (
            f"{self.call}: {self.peace.p50_ms:.1f} / {self.peace.p99_ms:.1f} ms in peace, {self.attack.p50_ms:.1f} / "
            f"{self.attack.p99_ms:.1f} ms meanwhile (p50 {p50:.2f} x, p99 {p99:.2f} x; {self.attack.calls:,} calls, "
            f"{self.attack.failed} failed)"
        )


@dataclass
class _Used:
    """Processor time of the nodes that were not attacked, seconds, and over how long."""

    processor_s: float = 0.0
    elapsed_s: float = 0.0

    @property
    def percent(self) -> float:
        return 100 * self.processor_s / self.elapsed_s if self.elapsed_s else 0.0


Attacking = Callable[[], AbstractAsyncContextManager[None]]


@dataclass
class Bystanders:
    """See :func:`bystanders`."""

    calls: Mapping[str, Callable[[int], Awaitable[int]]]
    registry: Node
    used: tuple[_Used, _Used] = field(default_factory=lambda: (_Used(), _Used()))
    _numbers: dict[str, count[int]] = field(default_factory=dict)

    async def feel(self, attacking: Attacking, *, rounds: int, seconds: float) -> list[Felt]:
        """Ask in peace and during an attack by turns, and return what it took.

        Args:
            attacking: Attacks from entry to exit.
            rounds: How many times each.
            seconds: How long a time.
        """
        peace, attack = ({call: Tally() for call in self.calls} for _ in range(2))
        for _ in range(rounds):
            await self._ask(peace, seconds, self.used[0])
            async with attacking():
                await self._ask(attack, seconds, self.used[1])
        return [Felt(call, Spread.of(peace[call]), Spread.of(attack[call])) for call in self.calls]

    async def _ask(self, tallies: Mapping[str, Tally], seconds: float, used: _Used) -> None:
        began, processor_s = time.monotonic(), self.registry.running.processor_s()

        def opened(place: int, name: str) -> Awaitable[float]:
            loop = Loop(
                self._in_turn(name),
                tallies[name],
                seconds=seconds,
                max_calls=None,
                in_flight=500,
                stop=asyncio.Event(),
                each_second=lambda _: None,
            )
            # The kinds take turns, so that none always follows another.
            return loop.open((number + place / len(self.calls)) / _RATE for number in count())

        await asyncio.gather(*(opened(place, name) for place, name in enumerate(self.calls)))
        used.elapsed_s += time.monotonic() - began
        used.processor_s += self.registry.running.processor_s() - processor_s

    def _in_turn(self, name: str) -> Callable[[int], Awaitable[int]]:
        """Return a call that counts on from one time to the next, so that nobody is asked about more than others."""
        numbers = self._numbers.setdefault(name, count())
        return lambda _: self.calls[name](next(numbers))


@asynccontextmanager
async def bystanders(world: World, ledger: Ledger) -> AsyncIterator[Bystanders]:
    """Have licences in the healthy city, and connections of those who ask for them and about them.

    Args:
        world: The nation.
        ledger: What the healthy city is asked for.
    """
    city = ledger.city
    async with AsyncExitStack() as stack:
        line = city.line()
        stack.push_async_callback(line.hang_up)
        if (missing := _HOLDERS - ledger.acknowledged) > 0:
            await ledger.import_rows(line, [ledger.new(bulk=True) for _ in range(missing)])
            await world.caught_up(city)
        holders = [Question(ask.number) for ask in ledger.asks if ask.name][:_HOLDERS]

        async def issue(_: int) -> int:
            await ledger.issue(line)
            return 1

        calls: dict[str, Callable[[int], Awaitable[int]]] = {ISSUE: issue}
        for name, police in ((ASK_REGISTRY, world.police), (ASK_CITY, world.city_police)):
            client = await stack.enter_async_context(connect_async(police))
            calls[name] = verifying([client], Asked(holders))
        yield Bystanders(calls, world.registry)
