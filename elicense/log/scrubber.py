"""Scrubbing what was erased out of the database's files, at once and again after a crash.

1. The commit that empties slots marks them (:mod:`elicense.log.erased_store`).
2. The files are searched for what stood there, and written anew if it is found.
3. Only once nothing is found the marks go; one that is left, after a crash or
   because somebody still read the old pages, has the files written anew later.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from typing import Final

import structlog

from elicense.errors import Error
from elicense.log.erased_store import Erased, ErasedStore
from elicense.log.model import LogKey
from elicense.sql.database import Database
from elicense.sql.scrub import scrub

_log = structlog.stdlib.get_logger(__name__)

RETRY_S: Final = 60.0
"""How often marks are looked for, and how soon a scrub that somebody's reading kept from its end is tried again."""


class Scrubber:
    """Scrubs one database, one run at a time.

    Args:
        url: The database, for the search of its files.
        database: The same.
        erased: Knows what is to be scrubbed.
    """

    def __init__(self, url: str, *, database: Database, erased: ErasedStore) -> None:
        self._url = url
        self._database = database
        self._erased = erased
        self._turn = asyncio.Lock()
        self._running: set[asyncio.Task[None]] = set()
        self._left = asyncio.Event()
        self._redoing: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Scrub in the background what was left, by a crash or by another process, until nothing is."""
        self._left.set()
        if self._redoing is None:
            self._redoing = asyncio.create_task(self._redo(), name="scrubber")

    def due(self, erased: Sequence[Erased]) -> None:
        """Have what was erased scrubbed soon; for whoever must answer without waiting for it."""
        task = asyncio.get_running_loop().create_task(self._run(erased))
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    async def scrub(self, erased: Sequence[Erased]) -> bool:
        """Scrub what was erased; return whether nothing of it is left in any of the database's files.

        Raises:
            StoreUnavailable: The database is away.
        """
        async with self._turn:
            traces = [trace for each in erased for trace in each.traces]
            return await self._wipe([(each.key, each.index) for each in erased], traces)

    async def scrub_rest(self) -> bool:
        """Scrub whatever is marked; return whether nothing is left.

        Raises:
            StoreUnavailable: The database is away.
        """
        if self._database.dialect != "sqlite":
            return False
        async with self._turn:
            places = await self._database.read(self._erased.unscrubbed)
            # What stood there nobody knows any more.
            return not places or await self._wipe(places, None)

    async def close(self) -> None:
        """Wait for what is under way; what is left is found at the next start."""
        if self._redoing is not None:
            self._redoing.cancel()
            await asyncio.wait((self._redoing,))
        if self._running:
            await asyncio.wait(self._running)

    async def _wipe(self, places: Sequence[tuple[LogKey, int]], traces: Sequence[bytes] | None) -> bool:
        gone = await asyncio.to_thread(scrub, self._url, traces)
        if gone:
            await self._database.write(lambda conn: self._erased.scrubbed(conn, places))
        elif self._database.dialect == "sqlite":
            self._left.set()
        return gone

    async def _run(self, erased: Sequence[Erased]) -> None:
        try:
            gone = await self.scrub(erased)
        except Error as error:
            _log.warning("scrub_failed", reason=error.reason, detail=error.message)
            self._left.set()
            return
        _log.info("erased", slots=len(erased), traces_gone=gone)

    async def _redo(self) -> None:
        while True:
            with suppress(TimeoutError):
                # What was emptied where nobody waits for it, as with a decision, is found by its mark.
                await asyncio.wait_for(self._left.wait(), RETRY_S)
            self._left.clear()
            try:
                await self.scrub_rest()
            except Error as error:
                _log.warning("scrub_failed", reason=error.reason, detail=error.message)
                self._left.set()
            if self._left.is_set():
                await asyncio.sleep(RETRY_S)
