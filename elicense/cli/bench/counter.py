"""Licences asked for at a steady rate, as citizens come to counters: how long each of them waits.

Open loop: a citizen comes when it is time, whether or not the one before was
served, and waits from then on.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence


class Counter:
    """Calls at a steady rate.

    Args:
        call: Makes one call.
        rate: Calls a second.
    """

    def __init__(self, call: Callable[[], Awaitable[object]], rate: int) -> None:
        self._call = call
        self._pause_s = 1 / rate

    async def serve(self, until: Callable[[], bool]) -> list[float]:
        """Call until ``until`` says so, at least once, and return how long each caller waited, in seconds."""
        clock = asyncio.get_running_loop().time
        began, calls = clock(), list[asyncio.Task[float]]()

        async def one(due: float) -> float:
            await self._call()
            return clock() - due

        while not calls or not until():
            due = began + len(calls) * self._pause_s
            await asyncio.sleep(due - clock())
            calls.append(asyncio.create_task(one(due)))
        return await asyncio.gather(*calls)

    async def serve_for(self, seconds: float) -> list[float]:
        """Call for so long, and return how long each caller waited, in seconds."""
        clock = asyncio.get_running_loop().time
        end = clock() + seconds
        return await self.serve(lambda: clock() >= end)


def percentile_ms(waits: Sequence[float], percent: float) -> float:
    """Return the wait, in milliseconds, that so many percent of callers did not exceed."""
    ordered = sorted(waits)
    return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))] * 1_000
