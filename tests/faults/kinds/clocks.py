"""Clocks that are wrong, and clocks that step back."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

from tests.faults.fault import Break, Fault, Trial, log_of
from tests.faults.processes import until
from tests.faults.world import SUZHOU

_MINUTES_11 = 660.0
_GROUP = "clock of either side 11 min off, or stepping to and fro"


@asynccontextmanager
async def off(trial: Trial, *, side: str, seconds: float) -> AsyncIterator[None]:
    """Beyond ten minutes the registry takes nothing more from the city, which issues all the same."""
    registry = trial.world.registry
    clock = trial.city.clock if side == "city" else registry.clock
    said = _skewed(registry.folder)
    clock.set(seconds)
    try:
        await until(lambda: _skewed(registry.folder) > said)
        yield
    finally:
        clock.set(0)


def _skewed(folder: Path) -> int:
    return log_of(folder).count("CLOCK_SKEWED")


@asynccontextmanager
async def stepping(trial: Trial) -> AsyncIterator[None]:
    """The city's clock jumps to and fro within what is allowed; its log's times never step back (fsck)."""
    try:
        for _ in range(5):
            trial.city.clock.set(trial.moments.uniform(-300, 300))
            await trial.ledger.more(5)
        yield
    finally:
        trial.city.clock.set(0)


def _off(side: str, seconds: float) -> Break:
    return partial(off, side=side, seconds=seconds)


CLOCKS = (
    Fault("city's clock 11 min ahead", _off("city", _MINUTES_11), SUZHOU, goes_on=1, long_rounds=3, group=_GROUP),
    *(
        Fault(name, _off(side, seconds), SUZHOU, rounds=0, goes_on=1, long_rounds=3, group=_GROUP)
        for name, side, seconds in (
            ("city's clock 11 min behind", "city", -_MINUTES_11),
            ("registry's clock 11 min ahead", "registry", _MINUTES_11),
            ("registry's clock 11 min behind", "registry", -_MINUTES_11),
        )
    ),
    Fault("city's clock stepping to and fro", stepping, SUZHOU, rounds=0, long_rounds=10, group=_GROUP),
)
