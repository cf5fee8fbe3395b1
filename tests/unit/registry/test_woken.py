"""A task that is woken: what it does, also after a failure, and when it ends."""

from __future__ import annotations

import asyncio

from elicense.errors import Unavailable
from registry.woken import Woken

LONG_S = 1_000.0


class Work:
    """Notes each time whether somebody asked, and may fail."""

    def __init__(self) -> None:
        self.asked: list[bool] = []
        self.fails: list[Exception] = []
        self.done = asyncio.Event()

    async def __call__(self, asked: bool) -> None:
        self.asked.append(asked)
        self.done.set()
        if self.fails:
            raise self.fails.pop()

    async def next(self) -> None:
        async with asyncio.timeout(20):
            await self.done.wait()
        self.done.clear()


async def test_it_works_at_once_and_whenever_it_is_woken_whatever_went_wrong_before() -> None:
    work = Work()
    work.fails = [RuntimeError("a fault"), Unavailable("the database is away")]
    woken = Woken(work, every_s=LONG_S, failed="not_done")
    woken.start()
    await work.next()
    for _ in range(3):
        woken.wake()
        await work.next()
    await woken.stop()
    assert work.asked == [False, True, True, True]


async def test_it_works_unasked_now_and_then() -> None:
    work = Work()
    woken = Woken(work, every_s=0.0, failed="not_done")
    woken.start()
    await work.next()
    await work.next()
    await woken.stop()
    assert not any(work.asked)


async def test_what_was_woken_before_the_start_was_asked_for_and_stopping_twice_or_unstarted_is_nothing() -> None:
    work = Work()
    woken = Woken(work, every_s=LONG_S, failed="not_done")
    await woken.stop()
    woken.wake()
    woken.start()
    await work.next()
    await woken.stop()
    await woken.stop()
    assert work.asked == [True]
