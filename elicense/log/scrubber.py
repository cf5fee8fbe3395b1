"""Scrubbing what was erased out of the database's files, at once and again after a crash.

1. The commit that empties slots marks them (:mod:`elicense.log.erased_store`).
2. The files are searched for what stood there, and written anew if it is found.
3. Only once nothing is found the marks go; one that is left, after a crash or
   because somebody still read the old pages, has the files written anew later.

A pass goes through the whole database, so what is erased while one runs, or soon
after it, waits and rides in the next: a lone erasure is scrubbed at once, and many in
a row cost a few passes.
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
PAUSE_S: Final = 2.0
"""How long after a pass the next one begins at the earliest: as long as a clerk takes to ask for the next erasure."""
LONGEST_PAUSE_S: Final = 300.0
"""And at the latest: what was erased must not be readable in the files for much longer than a pass takes."""
#: So many times as long as a pass took nothing is scrubbed after it: no more than a quarter of the time is spent so.
_REST: Final = 3.0
SEARCHED_TRACES: Final = 96
"""Most traces that are searched for: each costs 0.15 ms for a MiB, and writing that anew about as much as hundred."""


class Scrubber:
    """Scrubs one database, one pass at a time.

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
        #: What stood in slots that no pass was over yet, as far as it is worth searching for.
        self._waiting: dict[tuple[LogKey, int], Erased] = {}
        self._more = False
        self._begun = self._over = 0  # numbers of the last pass that began, and that left nothing
        self._free_at = 0.0
        self._left = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Scrub in the background what waits, and what was left by a crash or by another process, until nothing is."""
        self._left.set()
        if self._task is None:
            self._task = asyncio.create_task(self._run(), name="scrubber")

    def due(self, erased: Sequence[Erased]) -> None:
        """Have what was erased scrubbed soon; for whoever must answer without waiting for it."""
        if self._database.dialect == "sqlite":
            self._note(erased)
            self._left.set()

    async def scrub(self, erased: Sequence[Erased]) -> bool:
        """Scrub what was erased; return whether nothing of it is left in any of the database's files.

        Soon after a pass nothing is done yet: what was erased waits for the next one, and this tells that it may
        be left.

        Raises:
            StoreUnavailable: The database is away.
        """
        if self._database.dialect != "sqlite":
            return False
        self._note(erased)
        before = self._begun
        async with self._turn:
            if self._over > before:
                return True  # it rode along
            if _now() < self._free_at:
                self._left.set()
                return False
            return await self._pass()

    async def scrub_rest(self) -> bool:
        """Scrub whatever is marked, for somebody who asks again; return whether nothing is left.

        Raises:
            StoreUnavailable: The database is away.
        """
        if self._database.dialect != "sqlite":
            return False
        async with self._turn:
            if not await self._database.read(self._erased.unscrubbed):
                return True
            await asyncio.sleep(min(max(0.0, self._free_at - _now()), PAUSE_S))
            return await self._pass(rest=True)

    async def close(self) -> None:
        """Scrub what waits and end; what is left is found at the next start."""
        async with self._turn:
            if self._task is not None:
                self._task.cancel()
                await asyncio.wait((self._task,))
            with suppress(Error):
                await self._pass()

    def _note(self, erased: Sequence[Erased]) -> None:
        for each in erased:
            if len(self._waiting) < SEARCHED_TRACES:
                self._waiting[each.key, each.index] = each
            else:
                self._more = True  # they are marked, and not searched for

    async def _pass(self, *, rest: bool = False) -> bool:
        """Go through the files once for all that waits, and with ``rest`` for all that is marked."""
        self._begun += 1
        number, taken, more = self._begun, dict(self._waiting), self._more
        self._more = False
        marked = await self._database.read(self._erased.unscrubbed) if rest or more else []
        # What stood in other slots nobody knows any more.
        unknown = [place for place in marked if place not in taken]
        if not taken and not unknown:
            self._over = number
            return True
        traces = [trace for each in taken.values() for trace in each.traces]
        hints = [hint for each in taken.values() for hint in each.hints]
        searched = not unknown and len(traces) + len(hints) <= SEARCHED_TRACES
        began = _now()
        gone = await asyncio.to_thread(scrub, self._url, traces if searched else None, hints)
        took = _now() - began
        pause_s = min(max(PAUSE_S, took * _REST), LONGEST_PAUSE_S)
        self._free_at = _now() + (pause_s if gone else max(pause_s, RETRY_S))
        if not gone:
            self._more = self._more or more
            self._left.set()
            return False
        await self._database.write(lambda conn: self._erased.scrubbed(conn, [*taken, *unknown]))
        self._over = number
        for place in taken:
            self._waiting.pop(place, None)
        _log.info("scrubbed", slots=len(taken) + len(unknown), seconds=round(took, 3), waiting=len(self._waiting))
        return True

    async def _run(self) -> None:
        rest = True
        while True:
            try:
                async with asyncio.timeout(RETRY_S):
                    await self._left.wait()
            except TimeoutError:
                # What was emptied where nobody tells of it is found by its mark.
                rest = True
            await asyncio.sleep(max(0.0, self._free_at - _now()))
            self._left.clear()
            try:
                async with self._turn:
                    await self._pass(rest=rest)
                rest = False
            except Error as error:
                _log.warning("scrub_failed", reason=error.reason, detail=error.message)
                self._free_at, rest = _now() + RETRY_S, True
                self._left.set()


def _now() -> float:
    return asyncio.get_running_loop().time()
