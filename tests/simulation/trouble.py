"""What breaks: the network, machines, clocks and COMMITs, until the time of trouble is over."""

from __future__ import annotations

import asyncio
from random import Random
from typing import TYPE_CHECKING, Final

from tests.simulation.database import Fate
from tests.simulation.loop import Owner
from tests.simulation.network import Weather
from tests.simulation.nodes import Node
from tests.simulation.template import CITIES

if TYPE_CHECKING:
    from tests.simulation.scenario import Nation

#: How long things fail, virtual seconds.
TROUBLE_S: Final = 12.0
_WEATHER: Final = (
    Weather(),
    Weather(0.5),
    Weather(0.05, lost=0.2),
    Weather(0.2, doubled=0.5),
    Weather(2.0, 0.1, 0.3),
)
_CLOCKS_OFF_S: Final = (0.0, -5.0, 5.0, -300.0, 300.0, 660.0, -660.0)


class Trouble:
    """Breaks a nation.

    Args:
        nation: The nation.
        random: Draws what happens.
    """

    def __init__(self, nation: Nation, random: Random) -> None:
        self._nation = nation
        self._random = random
        #: Chance that a node crashes before any one of its callbacks.
        self._crash_chance = random.choice((0.0, 0.0005, 0.002))
        #: Chance that a database does not say what became of a COMMIT.
        self._unheard_chance = random.choice((0.0, 0.0, 0.05))
        self._lasts = True

    async def run(self) -> None:
        """Bring about one thing after the other until the time of trouble is over."""
        nation = self._nation
        while nation.loop.time() < TROUBLE_S:
            await asyncio.sleep(self._random.uniform(0.1, 2.0))
            self._random.choice((self._cut, self._storm, self._crash_one, self._power_cut, self._jump))()
        self._lasts = False
        nation.network.weather, nation.network.cut = Weather(), set()
        for code in CITIES:
            nation.set_clock(code, 0.0)
        nation.event("healed")

    def may_crash(self, owner: Owner) -> bool:
        """Return whether a node crashed before a callback of its."""
        if self._lasts and self._crash_chance and self._random.random() < self._crash_chance:
            assert isinstance(owner, Node)
            self._nation.crash(owner)
            return True
        return False

    def fate(self) -> Fate:
        """Return what becomes of a COMMIT."""
        if not self._lasts or self._random.random() >= self._unheard_chance:
            return Fate.HEARD
        fate = self._random.choice((Fate.UNHEARD, Fate.UNDONE))
        self._nation.event(f"a commit is {fate.value}")
        return fate

    def _cut(self) -> None:
        pair = frozenset(("registry", str(self._random.choice(CITIES))))
        self._nation.network.cut ^= {pair}
        self._nation.event(f"{'cut' if pair in self._nation.network.cut else 'joined'} {sorted(pair)}")

    def _storm(self) -> None:
        self._nation.network.weather = self._random.choice(_WEATHER)
        self._nation.event(f"{self._nation.network.weather}")

    def _crash_one(self, *, power: bool = False) -> None:
        node = self._random.choice([self._nation.registry, *self._nation.cities.values()])
        if node is not None:
            self._nation.crash(node, power=power)

    def _power_cut(self) -> None:
        self._crash_one(power=True)

    def _jump(self) -> None:
        code = self._random.choice(CITIES)
        off_s = self._random.choice(_CLOCKS_OFF_S)
        self._nation.set_clock(code, off_s)
        self._nation.event(f"clock of {code} off by {off_s:.0f} s")
