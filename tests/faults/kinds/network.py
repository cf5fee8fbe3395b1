"""The way between a city and the registry: cut, silent, slow, or open on one side alone."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from tests.faults.fault import Fault, Trial
from tests.faults.processes import until
from tests.faults.world import SUZHOU

#: Licences of a backlog: more than a city of the first wave issued in three days, some 2,000 a day.
_BACKLOG = 10_000
#: Windows at which they are issued.
_WINDOWS = 32
#: A generous time for that: five a second.
_FILLING_S = 2_000.0
#: What sending it may add to the city's memory: some batches on their way, however many wait behind them.
_GROWTH_MIB = 64.0


@asynccontextmanager
async def cut(trial: Trial) -> AsyncIterator[None]:
    trial.city.upstream.cut()
    try:
        yield
    finally:
        trial.city.upstream.heal()


@asynccontextmanager
async def silent(trial: Trial) -> AsyncIterator[None]:
    """Packets vanish; once they do not, what was sent meanwhile arrives late."""
    trial.city.upstream.hold()
    try:
        yield
    finally:
        trial.city.upstream.heal()


@asynccontextmanager
async def answers_lost(trial: Trial) -> AsyncIterator[None]:
    """Batches and claims arrive, answers do not."""
    trial.city.upstream.deaf = True
    try:
        yield
    finally:
        # Connections that lost a part of their stream are of no use any more.
        trial.city.upstream.heal()
        trial.city.upstream.drop()


@asynccontextmanager
async def half_open(trial: Trial) -> AsyncIterator[None]:
    """The registry's end of each connection is gone, and the city is not told."""
    trial.city.upstream.half_open()
    yield


@asynccontextmanager
async def slow(trial: Trial) -> AsyncIterator[None]:
    trial.city.upstream.delay_s = 0.1
    try:
        yield
    finally:
        trial.city.upstream.heal()


@asynccontextmanager
async def flapping(trial: Trial) -> AsyncIterator[None]:
    for _ in range(10):
        await trial.a_moment(0.05)
        trial.city.upstream.drop()
    yield


@asynccontextmanager
async def backlog(trial: Trial) -> AsyncIterator[None]:
    """Three days' licences while the registry is away; then they leave at once."""
    world, city = trial.world, trial.city
    city.upstream.cut()
    try:
        # One at a time, by many: imports wait for the registry.
        async with trial.ledger.load(singles=_WINDOWS, imports=0):
            await until(lambda: _waiting(trial) >= _BACKLOG, deadline_s=_FILLING_S)
        yield
    finally:
        waiting = _waiting(trial)
        memory = resident_mib(city.running.pid)
        started = time.perf_counter()
        city.upstream.heal()
    await world.caught_up(city, deadline_s=300)
    took = time.perf_counter() - started
    grown = resident_mib(city.running.pid) - memory
    trial.notes.append(f"{waiting:,} entries caught up in {took:.1f} s; the city's memory grew by {grown:.0f} MiB")
    assert grown <= _GROWTH_MIB, f"sending a backlog took {grown:.0f} MiB"


def _waiting(trial: Trial) -> int:
    """Return how many entries the city holds that the registry lacks."""
    held, received = trial.world.sizes(trial.city)
    return held - received


def resident_mib(pid: int) -> float:
    """Return the resident memory of a process."""
    with open(f"/proc/{pid}/status", encoding="ascii") as status:  # noqa: PTH123
        line = next(line for line in status if line.startswith("VmRSS"))
    return int(line.split()[1]) / 1_024


_WAY = "network cut, silent, half open, dropping, slow; answers lost"

NETWORK = (
    Fault("network cut", cut, SUZHOU, long_rounds=20, goes_on=3, group=_WAY),
    Fault("network silent (black hole)", silent, SUZHOU, rounds=0, long_rounds=3, goes_on=1, group=_WAY),
    Fault("answers lost, requests arrive", answers_lost, SUZHOU, long_rounds=5, goes_on=1, group=_WAY),
    Fault("connections half open", half_open, SUZHOU, rounds=0, long_rounds=2, goes_on=1, group=_WAY),
    Fault("connections dropped again and again", flapping, SUZHOU, rounds=0, long_rounds=20, group=_WAY),
    Fault("100 ms on every packet", slow, SUZHOU, rounds=0, long_rounds=3, goes_on=3, group=_WAY),
    Fault("backlog of three days", backlog, SUZHOU, rounds=0, long_rounds=1),
)
