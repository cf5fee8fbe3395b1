"""Reading the next batch while the registry takes in the one before.

There is one call in flight; to read and to put together what the next one carries takes a city about as long
as the registry takes to read it, and need not wait for the answer.
"""

from __future__ import annotations

import asyncio
from typing import Protocol

from city_node.batches import Batch
from elicense.log.model import LogKey


class ReadsBatches(Protocol):
    """Cuts a log into batches; see :class:`~city_node.batches.BatchReader`."""

    async def read(self, key: LogKey, start: int, *, wanted: int = 0) -> Batch:
        """Return the batch of a log that starts at an index."""


class ReadAhead:
    """Reads batches, one of them ahead.

    Args:
        batches: Where they come from.
    """

    def __init__(self, batches: ReadsBatches) -> None:
        self._batches = batches
        #: Where the batch starts, and who reads it.
        self._ahead: tuple[LogKey, int, asyncio.Task[Batch]] | None = None

    def begin(self, key: LogKey, start: int) -> None:
        """Begin to read a batch as large as a call carries, which is probably the next."""
        self.drop()
        self._ahead = key, start, asyncio.create_task(self._batches.read(key, start))

    async def read(self, key: LogKey, start: int, *, wanted: int = 0) -> Batch:
        """Return a batch: the one that was read ahead, or a new one if that is another.

        Raises:
            StoreUnavailable: The database is away.
        """
        ahead = self._ahead
        if ahead is None or wanted or ahead[:2] != (key, start):
            self.drop()
            return await self._batches.read(key, start, wanted=wanted)
        self._ahead = None
        # Who is cancelled while it waits for a task cancels that too.
        return await ahead[2]

    def drop(self) -> None:
        """Leave what was read ahead: the registry goes on elsewhere, or nothing is sent any more."""
        if self._ahead is not None:
            task = self._ahead[2]
            task.cancel()
            # It may have failed already, which nobody is to hear of.
            task.add_done_callback(lambda ended: ended.cancelled() or ended.exception())
            self._ahead = None
