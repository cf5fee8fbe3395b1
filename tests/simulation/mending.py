"""How a city that has two histories is restored to the one that the registry holds, by its operator."""

from __future__ import annotations

import asyncio
import sqlite3
from random import Random
from typing import TYPE_CHECKING, Final

from elicense.errors import EpochClosed, EpochNotBound, Error, LogBehind, LogForked, Quarantined, RootMismatch
from tests.simulation.restoring import Restoring
from tests.simulation.template import file_of
from tests.simulation.written import Violated

if TYPE_CHECKING:
    from tests.simulation.scenario import Nation

#: When whatever is broken has been healed for long, virtual seconds.
_LATEST_S: Final = 100.0
#: Upon which an operator moves the database aside: it holds what the registry never will.
_OTHERS: Final = (LogForked, LogBehind, RootMismatch, EpochClosed, EpochNotBound)


class Mending:
    """Restores one city.

    Args:
        nation: The nation.
        random: Draws when, and how long its operator waits for each attempt.
        code: The city.
    """

    def __init__(self, nation: Nation, random: Random, code: int) -> None:
        self._nation = nation
        self._random = random
        self._code = code
        self._restoring = Restoring(nation, random, code)

    async def run(self) -> None:
        """Stop the city some time later, and restore it."""
        nation, oracle = self._nation, self._nation.oracle
        await asyncio.sleep(self._random.uniform(0.5, 8))
        await nation.registry_is_whole.wait()
        nation.keep_down(str(self._code))
        oracle.about_to_set_back(self._code)
        while True:
            refused = await self._restoring.attempt()
            if refused is None:
                break
            if nation.loop.time() > _LATEST_S:
                raise Violated(f"{self._code} can not be restored: {refused}")
            if isinstance(refused, EpochNotBound):
                # A call of its last moments was on its way still; nothing was issued in the epoch that lacks it.
                oracle.put_aside(self._code)
            if self._holds_others(refused):
                self._move_aside()
            await asyncio.sleep(self._random.uniform(0.1, 1))
        oracle.mended(self._code)
        await nation.let_up(str(self._code))

    @staticmethod
    def _holds_others(refused: Error | TimeoutError) -> bool:
        if isinstance(refused, Quarantined):
            return "heldSize" in refused.metadata
        return isinstance(refused, _OTHERS)

    def _move_aside(self) -> None:
        """Begin with the database of a city that has joined and done nothing."""
        nation, code = self._nation, self._code
        nation.oracle.moves_aside(code)
        with sqlite3.connect(file_of(nation.around.template.cities[code].database_url)) as source:
            source.backup(nation.oracle.cities[code].connection)
        source.close()
        nation.event(f"the database of {code} is moved aside")
