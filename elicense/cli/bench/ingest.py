"""A city whose records come in at a steady rate, while something else is measured."""

from __future__ import annotations

import asyncio
from typing import Final

from elicense.cli.bench.sending import SendingCity

_BATCHES_A_SECOND: Final = 10


class SteadyIngest:
    """One city's new licences, ten batches a second, whatever the registry does besides.

    A batch that comes late does not hold the next one back, unless the registry takes
    longer for one than there is between two: a city has one call in flight.

    Args:
        city: Who sends.
        first_holder: Ordinal of the first person without a licence.
        rate: Records a second.
        seconds: How long one run sends.
    """

    def __init__(self, city: SendingCity, *, first_holder: int, rate: int, seconds: float) -> None:
        self._city = city
        self._next = first_holder
        self._batch = max(1, rate // _BATCHES_A_SECOND)
        self._pause_s = self._batch / rate
        self._batches = max(1, round(seconds / self._pause_s))

    async def prepare(self) -> None:
        """Claim the persons of the next run and sign its batches."""
        last = self._next + self._batches * self._batch
        await self._city.prepare(range(self._next, last), batch=self._batch)
        self._next = last

    async def run(self) -> int:
        """Send what was prepared, each batch when it is due, and return how many records it was."""
        clock = asyncio.get_running_loop().time
        began, sent = clock(), 0
        for number in range(self._batches):
            await asyncio.sleep(began + number * self._pause_s - clock())
            sent += await self._city.send(1)
        # A run lasts as long as it says, also when the last batch was taken at once.
        await asyncio.sleep(began + self._batches * self._pause_s - clock())
        return sent
