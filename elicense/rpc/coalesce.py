"""Calls that wait together leave as one.

Under load many callers want the same kind of thing at once: a row, a
certificate, a durable write.  A :class:`Coalescer` hands whatever is waiting to
one flush, so that the cost per item falls as the load rises, while a lone item
leaves at once.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Generic, TypeVar

from elicense.errors import Error, QueueFull, ShuttingDown

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

T = TypeVar("T")
R = TypeVar("R")

DEFAULT_LANES = 2
DEFAULT_MAX_BATCH = 256
DEFAULT_MAX_WAITING = 8192
"""Items that may wait: some seconds of work; a longer queue would only hold callers that have given up."""


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
    """

    def __init__(
        self,
        flush: Callable[[list[T]], Awaitable[Sequence[R | Error]]],
        *,
        lanes: int = DEFAULT_LANES,
        max_batch: int = DEFAULT_MAX_BATCH,
        max_waiting: int = DEFAULT_MAX_WAITING,
    ) -> None:
        self._flush = flush
        self._lanes = lanes
        self._max_batch = max_batch
        self._max_waiting = max_waiting
        # Outcomes travel as values, errors too: a future whose exception nobody
        # collects (its caller was cancelled meanwhile) would be reported as a bug.
        self._waiting: deque[tuple[T, asyncio.Future[R | BaseException]]] = deque()
        self._running: set[asyncio.Task[None]] = set()
        self._closed = False

    @property
    def waiting(self) -> int:
        """Number of items that no flush has taken yet."""
        return len(self._waiting)

    async def submit(self, item: T) -> R:
        """Return the flush's result for ``item``.

        Raises:
            QueueFull: Too many items wait already.
            ShuttingDown: The coalescer has been closed.
            Error: What the flush answered for this item or raised for its batch.
        """
        if self._closed:
            raise ShuttingDown("this server is shutting down; try another one")
        if len(self._waiting) >= self._max_waiting:
            raise QueueFull("too many calls are waiting; try again in a moment")
        future: asyncio.Future[R | BaseException] = asyncio.get_running_loop().create_future()
        self._waiting.append((item, future))
        if len(self._running) < self._lanes:
            task = asyncio.create_task(self._lane())
            self._running.add(task)
            task.add_done_callback(self._running.discard)
        outcome = await future
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome

    async def close(self) -> None:
        """Refuse new items and wait until all that were accepted are done."""
        self._closed = True
        while self._running:
            await asyncio.wait(tuple(self._running))

    async def _lane(self) -> None:
        while batch := self._take():
            items = [item for item, _ in batch]
            try:
                results: Sequence[R | BaseException] = await self._flush(items)
                if len(results) != len(items):
                    raise RuntimeError(f"a flush of {len(items)} items gave {len(results)} results")
            except asyncio.CancelledError:
                # The lane itself was cancelled: the loop is going down.
                results = [ShuttingDown("this server is shutting down; try another one")] * len(items)
                self._settle(batch, results)
                raise
            except Exception as error:
                results = [error] * len(items)
            self._settle(batch, results)

    def _take(self) -> list[tuple[T, asyncio.Future[R | BaseException]]]:
        waiting = self._waiting
        batch: list[tuple[T, asyncio.Future[R | BaseException]]] = []
        while waiting and len(batch) < self._max_batch:
            item = waiting.popleft()
            if not item[1].done():  # done here means that its caller was cancelled
                batch.append(item)
        return batch

    @staticmethod
    def _settle(
        batch: Sequence[tuple[T, asyncio.Future[R | BaseException]]], results: Sequence[R | BaseException]
    ) -> None:
        for (_, future), result in zip(batch, results, strict=True):
            if not future.done():
                future.set_result(result)
