"""Long work on an event loop, in slices: whoever else waits for the loop gets a turn in between."""

from __future__ import annotations

import asyncio
from typing import Final

#: The longest slice, seconds: what a call to another node takes in any case.
SLICE_S: Final = 0.001


class Turns:
    """Time of one piece of work on the running loop."""

    def __init__(self) -> None:
        self._clock = asyncio.get_running_loop().time
        self._until = self._clock() + SLICE_S

    async def give_way(self) -> None:
        """Let others run if this work has had the loop for long; to be called again and again."""
        if self._clock() >= self._until:
            await asyncio.sleep(0)
            self._until = self._clock() + SLICE_S
