"""A nation that is recorded from rest until its machines are switched off."""

from __future__ import annotations

import asyncio
import math
import shutil
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from random import Random

from elicense.client import connect_async
from elicense.errors import Error
from elicense.sql.engines import sqlite_url
from elicense.trust.roles import Purpose
from tests.faults.disk import Disk
from tests.faults.recording import Call, recording
from tests.faults.workload import Ledger
from tests.faults.world import Node, Stores, World, running_world

#: Between two looks: licences are what the nodes are to be busy with.
_LOOK_S = 0.1


@dataclass
class Recorded:
    """What happened to one nation until its machines were switched off.

    Attributes:
        world: The nation.
        ledger: What its city was asked for, and when it acknowledged it.
        looks: Case numbers under which the registry was asked for a licence, and when it had answered.
        before: The data folder of each node before the first call.
        calls: What each node did to its files.
    """

    world: World
    ledger: Ledger
    looks: dict[str, float]
    before: dict[str, Path]
    calls: dict[str, list[Call]]

    def moments(self, random: Random, more: int) -> list[float]:
        """Return when the power is cut, in order: as each answer arrives, and when some call had begun."""
        began = [call.began for calls in self.calls.values() for call in calls]
        heard = {ask.answered_at for ask in self.ledger.asks if min(began) < ask.answered_at < math.inf}
        heard |= set(self.looks.values())
        return sorted([*heard, *random.sample(began, min(more, len(began)))])

    def disks(self) -> dict[str, Disk]:
        return {
            node.side: Disk(self.before[node.side], node.folder, self.calls[node.side]) for node in nodes_of(self.world)
        }


@dataclass
class Nation:
    """A registry and one city at rest: nothing of them runs, and all that they know is on their disks.

    Attributes:
        world: Both; nobody else remembers what they do from here on.
        ledger: What the city was asked for.
        rest: A copy of the data folder of each.
    """

    world: World
    ledger: Ledger
    rest: dict[str, Path]

    async def recorded(self, name: str, licences: int, *, pragmas: Sequence[str]) -> Recorded:
        """From rest, have the city issue licences, record it, and switch both machines off.

        Args:
            name: Of the folder for what is recorded.
            licences: How many.
            pragmas: What SQLite is told beside what the product tells it.

        Raises:
            NotPossibleHere: strace is missing, or may not attach.
        """
        world, folder, ledger = self.world, self.world.folder / name, self.ledger.as_of(math.inf)
        await asyncio.to_thread(folder.mkdir)
        recordings, before = {}, {}
        async with AsyncExitStack() as stack:
            for node in nodes_of(world):
                world.look_away(url_of(node))
                await asyncio.to_thread(_put, self.rest[node.side], node.folder)
                node.pragmas = tuple(pragmas)
                await node.start()
                await node.running.pause()
                recordings[node.side] = await stack.enter_async_context(
                    recording(node.running.pid, node.folder, folder / f"{node.side}-calls")
                )
                # Whatever it did before it was paused is taken for durable.
                before[node.side] = folder / node.side
                await asyncio.to_thread(_put, node.folder, before[node.side])
            for node in nodes_of(world):
                node.running.go_on()
            looks: dict[str, float] = {}
            looking = asyncio.create_task(_look(world, ledger.asks[0].number, looks))
            async with ledger.load(singles=3):
                await ledger.more(licences)
                for node in nodes_of(world):
                    await node.kill()
            await looking
        for node in nodes_of(world):
            node.pragmas = ()
        calls = {side: await asyncio.to_thread(done.calls) for side, done in recordings.items()}
        return Recorded(world, ledger, looks, before, calls)


@asynccontextmanager
async def resting_nation(folder: Path) -> AsyncIterator[Nation]:
    """Found a nation below ``folder``; whatever of it runs has ended on return."""
    await asyncio.to_thread(folder.mkdir)
    async with running_world(folder, Stores()) as world:
        ledger = Ledger(world.suzhou)
        await ledger.issue_until_acknowledged()
        await world.caught_up(world.suzhou)
        # Nobody may remember what the two will have forgotten.
        await world.tianjin.stop()
        rest = {}
        for node in nodes_of(world):
            await node.stop()
            world.look_away(url_of(node))
            rest[node.side] = folder / f"{node.side}-at-rest"
            await asyncio.to_thread(_put, node.folder, rest[node.side])
        yield Nation(world, ledger, rest)


def _put(source: Path, target: Path) -> None:
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(source, target)


def nodes_of(world: World) -> tuple[Node, Node]:
    """Return those who are recorded."""
    return world.suzhou, world.registry


def url_of(node: Node) -> str:
    """Return the URL of a node's database."""
    return sqlite_url(node.folder / f"{node.side}.db")


async def _look(world: World, number: str, looks: dict[str, float]) -> None:
    """Ask the registry for one licence again and again, each time for another case, until it is switched off."""
    async with connect_async(world.police) as police:
        for case in map("cut-{}".format, count()):
            try:
                await police.verify(number, purpose=Purpose.ROADSIDE_CHECK, case_number=case)
                looks[case] = time.time()
            except Error:
                # Not there yet, or not any more.
                if not world.registry.running.alive:
                    return
            await asyncio.sleep(_LOOK_S)
