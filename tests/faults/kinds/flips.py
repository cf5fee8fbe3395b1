"""Bits that flip on a disk: one in a column at a time, on copies of databases with something in every table."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from functools import partial
from pathlib import Path

from tests.faults.fault import Attack, Tally, Trial
from tests.faults.world import SUZHOU
from tests.integration.city.filled import filled_city
from tests.integration.registry.filled import filled_registry
from tests.support.flips import Filled

_FillIn = Callable[[Path], AbstractAsyncContextManager[Filled]]


async def flipped(trial: Trial, *, side: str, fill: _FillIn) -> Tally:
    """Flip bits in every column that the self-check watches; whatever it does not find was accepted."""
    tally, folder = Tally(), trial.world.folder / f"flips-{side}"
    folder.mkdir()
    async with fill(folder) as filled:
        whole = await asyncio.to_thread(filled.fsck, filled.database)
        tally.holds(f"the self-check found something before: {whole.findings}", not whole.findings)
        for table, column in filled.flips.columns:
            for _ in range(trial.flips):
                missed = await asyncio.to_thread(filled.missed, folder / "copy.db", table, column, trial.moments)
                tally.holds(f"a flipped bit of {table}.{column} in row {missed} was not found", missed is None)
    trial.notes.append(f"{len(filled.flips.columns)} columns")
    return tally


def _flips(side: str, fill: _FillIn) -> Attack:
    # The tests of the self-check are the short form.
    name = f"a bit flipped in a column of a {side}'s database"
    return Attack(name, partial(flipped, side=side, fill=fill), SUZHOU, short=False, group=_GROUP)


_GROUP = "a bit flipped in a column of either side's database"

FLIPS = (_flips("city", filled_city), _flips("registry", filled_registry))
