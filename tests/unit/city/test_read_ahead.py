"""The next batch is read while the registry takes in the one before, and sent only if it is the next."""

from __future__ import annotations

import asyncio

import pytest

from city_node.batches import Batch
from city_node.read_ahead import ReadAhead
from elicense.errors import StoreUnavailable
from elicense.log.model import LogKey

KEY = LogKey(320500, 1)


class Batches:
    """Notes which batches are read, and which of them to the end."""

    def __init__(self) -> None:
        self.begun: list[tuple[int, int]] = []
        self.ended: list[int] = []
        self.free = asyncio.Event()
        self.free.set()
        self.away = False

    async def read(self, key: LogKey, start: int, *, wanted: int = 0) -> Batch:
        self.begun.append((start, wanted))
        await self.free.wait()
        if self.away:
            raise StoreUnavailable("the database is away")
        self.ended.append(start)
        return Batch([], b"note", start + 10, 0)


async def test_a_batch_that_was_read_ahead_is_not_read_again() -> None:
    batches = Batches()
    ahead = ReadAhead(batches)
    ahead.begin(KEY, 10)
    await asyncio.sleep(0)
    assert batches.begun == [(10, 0)]
    assert (await ahead.read(KEY, 10)).size == 20
    assert batches.begun == [(10, 0)]
    # Once: the one after it is another.
    assert (await ahead.read(KEY, 10)).size == 20
    assert batches.begun == [(10, 0), (10, 0)]


@pytest.mark.parametrize(("key", "start", "wanted"), [(KEY, 5, 0), (KEY, 10, 64), (LogKey(320500, 2), 10, 0)])
async def test_another_batch_than_the_one_that_was_read_ahead_is_read_anew(
    key: LogKey, start: int, wanted: int
) -> None:
    batches = Batches()
    ahead = ReadAhead(batches)
    batches.free.clear()
    ahead.begin(KEY, 10)
    await asyncio.sleep(0)
    batches.free.set()
    assert (await ahead.read(key, start, wanted=wanted)).size == start + 10
    assert batches.begun == [(10, 0), (start, wanted)]
    assert batches.ended == [start]


async def test_what_is_dropped_is_read_no_further() -> None:
    batches = Batches()
    ahead = ReadAhead(batches)
    batches.free.clear()
    ahead.begin(KEY, 10)
    await asyncio.sleep(0)
    ahead.drop()
    batches.free.set()
    assert (await ahead.read(KEY, 10)).size == 20
    assert batches.ended == [10]


async def test_a_database_that_is_away_is_told_when_the_batch_is_asked_for() -> None:
    batches = Batches()
    ahead = ReadAhead(batches)
    batches.away = True
    ahead.begin(KEY, 10)
    await asyncio.sleep(0)
    with pytest.raises(StoreUnavailable):
        await ahead.read(KEY, 10)
    batches.away = False
    assert (await ahead.read(KEY, 10)).size == 20
