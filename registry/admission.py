"""Whose batch is read at all: one at a time of each city, and none of a city that is known to have forked.

To hash and parse a batch takes longer than anything else that a city can ask for.
So no city has more than one read at a time, also when it gives up its calls, and one whose log will not be taken in
whatever it sends is told so before: what it sends costs the others nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

from elicense.errors import LogForked, Quarantined, QueueFull, RootMismatch
from elicense.sql.database import Database
from registry.quarantine_model import Kind, refusal
from registry.store import RegistryStore

T = TypeVar("T")

MOST_WAITING: Final = 4
"""Batches of one city that are held at once.  It has one under way, and those that it has given up may be others."""


@dataclass(slots=True)
class _Line:
    """The batches of one city.

    Attributes:
        turn: Held by the one that is read.
        held: How many there are.
        refused: Whether the last one was refused over its head: only then it is asked whether the city has forked.
    """

    turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    held: int = 0
    refused: bool = False


class Admission:
    """Lets batches in.

    Args:
        database: The registry's database.
        store: Its tables.
    """

    def __init__(self, *, database: Database, store: RegistryStore) -> None:
        self._database = database
        self._store = store
        self._lines: dict[int, _Line] = {}

    @asynccontextmanager
    async def turn(self, city: int, epoch: int) -> AsyncIterator[bool]:
        """Wait for a city's turn; the batch is to be taken in meanwhile.

        Yields:
            Whether the one before was refused over its head: this one need not be read unless it explains that.

        Raises:
            QueueFull: Too many of its batches wait already.
            Quarantined: The city has signed two histories of this epoch.
            StoreUnavailable: The database is away.
        """
        line = self._lines.setdefault(city, _Line())
        if line.held >= MOST_WAITING:
            raise QueueFull("earlier batches of this city are still being read; send one at a time", city=city)
        line.held += 1
        try:
            async with line.turn:
                if line.refused:
                    await self._require_one_history(city, epoch)
                try:
                    yield line.refused
                except (LogForked, RootMismatch, Quarantined):
                    line.refused = True
                    raise
                line.refused = False
        finally:
            line.held -= 1

    async def _require_one_history(self, city: int, epoch: int) -> None:
        held = await self._database.read(lambda conn: self._store.quarantines.of(conn, city))
        if held is not None and held.open and (held.epoch, held.kind) == (epoch, Kind.FORK):
            # One proof is enough, and nothing that it sends can take that back.
            raise refusal(held)


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
