"""How many streams of questions one caller holds open, and how long one may lie still.

A stream costs a task, buffers and a place among the running calls for as long as
it is open, whether anything is asked or not.  So one on which the caller neither
sends nor reads is ended, and one caller gets only so many: whoever opens streams
and forgets them takes nothing from the others.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, Final

from elicense.errors import StreamIdle, StreamsExhausted

#: Longer than any answer takes and any network stalls without breaking; opening anew costs one round trip.
IDLE_STREAM_S: Final = 60.0
#: One stream keeps a core of either side busy, and a verifier asks from a handful of machines at once.
STREAMS_PER_CALLER: Final = 16


class OpenStreams:
    """Counts the open streams of one process; for one event loop.

    Args:
        idle_s: Seconds after which a stream on which the caller does nothing is ended.
        per_caller: Streams that one caller may hold open.
    """

    def __init__(self, *, idle_s: float = IDLE_STREAM_S, per_caller: int = STREAMS_PER_CALLER) -> None:
        self._idle_s = idle_s
        self._per_caller = per_caller
        self._open: Counter[str] = Counter()

    @contextmanager
    def opened(self, caller: str) -> Iterator[None]:
        """Count a stream of a caller while the block runs.

        Raises:
            StreamsExhausted: The caller has as many open as it may.
        """
        if self._open[caller] >= self._per_caller:
            raise StreamsExhausted(
                f"this caller has {self._per_caller} streams open; end one, or send its questions over those",
                limit=self._per_caller,
            )
        self._open[caller] += 1
        try:
            yield
        finally:
            self._open[caller] -= 1
            if not self._open[caller]:
                del self._open[caller]

    async def read(self, reading: Coroutine[Any, Any, bytes | None], ending: asyncio.Task[Any]) -> bytes | None:
        """Return what the caller sends next, or None once ``ending`` is done.

        Raises:
            StreamIdle: Nothing came in time.
        """
        next_ = asyncio.create_task(reading)
        done, _ = await asyncio.wait((next_, ending), timeout=self._idle_s, return_when=asyncio.FIRST_COMPLETED)
        if next_ in done:
            return next_.result()
        next_.cancel()
        if not done:
            raise self._idle("nothing was asked")
        return None

    async def write(self, writing: Coroutine[Any, Any, None]) -> None:
        """Send an answer, for which there is room only while the caller reads.

        Raises:
            StreamIdle: There was no room in time.
        """
        try:
            async with asyncio.timeout(self._idle_s):
                await writing
        except TimeoutError as error:
            raise self._idle("no answer was read") from error

    def _idle(self, what: str) -> StreamIdle:
        return StreamIdle(f"{what} for {self._idle_s:g} seconds; open the stream anew when there is more to ask")
