"""What is durable of a log that other processes write too.

Up to when everything is durable can not be known from memory then: another
process may be about to commit a record whose time has passed already.  Its
transaction holds the lock of the head, so whoever takes that lock after reading
the clock sees every record of before.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

import structlog

from elicense.errors import Error, NotFound
from elicense.log.model import LogKey
from elicense.log.store import LogStore
from elicense.sql.database import Database

if TYPE_CHECKING:
    from sqlalchemy import Connection

RENEW_US: Final = 300_000
"""Age from which an answer is renewed in the background."""

_log = structlog.stdlib.get_logger(__name__)


class SharedHead:
    """The head of a log with several writers.

    Args:
        database: Where the log is.
        store: Its tables.
        key: Which log.
        clock: UTC microseconds.
    """

    def __init__(self, *, database: Database, store: LogStore, key: LogKey, clock: Callable[[], int]) -> None:
        self._database = database
        self._store = store
        self._key = key
        self._clock = clock
        self._known: tuple[int, int] | None = None
        self._renewing: asyncio.Task[tuple[int, int]] | None = None

    @property
    def size(self) -> int:
        """Number of entries that were durable when it was last asked for."""
        return 0 if self._known is None else self._known[1]

    async def read(self) -> tuple[int, int]:
        """Return a time (UTC microseconds) up to which every record is durable, and the number of durable entries.

        Raises:
            StoreUnavailable: The database is away.
        """
        now_us = self._clock()

        def locked(conn: Connection) -> int:
            head = self._store.head(conn, self._key, lock=True)
            if head is None:
                raise NotFound("the log does not exist; create it first", log=self._key.log)
            return head.size

        size = await self._database.write(locked)
        if self._known is None or self._known[0] < now_us:
            self._known = (now_us, max(size, self.size))
        return self._known

    async def recent(self) -> tuple[int, int]:
        """Like :meth:`read`, as it was a moment ago; only the first caller ever waits for a writer."""
        if self._known is None:
            return await asyncio.shield(self._renew())
        if not 0 <= self._clock() - self._known[0] < RENEW_US:
            self._renew()
        return self._known

    async def peek(self) -> int:
        """Return the number of durable entries, without waiting for a writer."""
        sizes = await self._database.read(lambda conn: self._store.head(conn, self._key))
        return 0 if sizes is None else sizes.size

    async def close(self) -> None:
        """Wait for what is under way."""
        if self._renewing is not None:
            await asyncio.wait((self._renewing,))

    def _renew(self) -> asyncio.Task[tuple[int, int]]:
        if self._renewing is None or self._renewing.done():
            self._renewing = asyncio.create_task(self.read(), name="shared-head")
            self._renewing.add_done_callback(_note)
        return self._renewing


def _note(task: asyncio.Task[tuple[int, int]]) -> None:
    # The last answer stays: it says how old it is, and lets nobody be too sure.
    if not task.cancelled() and isinstance(error := task.exception(), Error):
        _log.warning("shared_head_not_read", reason=error.reason)
