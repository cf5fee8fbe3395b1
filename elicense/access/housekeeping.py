"""Chores of a node, done again and again: what is old is dropped, what waits is moved."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

import structlog

from elicense.errors import Error
from elicense.rpc.telemetry import describe_exception

HOUSEKEEPING_SECONDS: Final = 60.0

_log = structlog.stdlib.get_logger(__name__)


class Housekeeper:
    """Runs chores one after the other, at the start and every so often.

    A chore that fails is logged and tried again the next time; it never keeps the
    others from running.

    Args:
        chores: What is to be done.
        period_s: Seconds between two rounds.
    """

    def __init__(self, chores: Sequence[Callable[[], Awaitable[None]]], *, period_s: float = HOUSEKEEPING_SECONDS):
        self._chores = tuple(chores)
        self._period_s = period_s
        self._stop = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin."""
        self._task = asyncio.create_task(self._run(), name="housekeeper")

    async def close(self) -> None:
        """End after the chore that is being done."""
        self._stop.set()
        if self._task is not None:
            await self._task

    async def _run(self) -> None:
        while not self._stop.is_set():
            for chore in self._chores:
                if self._stop.is_set():
                    return
                await self._do(chore)
            try:
                async with asyncio.timeout(self._period_s):
                    await self._stop.wait()
            except TimeoutError:
                continue

    async def _do(self, chore: Callable[[], Awaitable[None]]) -> None:
        try:
            await chore()
        except Error as error:
            _log.warning("chore_failed", reason=error.reason, detail=error.message)
        except Exception as error:  # a bug in one chore must not end the others, in silence
            _log.error("chore_failed", **describe_exception(error))
