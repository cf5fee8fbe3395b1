"""When the city calls the registry next: at once, or after others had their turn, after more has come, or a while."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from city_node.replicated import OwnLog

FIRST_BACKOFF_S: Final = 0.1
#: A decision on a provisional licence takes one commit of the registry's own log.
DECISION_S: Final = 0.25
#: Short, because a registry that is back should hear of the backlog at once.
LONGEST_BACKOFF_S: Final = 5.0

#: How long the registry's writer is left to others between two batches at most; nothing is heard of the city then.
LONGEST_TURN_S: Final = 0.25

#: How long a city that sends on waits before it does, where the last batch had few entries: more
#: come meanwhile, and a batch costs signatures and flushes on both sides however little is in it.
GATHER_S: Final = 0.05
#: From how many entries on a batch is worth what it costs.
FEW_ENTRIES: Final = 64

#: How soon a commit of another process is seen.
PEEK_S: Final = 0.05


class Pace:
    """Waits between two calls; ended by :meth:`stop`.

    Args:
        log: The city's log.
        heartbeat_s: How often the registry hears from an idle node.
        jitter: A value from 0 to 1 that spreads retries.
    """

    def __init__(self, *, log: OwnLog, heartbeat_s: float, jitter: Callable[[], float]) -> None:
        self._log = log
        self._heartbeat_s = heartbeat_s
        self._jitter = jitter
        self._wake = asyncio.Event()
        self._stop = asyncio.Event()

    @property
    def stopped(self) -> bool:
        """Whether no call is to follow."""
        return self._stop.is_set()

    def stop(self) -> None:
        """End every wait, also those to come."""
        self._stop.set()
        self._wake.set()

    def wake(self) -> None:
        """Say that there is something to send."""
        self._wake.set()

    def began(self) -> None:
        """Note that a call is being made: whatever comes from now on asks for another."""
        self._wake.clear()

    async def after_batch(self, carried: int, *, seconds: float, is_wanted: bool) -> None:
        """Wait before the next batch of a backlog.

        Args:
            carried: Entries of the last one.
            seconds: How long it took.
            is_wanted: Whether somebody waits for the registry's writer.
        """
        if is_wanted and not self._log.is_urgent:
            # Others wait for the registry's writer: they get as long for it as this city had.  Not where
            # a change made at the counter here may be behind an import: it must be visible at once.
            await wait_for(self._stop, min(LONGEST_TURN_S, seconds))
        elif 0 < carried < FEW_ENTRIES:
            await wait_for(self._stop, GATHER_S)

    async def after_failure(self, failures: int) -> None:
        """Wait before the next try: longer each time, never in step with other cities; commits do not cut it short."""
        longest = min(LONGEST_BACKOFF_S, FIRST_BACKOFF_S * 2 ** min(failures - 1, 10))
        await wait_for(self._stop, longest * (0.5 + self._jitter() / 2))

    async def idle(self, held: int, *, decision_due: bool) -> None:
        """Wait for something to send, for the registry's word on what was sent, or until a heartbeat is due.

        Args:
            held: Entries that the registry holds.
            decision_due: Whether it is deciding on some of them.
        """
        left_s = min(DECISION_S, self._heartbeat_s) if decision_due else self._heartbeat_s
        if not self._log.shared:
            await wait_for(self._wake, left_s)
            return
        # What other processes commit is looked for: nobody calls.
        while left_s > 0 and not self._wake.is_set() and await self._log.peek() <= held:
            await wait_for(self._wake, min(PEEK_S, left_s))
            left_s -= PEEK_S


async def wait_for(event: asyncio.Event, seconds: float) -> None:
    """Wait for an event, but no longer than so many seconds."""
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return
