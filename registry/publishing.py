"""The task that has written what nobody asks for: the vector of city heads, once a minute, and what cities signed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Final, Protocol

import structlog

from elicense.errors import Error

#: How often it is looked whether a vector is due; with several processes the first one writes it.
LOOK_S: Final = 10.0

_log = structlog.stdlib.get_logger(__name__)


class Publishing(Protocol):
    """Writes vectors to the registry's log."""

    async def publish(self) -> bool:
        """Write the vector if one is due; tell whether it was."""

    async def keep_told(self) -> bool:
        """Write what cities signed that they know; tell whether there may be more."""


class HeadPublisher:
    """Has vectors, and what cities signed, written in the background.

    Args:
        log: Writes both.
        leads: Whether this process does.
        look_s: How often to look, seconds.
    """

    def __init__(self, *, log: Publishing, leads: Callable[[], bool], look_s: float = LOOK_S) -> None:
        self._log = log
        self._leads = leads
        self._look_s = look_s
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin."""
        self._task = asyncio.create_task(self._run(), name="head-publisher")

    async def stop(self) -> None:
        """End; what is due is written after the next start."""
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task

    async def publish(self) -> bool:
        """Write what cities signed, and the vector if one is due; tell whether it was.

        Raises:
            Error: It could not be written.
        """
        while await self._log.keep_told():
            pass
        return await self._log.publish()

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(self._look_s)
            if not self._leads():
                continue
            try:
                await self.publish()
            except Error as error:
                _log.warning("heads_not_published", reason=error.reason)
            except Exception as error:  # the task must outlive any one failure
                _log.error("heads_not_published", exc_info=error)
