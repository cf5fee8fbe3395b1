from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence

import pytest

from elicense.errors import Error, NotFound, QueueFull, ShuttingDown, StoreUnavailable
from elicense.rpc.coalesce import CROWD, MAX_STEPS, STEP_EACH_S, STEP_S, Coalescer, while_more_come


class Gate:
    """A flush that waits until it is let through, and remembers its batches."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.open = asyncio.Event()
        self.running = 0
        self.most_running = 0

    async def __call__(self, items: list[int]) -> Sequence[int | Error]:
        self.batches.append(items)
        self.running += 1
        self.most_running = max(self.most_running, self.running)
        try:
            await self.open.wait()
        finally:
            self.running -= 1
        return [item * 10 if item >= 0 else NotFound("negative") for item in items]


async def turns(count: int = 5) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def test_a_lone_item_leaves_at_once() -> None:
    gate = Gate()
    gate.open.set()
    coalescer = Coalescer(gate)
    assert await coalescer.submit(4) == 40
    assert gate.batches == [[4]]


async def test_items_that_wait_leave_together_and_each_gets_its_own_result() -> None:
    gate = Gate()
    coalescer = Coalescer(gate, lanes=1, max_batch=100)
    first = asyncio.create_task(coalescer.submit(0))
    await turns()
    rest = [asyncio.create_task(coalescer.submit(i)) for i in range(1, 51)]
    await turns()
    assert coalescer.waiting == 50
    gate.open.set()
    assert list(await asyncio.gather(first, *rest)) == [i * 10 for i in range(51)]
    assert gate.batches == [[0], list(range(1, 51))]


class Pauses:
    """Pauses that last until they are let through."""

    def __init__(self) -> None:
        self.after: list[int] = []
        self._over = asyncio.Semaphore(0)

    async def __call__(self, carried: int, waiting: Callable[[], int]) -> None:
        self.after.append(carried)
        self.waiting = waiting
        await self._over.acquire()

    async def end_one(self) -> None:
        self._over.release()
        await turns()


async def test_a_lone_item_behind_another_waits_for_no_pause() -> None:
    gate, pauses = Gate(), Pauses()
    gate.open.set()
    coalescer = Coalescer(gate, lanes=1, pause=pauses)
    for item in range(3):
        assert await coalescer.submit(item) == item * 10
    assert pauses.after == []


async def test_after_several_items_the_next_flush_pauses_so_that_more_can_join() -> None:
    gate, pauses = Gate(), Pauses()
    gate.open.set()
    coalescer = Coalescer(gate, lanes=1, pause=pauses)
    await asyncio.gather(*(coalescer.submit(item) for item in (1, 2)))
    await turns()
    assert pauses.after == [2]
    asked = []
    for item in (3, 4):
        asked.append(asyncio.create_task(coalescer.submit(item)))
        await turns()
    assert gate.batches == [[1, 2]]
    assert pauses.waiting() == 2
    await pauses.end_one()
    await asyncio.gather(*asked)
    assert gate.batches == [[1, 2], [3, 4]]


async def test_when_several_wait_as_a_lone_item_is_done_others_may_join_them() -> None:
    gate, pauses = Gate(), Pauses()
    coalescer = Coalescer(gate, lanes=1, pause=pauses)
    asked = [asyncio.create_task(coalescer.submit(9))]
    await turns()
    asked += [asyncio.create_task(coalescer.submit(item)) for item in (1, 2)]
    await turns()
    gate.open.set()
    await turns()
    assert pauses.after == [1]
    asked.append(asyncio.create_task(coalescer.submit(3)))
    await turns()
    await pauses.end_one()
    await asyncio.gather(*asked)
    assert gate.batches == [[9], [1, 2, 3]]


async def test_an_item_behind_a_pause_in_which_nobody_came_leaves_at_once() -> None:
    gate, pauses = Gate(), Pauses()
    gate.open.set()
    coalescer = Coalescer(gate, lanes=1, pause=pauses)
    await asyncio.gather(*(coalescer.submit(item) for item in (1, 2)))
    await turns()
    await pauses.end_one()
    assert await coalescer.submit(3) == 30
    assert gate.batches == [[1, 2], [3]]


@pytest.mark.parametrize(
    ("counts", "steps"),
    [
        ([0, 0, 0, 1, 1], 4),
        ([0] * 30, MAX_STEPS),
        ([3, 3], 1),
        ([1, 2, 2], 2),
        ([5, 4], 1),
        ([1, 2, 40], 2),
        ([40], 0),
        (range(100, 0, -1), 0),
        (range(30), MAX_STEPS),
    ],
)
async def test_behind_a_crowd_more_are_waited_for_while_they_come_and_not_for_ever(
    counts: Iterable[int], steps: int
) -> None:
    assert await steps_of(counts, carried=CROWD) == [STEP_S] * steps


@pytest.mark.parametrize(("counts", "steps"), [([1, 3, 4], 1), ([3], 0), ([0, 0, 3], 2), ([1, 1], 1), ([1, 2, 2], 2)])
async def test_a_few_wait_for_as_many_as_there_were_and_in_shorter_steps(counts: Iterable[int], steps: int) -> None:
    assert await steps_of(counts, carried=3) == [3 * STEP_EACH_S] * steps


async def steps_of(counts: Iterable[int], *, carried: int) -> list[float]:
    """Return the steps that are taken while so many wait before each."""
    waiting = iter(counts)
    now, taken = next(waiting), list[float]()

    async def step(seconds: float) -> None:
        nonlocal now
        taken.append(seconds)
        now = next(waiting)

    await while_more_come(40, step=step)(carried, lambda: now)
    return taken


async def test_a_batch_has_a_limit() -> None:
    gate = Gate()
    gate.open.set()
    coalescer = Coalescer(gate, lanes=1, max_batch=3)
    await asyncio.gather(*(coalescer.submit(i) for i in range(8)))
    assert [len(batch) for batch in gate.batches] == [3, 3, 2]


async def test_no_more_flushes_run_than_there_are_lanes() -> None:
    gate = Gate()
    coalescer = Coalescer(gate, lanes=2, max_batch=1)
    tasks = [asyncio.create_task(coalescer.submit(i)) for i in range(6)]
    await turns()
    assert gate.running == 2
    gate.open.set()
    await asyncio.gather(*tasks)
    assert gate.most_running == 2


async def test_an_error_for_one_item_fails_that_item_alone() -> None:
    gate = Gate()
    gate.open.set()
    coalescer = Coalescer(gate, lanes=1)
    results = await asyncio.gather(*(coalescer.submit(i) for i in (1, -1, 2)), return_exceptions=True)
    assert results[0] == 10
    assert isinstance(results[1], NotFound)
    assert results[2] == 20


async def test_an_exception_fails_the_whole_batch_and_not_the_next() -> None:
    failing = True

    async def flush(items: list[int]) -> list[int]:
        if failing:
            raise StoreUnavailable("away")
        return items

    coalescer = Coalescer(flush, lanes=1)
    results = await asyncio.gather(coalescer.submit(1), coalescer.submit(2), return_exceptions=True)
    assert all(isinstance(result, StoreUnavailable) for result in results)
    failing = False
    assert await coalescer.submit(3) == 3


async def test_a_flush_that_forgets_an_item_fails_its_batch() -> None:
    async def flush(items: list[int]) -> list[int]:
        return items[1:]

    with pytest.raises(RuntimeError):
        await Coalescer(flush).submit(1)


async def test_too_many_waiting_items_are_refused_at_once() -> None:
    gate = Gate()
    coalescer = Coalescer(gate, lanes=1, max_waiting=2)
    running = asyncio.create_task(coalescer.submit(0))
    await turns()
    waiting = [asyncio.create_task(coalescer.submit(i)) for i in (1, 2)]
    await turns()
    with pytest.raises(QueueFull):
        await coalescer.submit(3)
    gate.open.set()
    assert list(await asyncio.gather(running, *waiting)) == [0, 10, 20]


async def test_a_cancelled_waiter_leaves_the_queue_and_disturbs_nobody() -> None:
    gate = Gate()
    coalescer = Coalescer(gate, lanes=1)
    first = asyncio.create_task(coalescer.submit(0))
    await turns()
    waiting = [asyncio.create_task(coalescer.submit(i)) for i in (1, 2, 3)]
    await turns()
    waiting[1].cancel()
    await turns()
    gate.open.set()
    assert list(await asyncio.gather(first, waiting[0], waiting[2])) == [0, 10, 30]
    assert gate.batches == [[0], [1, 3]]


async def test_a_waiter_cancelled_during_its_flush_disturbs_nobody() -> None:
    gate = Gate()
    coalescer = Coalescer(gate, lanes=1)
    tasks = [asyncio.create_task(coalescer.submit(i)) for i in (1, -2, 3)]
    await turns()
    tasks[1].cancel()
    await turns()
    gate.open.set()
    assert list(await asyncio.gather(tasks[0], tasks[2])) == [10, 30]
    assert tasks[1].cancelled()


async def test_closing_finishes_what_was_accepted_and_refuses_the_rest() -> None:
    gate = Gate()
    coalescer = Coalescer(gate, lanes=1, max_batch=1)
    tasks = [asyncio.create_task(coalescer.submit(i)) for i in (1, 2)]
    await turns()
    closing = asyncio.create_task(coalescer.close())
    await turns()
    assert not closing.done()
    with pytest.raises(ShuttingDown):
        await coalescer.submit(3)
    gate.open.set()
    await closing
    assert await asyncio.gather(*tasks) == [10, 20]


async def test_a_flush_that_is_cancelled_tells_its_waiters() -> None:
    async def flush(items: list[int]) -> list[int]:
        raise asyncio.CancelledError

    with pytest.raises(ShuttingDown):
        await Coalescer(flush).submit(1)


async def test_a_caller_that_comes_back_at_once_is_served_again() -> None:
    async def flush(items: list[int]) -> list[int | Error]:
        return [NotFound("x") if item % 2 else item for item in items]

    # The flush never waits, so the caller is back before the lane's task counts as done.
    coalescer = Coalescer(flush, lanes=1)
    async with asyncio.timeout(30):
        for i in range(0, 100, 2):
            assert await coalescer.submit(i) == i
            with pytest.raises(NotFound):
                await coalescer.submit(i + 1)


async def test_cancelling_a_lane_tells_everyone_who_waits() -> None:
    gate = Gate()
    coalescer = Coalescer(gate, lanes=1, max_batch=1)
    tasks = [asyncio.create_task(coalescer.submit(i)) for i in (1, 2)]
    await turns()
    (lane,) = [task for task in asyncio.all_tasks() if task.get_coro().__qualname__ == "Coalescer._lane"]  # type: ignore[union-attr]
    lane.cancel()
    for task in tasks:
        with pytest.raises(ShuttingDown):
            await task
