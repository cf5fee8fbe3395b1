"""Learning what the other processes of a node have done: a few small reads, again and again."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

import structlog

from elicense.errors import Error
from elicense.rpc.telemetry import describe_exception

HALT_S: Final = 0.2
"""How soon a process stops signing once another of its node had to."""

REFRESH_S: Final = 0.5
"""How soon it learns of what the others were told by the registry or by cities."""

Look = Callable[[], Awaitable[None]]

_log = structlog.stdlib.get_logger(__name__)


class Colleagues:
    """Looks at what the others did, each thing at its own pace.

    Args:
        looks: What to look at and how often, in seconds; nothing for a process that has no others beside it.
    """

    def __init__(self, looks: Sequence[tuple[float, Look]]) -> None:
        self._looks = tuple(looks)
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Begin."""
        self._tasks = [
            asyncio.create_task(_repeat(period_s, look), name="colleagues") for period_s, look in self._looks
        ]

    async def close(self) -> None:
        """End."""
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)


async def _repeat(period_s: float, look: Look) -> None:
    failing = False
    while True:
        await asyncio.sleep(period_s)
        try:
            await look()
            failing = False
        except Error as error:
            if not failing:
                _log.warning("colleagues_not_seen", reason=error.reason, detail=error.message)
            failing = True
        except Exception as error:  # a bug must not leave this process blind, in silence
            _log.error("colleagues_not_seen", **describe_exception(error))
