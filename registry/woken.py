"""A task that does what waits: once it is woken, and now and then unasked."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress

import structlog

from elicense.errors import Error

_log = structlog.stdlib.get_logger(__name__)


class Woken:
    """Does one piece of work over and over, in the background, whatever goes wrong with it.

    What waits must be in a table: nothing is remembered here but that somebody asked.

    Args:
        work: Does what waits; told whether somebody asked for it.
        every_s: How often it is done unasked, seconds.
        failed: Event under which a failure is logged.
    """

    def __init__(self, work: Callable[[bool], Awaitable[None]], *, every_s: float, failed: str) -> None:
        self._work = work
        self._every_s = every_s
        self._failed = failed
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin, at once with what waits already."""
        self._task = asyncio.create_task(self._run(), name=self._failed)

    def wake(self) -> None:
        """Have it done soon; also before the start."""
        self._wake.set()

    async def stop(self) -> None:
        """End; what is not done yet waits."""
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task

    async def _run(self) -> None:
        while True:
            asked = self._wake.is_set()
            self._wake.clear()
            try:
                await self._work(asked)
            except Error as error:
                # What waits is still in its table; the next round tries again.
                _log.warning(self._failed, reason=error.reason)
            except Exception as error:  # the task must outlive any one failure
                _log.error(self._failed, exc_info=error)
            with suppress(TimeoutError):
                async with asyncio.timeout(self._every_s):
                    await self._wake.wait()
