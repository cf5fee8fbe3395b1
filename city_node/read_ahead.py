"""Reading the next batch while the registry takes in the one before.

There is one call in flight; to read and to put together what the next one carries takes a city about as long
as the registry takes to read it, and need not wait for the answer.
"""

from __future__ import annotations

import asyncio
from typing import NamedTuple, Protocol

from city_node.batches import Batch
from elicense.log.model import LogKey


class ReadsBatches(Protocol):
    """Cuts a log into batches; see :class:`~city_node.batches.BatchReader`."""

    async def read(self, key: LogKey, start: int, *, wanted: int = 0) -> Batch:
        """Return the batch of a log that starts at an index."""


class _Cut(NamedTuple):
    """Which batch it is."""

    key: LogKey
    start: int
    wanted: int


class ReadAhead:
    """Reads batches, one of them ahead.

    Args:
        batches: Where they come from.
    """

    def __init__(self, batches: ReadsBatches) -> None:
        self._batches = batches
        self._ahead: tuple[_Cut, asyncio.Task[Batch]] | None = None

    def begin(self, key: LogKey, start: int, *, wanted: int = 0) -> None:
        """Begin to read a batch, which is probably the next."""
        self.drop()
        cut = _Cut(key, start, wanted)
        self._ahead = cut, asyncio.create_task(self._batches.read(key, start, wanted=wanted))

    async def read(self, key: LogKey, start: int, *, wanted: int = 0) -> Batch:
        """Return a batch: the one that was read ahead, or a new one if that is another.

        Raises:
            StoreUnavailable: The database is away.
        """
        ahead, self._ahead = self._ahead, None
        if ahead is not None:
            cut, task = ahead
            if cut == (key, start, wanted):
                try:
                    return await task
                finally:
                    task.cancel()  # where this call is: nobody else waits for it
            _leave(task)
        return await self._batches.read(key, start, wanted=wanted)

    def drop(self) -> None:
        """Leave what was read ahead: the registry goes on elsewhere, or nothing is sent any more."""
        if self._ahead is not None:
            _leave(self._ahead[1])
            self._ahead = None


def _leave(task: asyncio.Task[Batch]) -> None:
    task.cancel()
    task.add_done_callback(lambda ended: ended.cancelled() or ended.exception())
