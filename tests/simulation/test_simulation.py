"""A short run of the simulation, and that it can fail."""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import pytest
from sqlalchemy import Connection

from registry.batch import Batch, Taken
from registry.ingest import Ingest
from tests.simulation.database import SimDatabase
from tests.simulation.nodes import Doubles, Template, make_template
from tests.simulation.run import memory, tell
from tests.simulation.scenario import simulate

T = TypeVar("T")
U = TypeVar("U")

SEEDS = int(os.environ.get("SIMULATE_SEEDS", "60"))
#: Runs side by side, one after the other in each.
PARTS = 4


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Template]:
    with tempfile.TemporaryDirectory(dir=memory()) as scratch:
        yield asyncio.run(make_template(tmp_path_factory.mktemp("template"), Path(scratch)))


@pytest.mark.parametrize("part", range(PARTS))
def test_no_promise_is_broken_whatever_fails(template: Template, part: int) -> None:
    for seed in range(part, SEEDS, PARTS):
        outcome = simulate(seed, template)
        assert outcome.violation is None, tell(outcome)
        assert outcome.acknowledged
        assert outcome.checks


def test_a_seed_replays_exactly(template: Template) -> None:
    assert simulate(3, template) == simulate(3, template)


class SignsBeforeItIsDurable(SimDatabase):
    """Does what should come after the commit within it."""

    async def write_then(self, fn: Callable[[Connection], T], then: Callable[[T], U], *, gives_way: bool = False) -> U:
        return await self.write(lambda conn: then(fn(conn)))


class TakesEverythingForNew(Ingest):
    """Does not compare what it holds with what is sent."""

    def _compare(self, *_: object) -> int:
        return 0


class TrustsFastClocks(Ingest):
    """Takes a city's word for what it records while its call is under way."""

    async def append(self, batch: Batch) -> Taken:
        return await super().append(replace(batch, left_us=None))


@pytest.mark.parametrize(
    ("double", "told"),
    [
        (Doubles(database=SignsBeforeItIsDurable), "entries that were signed"),
        (Doubles(ingest=TakesEverythingForNew), "stopped signing"),
        (Doubles(ingest=TrustsFastClocks, clock_off_s=300.0), "calls that complete"),
    ],
    ids=["signing before it is durable", "taking everything for new", "trusting fast clocks"],
)
def test_a_planted_fault_is_found(template: Template, double: Doubles, told: str) -> None:
    violations = (simulate(seed, template, doubles=double).violation for seed in range(40))
    assert told in next(violation for violation in violations if violation is not None)
