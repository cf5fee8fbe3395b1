"""Reads batches: large ones in processes beside the one that stores them (:mod:`elicense.workers.assistants`)."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Final

from elicense.view.person import PersonIndex
from elicense.workers.assistants import Assistants
from registry.batch import Batch
from registry.reader import MODULE, NOT_READ
from registry.reading import Reading, question_of, read_here, reading_from

LARGE: Final = 128
"""Entries from which on a batch is worth another process's while."""


class Readers:
    """Reads batches: large ones in processes of their own, as far as there are any.

    Args:
        index_key: Key of person and name tags.
        count: How many processes; 0 for none.
        command: How one is started, where it is not as usual.
        clock: Seconds that only grow.
    """

    def __init__(
        self,
        index_key: bytes,
        *,
        count: int = 0,
        command: Callable[[int], Sequence[str]] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._persons = PersonIndex(index_key)
        self._assistants = Assistants(MODULE, index_key, count=count, command=command, clock=clock)

    @property
    def pids(self) -> list[int]:
        """The processes that are up."""
        return self._assistants.pids

    async def read(self, batch: Batch) -> Reading:
        """Return what a batch says by itself.

        Raises:
            Malformed: A salt or a leaf hash has another size than it must.
        """
        if len(batch.entries) >= LARGE:
            reading = await self._assistants.ask(lambda: question_of(batch), lambda answer: self._taken(answer, batch))
            if reading is not None:
                return reading
        return await asyncio.to_thread(read_here, batch, self._persons)

    async def close(self) -> None:
        """End every reader; what one is reading just now is read here."""
        await self._assistants.close()

    def _taken(self, answer: bytes, batch: Batch) -> Reading | None:
        return None if answer == NOT_READ else reading_from(answer, batch, self._persons)
