"""Calls that wait together leave as one.

Under load many callers want the same kind of thing at once: a row, a
certificate, a durable write.  A :class:`Coalescer` hands whatever is waiting to
one flush, so that the cost per item falls as the load rises, while a lone item
leaves at once.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Final, Generic, TypeVar

from elicense.errors import Error, QueueFull, ShuttingDown

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    #: Told how many items the flush before carried, and how to learn how many wait by now.
    Pause = Callable[[int, Callable[[], int]], Awaitable[None]]

T = TypeVar("T")
R = TypeVar("R")

DEFAULT_LANES = 2
DEFAULT_MAX_BATCH = 256
DEFAULT_MAX_WAITING = 8192
"""Items that may wait: some seconds of work; a longer queue would only hold callers that have given up."""

STEP_S: Final = 0.005
"""One step of gathering behind a crowd: whoever was just answered asks again within it, if anybody does."""

STEP_EACH_S: Final = 0.001
"""How long a step is at most for each item of the flush before: few are not held up as long as a crowd."""

MAX_STEPS: Final = 6
"""Steps of gathering at most: by then a flush carries enough, and its callers have waited long enough."""

CROWD: Final = 16
"""From so many on a flush is a crowd: fewer wait for as many as were answered last, and for no more."""

_SHUTTING_DOWN = "this server is shutting down; try another one"


class Coalescer(Generic[T, R]):
    """Batches concurrent submissions; belongs to one event loop.

    A cancelled caller leaves the queue if its batch has not started; it never
    disturbs the others of its batch.

    Args:
        flush: Does the work for a batch and returns one result an item, in order. An
            :class:`~elicense.errors.Error` among the results fails that item alone; an exception
            fails the whole batch. At most ``lanes`` flushes run at a time.
        lanes: Flushes in flight at most.
        max_batch: Items in one flush at most.
        max_waiting: Items that may wait before further ones are refused.
        pause: Waited for after a flush that carried several items, or behind which several wait, so that more
            can join the next.  None for no pause.  For flushes that cost much, however little they carry.
    """

    def __init__(
        self,
        flush: Callable[[list[T]], Awaitable[Sequence[R | Error]]],
        *,
        lanes: int = DEFAULT_LANES,
        max_batch: int = DEFAULT_MAX_BATCH,
        max_waiting: int = DEFAULT_MAX_WAITING,
        pause: Pause | None = None,
    ) -> None:
        self._flush = flush
        self._lanes = lanes
        self._max_batch = max_batch
        self._max_waiting = max_waiting
        self._pause = pause
        # Outcomes travel as values, errors too: a future whose exception nobody
        # collects (its caller was cancelled meanwhile) would be reported as a bug.
        self._waiting: deque[tuple[T, asyncio.Future[R | BaseException]]] = deque()
        # Lanes at work, counted by themselves: a task is done only one turn of the
        # loop after it has looked for more, and an item in between would be missed.
        self._busy = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._closed = False

    @property
    def waiting(self) -> int:
        """Number of items that no flush has taken yet."""
        return len(self._waiting)

    async def submit(self, item: T, *, timeout_s: float | None = None) -> R:
        """Return the flush's result for ``item``.

        Args:
            item: The item.
            timeout_s: How long to wait for it, in the queue and in a flush together; None for as long as it takes.

        Raises:
            TimeoutError: There was none in time.
            QueueFull: Too many items wait already.
            ShuttingDown: The coalescer has been closed.
            Error: What the flush answered for this item or raised for its batch.
        """
        if self._closed:
            raise ShuttingDown(_SHUTTING_DOWN)
        if len(self._waiting) >= self._max_waiting:
            raise QueueFull("too many calls are waiting; try again in a moment")
        loop = asyncio.get_running_loop()
        future: asyncio.Future[R | BaseException] = loop.create_future()
        # A timer by itself costs a tenth of asyncio.timeout(), which has to be able to cancel a task.
        timer = None if timeout_s is None else loop.call_later(timeout_s, _expire, future)
        self._waiting.append((item, future))
        if self._busy < self._lanes:
            self._busy += 1
            task = asyncio.create_task(self._lane())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        try:
            outcome = await future
        finally:
            if timer is not None:
                timer.cancel()
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome

    async def close(self) -> None:
        """Refuse new items and wait until all that were accepted are done."""
        self._closed = True
        while self._tasks:
            await asyncio.wait(tuple(self._tasks))

    async def _lane(self) -> None:
        batch: list[tuple[T, asyncio.Future[R | BaseException]]] = []
        try:
            while batch := self._take():
                self._settle(batch, await self._results([item for item, _ in batch]))
                carried, batch = len(batch), []
                if self._pause is not None and max(carried, len(self._waiting)) > 1 and not self._closed:
                    await self._pause(carried, lambda: len(self._waiting))
        except asyncio.CancelledError:
            # The loop is going down: nobody will serve those of this batch, or those who still wait.
            while batch:
                self._settle(batch, [ShuttingDown(_SHUTTING_DOWN)] * len(batch))
                batch = self._take()
            raise
        finally:
            self._busy -= 1

    async def _results(self, items: list[T]) -> Sequence[R | BaseException]:
        try:
            results = await self._flush(items)
        except Exception as error:
            return [error] * len(items)
        if len(results) != len(items):
            return [RuntimeError(f"a flush of {len(items)} items gave {len(results)} results")] * len(items)
        return results

    def _take(self) -> list[tuple[T, asyncio.Future[R | BaseException]]]:
        waiting = self._waiting
        batch: list[tuple[T, asyncio.Future[R | BaseException]]] = []
        while waiting and len(batch) < self._max_batch:
            item = waiting.popleft()
            if not item[1].done():  # done here means that its caller was cancelled, or waited long enough
                batch.append(item)
        return batch

    @staticmethod
    def _settle(
        batch: Sequence[tuple[T, asyncio.Future[R | BaseException]]], results: Sequence[R | BaseException]
    ) -> None:
        for (_, future), result in zip(batch, results, strict=True):
            if not future.done():
                future.set_result(result)


def while_more_come(enough: int, *, step: Callable[[float], Awaitable[None]] = asyncio.sleep) -> Pause:
    """Return a pause in short steps until one brings no more items, of :data:`MAX_STEPS` at most.

    Args:
        enough: So many are not waited for any longer.
        step: Waits for so many seconds.
    """

    async def pause(carried: int, waiting: Callable[[], int]) -> None:
        seconds = min(STEP_S, carried * STEP_EACH_S)
        wanted = enough if carried >= CROWD else carried
        for _ in range(MAX_STEPS):
            before = waiting()
            if before >= wanted:
                return
            await step(seconds)
            # As long as nobody waits, nobody is held up: a crowd that was just answered may be a while in coming back.
            if 0 < waiting() <= before:
                return

    return pause


def _expire(future: asyncio.Future[R | BaseException]) -> None:
    if not future.done():
        future.set_result(TimeoutError())
