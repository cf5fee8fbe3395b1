from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from elicense.errors import StoreUnavailable
from elicense.sql.lanes import Lanes


class Busy:
    """One thread, and work that keeps it busy until it is let go."""

    def __init__(self) -> None:
        self.threads = ThreadPoolExecutor(1)
        self.lanes = Lanes(self.threads)
        self.free = threading.Event()
        self.done: list[str] = []

    async def occupy(self) -> asyncio.Task[bool]:
        began = threading.Event()

        def work() -> bool:
            began.set()
            return self.free.wait(30)

        task = asyncio.create_task(self.lanes.run(work))
        assert await asyncio.to_thread(began.wait, 30)
        return task

    async def add(self, name: str, *, gives_way: bool = False) -> asyncio.Task[None]:
        task = asyncio.create_task(self.lanes.run(lambda: self.done.append(name), gives_way=gives_way))
        await asyncio.sleep(0)
        return task


@pytest.fixture
async def busy() -> AsyncIterator[Busy]:
    busy = Busy()
    yield busy
    busy.free.set()
    busy.threads.shutdown()


async def test_what_gives_way_waits_for_everything_else(busy: Busy) -> None:
    first = await busy.occupy()
    tasks = [await busy.add(name, gives_way=name.startswith("bulk")) for name in ("bulk 1", "a", "bulk 2", "b")]
    busy.free.set()
    await asyncio.gather(first, *tasks)
    assert busy.done == ["a", "b", "bulk 1", "bulk 2"]


async def test_everyone_gets_the_result_or_the_error_of_their_own_work(busy: Busy) -> None:
    def fail() -> None:
        raise KeyError("mine")

    first = await busy.occupy()
    failing = asyncio.create_task(busy.lanes.run(fail, gives_way=True))
    counting = asyncio.create_task(busy.lanes.run(lambda: 7))
    await asyncio.sleep(0)
    busy.free.set()
    assert await counting == 7
    with pytest.raises(KeyError, match="mine"):
        await failing
    assert await first


async def test_work_whose_caller_has_gone_is_left_out(busy: Busy) -> None:
    first = await busy.occupy()
    gone, kept = await busy.add("gone"), await busy.add("kept")
    gone.cancel()
    await asyncio.wait([gone])
    busy.free.set()
    await asyncio.gather(first, kept)
    assert busy.done == ["kept"]


async def test_threads_that_are_shut_down_take_no_work(busy: Busy) -> None:
    busy.threads.shutdown()
    with pytest.raises(StoreUnavailable):
        await busy.lanes.run(lambda: None)


async def test_what_still_waits_when_the_threads_are_shut_down_gets_a_typed_error_and_is_not_called(busy: Busy) -> None:
    under_way = await busy.occupy()
    waiting = [await busy.add("first"), await busy.add("second", gives_way=True)]
    busy.threads.shutdown(wait=False, cancel_futures=True)
    with pytest.raises(StoreUnavailable):
        await busy.lanes.run(lambda: busy.done.append("late"))
    busy.free.set()
    assert await under_way
    for each in waiting:
        with pytest.raises(StoreUnavailable):
            await each
    assert busy.done == []


async def test_what_waits_is_done_when_the_threads_are_given_time_to_end(busy: Busy) -> None:
    under_way = await busy.occupy()
    waiting = [await busy.add("first"), await busy.add("second", gives_way=True)]
    busy.free.set()
    await asyncio.to_thread(busy.threads.shutdown)
    await asyncio.gather(under_way, *waiting)
    assert busy.done == ["first", "second"]
