"""Whose batch is read when: one at a time of each city, and with a doubt where the one before was refused.

To hash and parse a batch takes longer than anything else that a city can ask for.
So no city has more than one read at a time, also when it gives up its calls, and of one that may be in quarantine
nothing is read that will not be taken in (:mod:`registry.explanation`): what it sends costs the others nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

from elicense.errors import LogForked, Quarantined, QueueFull, RootMismatch

T = TypeVar("T")

MOST_WAITING: Final = 4
"""Batches of one city that are held at once.  It has one under way, and those that it has given up may be others."""


@dataclass(slots=True)
class _Line:
    """The batches of one city.

    Attributes:
        turn: Held by the one that is read.
        held: How many there are.
        refused: Whether the last one was refused over its head: only then it is asked whether it is in quarantine.
    """

    turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    held: int = 0
    refused: bool = False


class Admission:
    """Lets batches in."""

    def __init__(self) -> None:
        self._lines: dict[int, _Line] = {}

    @asynccontextmanager
    async def turn(self, city: int) -> AsyncIterator[bool]:
        """Wait for a city's turn; the batch is to be taken in meanwhile.

        Yields:
            Whether the one before was refused over its head: this one need not be read if the city is in quarantine.

        Raises:
            QueueFull: Too many of its batches wait already.
        """
        line = self._lines.setdefault(city, _Line())
        if line.held >= MOST_WAITING:
            raise QueueFull("earlier batches of this city are still being read; send one at a time", city=city)
        line.held += 1
        try:
            async with line.turn:
                try:
                    yield line.refused
                except (LogForked, RootMismatch, Quarantined):
                    line.refused = True
                    raise
                line.refused = False
        finally:
            line.held -= 1


async def to_its_end(work: Coroutine[Any, Any, T]) -> T:
    """Return the result of work that a thread or another process does; a caller that gives up waits for its end too.

    Neither stops because nobody waits any more, and a turn must not be over before they do.
    """
    task = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait((task,))
        if not task.cancelled():
            task.exception()  # seen here, since nobody waits for it
        raise
