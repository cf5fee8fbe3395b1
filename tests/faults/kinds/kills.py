"""Processes that end, stop or double without warning."""

from __future__ import annotations

import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

from tests.faults.fault import Fault, Trial
from tests.faults.processes import until
from tests.faults.world import SUZHOU, Node

#: A blow falls within this time of running work.
_WITHIN_S = 0.05
_ALIVE = "two processes on one database; either side paused"


@asynccontextmanager
async def _killed(trial: Trial, *nodes: Node) -> AsyncIterator[None]:
    await trial.a_moment(_WITHIN_S)
    for node in nodes:
        await node.kill()
    yield
    for node in nodes:
        await node.start()


@asynccontextmanager
async def city_killed(trial: Trial) -> AsyncIterator[None]:
    async with _killed(trial, trial.city):
        yield


@asynccontextmanager
async def registry_killed(trial: Trial) -> AsyncIterator[None]:
    async with _killed(trial, trial.world.registry):
        yield


@asynccontextmanager
async def either_killed(trial: Trial) -> AsyncIterator[None]:
    """Kill city, registry, or both at once."""
    city, registry = trial.city, trial.world.registry
    choices: list[tuple[Node, ...]] = [(city,), (registry,), (city, registry)]
    async with _killed(trial, *trial.moments.choice(choices)):
        yield


@asynccontextmanager
async def registry_paused(trial: Trial) -> AsyncIterator[None]:
    await trial.world.registry.running.pause()
    try:
        yield
    finally:
        trial.world.registry.running.signal(signal.SIGCONT)


@asynccontextmanager
async def city_paused(trial: Trial) -> AsyncIterator[None]:
    await trial.city.running.pause()
    try:
        # Nobody is answered, so all of them come to wait for it.
        await until(lambda: trial.ledger.waiting == trial.ledger.callers)
    finally:
        trial.city.running.signal(signal.SIGCONT)
    yield


@asynccontextmanager
async def city_twice(trial: Trial) -> AsyncIterator[None]:
    """A second process over the same database, and both are asked."""
    city = trial.city
    node = city.config.node.model_copy(update={"listen": trial.world.cluster.ports.address()})
    again = replace(
        city,
        folder=city.folder.with_name(f"{city.folder.name}-again"),
        config=city.config.model_copy(update={"node": node}),
        process=None,
    )
    await again.start()
    try:
        async with trial.ledger.load(at=again, singles=4):
            await trial.ledger.more(100)
            yield
    finally:
        await again.kill()


KILLS = (
    Fault("kill -9 of the city", city_killed, SUZHOU, rounds=2, long_rounds=350),
    Fault("kill -9 of the registry", registry_killed, SUZHOU, rounds=0, long_rounds=350),
    Fault("kill -9 of either or both", either_killed, SUZHOU, rounds=1, long_rounds=350),
    Fault("two processes on one city's database", city_twice, SUZHOU, long_rounds=5, goes_on=50, group=_ALIVE),
    Fault("registry paused (SIGSTOP)", registry_paused, SUZHOU, rounds=0, long_rounds=3, goes_on=1, group=_ALIVE),
    Fault("city paused (SIGSTOP)", city_paused, SUZHOU, rounds=0, long_rounds=20, group=_ALIVE),
)
