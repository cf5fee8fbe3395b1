"""Long work on an event loop, in slices: whoever else waits for the loop gets a turn in between."""

from __future__ import annotations

import asyncio
from typing import Final

#: The longest slice, seconds.  A licence at the counter comes back to the loop a dozen times.
SLICE_S: Final = 0.000_5
#: Looking at the clock costs as much as some of the work, so it is looked at every so many times.
_TIMES: Final = 8


class Turns:
    """Time of one piece of work on the running loop."""

    def __init__(self) -> None:
        self._clock = asyncio.get_running_loop().time
        self._until = self._clock() + SLICE_S
        self._left = _TIMES

    async def give_way(self) -> None:
        """Let others run if this work has had the loop for long; to be called again and again."""
        self._left -= 1
        if self._left:
            return
        self._left = _TIMES
        if self._clock() >= self._until:
            await asyncio.sleep(0)
            self._until = self._clock() + SLICE_S
