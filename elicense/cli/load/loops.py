"""Making calls: at set times whatever the answers do, or each caller again once it is answered.

In an open loop a call's time counts from when it was to be made.  When the
server stalls, the calls that had to wait for their turn show it; a loop that
counted from the true start would leave them out ("coordinated omission").
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Iterator
from enum import StrEnum
from itertools import chain, count, islice
from typing import Final

import grpc

from elicense.cli.load.tally import Second, Tally
from elicense.errors import Error
from elicense.rpc.errors import from_rpc_error

DRAIN_S: Final = 15.0
"""How long calls in flight may take once no more are made."""

NOT_ANSWERED: Final = "NOT_ANSWERED"
"""Reason of a call that had no answer by then."""

_US: Final = 1_000_000

Call = Callable[[int], Awaitable[int]]
"""Makes one call, given its number, and returns how many units it brought."""


class CutShort(StrEnum):
    """Why a test ended before its time was over."""

    INTERRUPTED = "interrupted"
    """Somebody stopped it."""
    MAX_CALLS = "max_calls"
    """It had made as many calls as it may, and more were due or would have been asked."""


class Loop:
    """Makes the calls of one test.

    Args:
        call: Makes one.
        tally: Where they are counted.
        seconds: How long calls are made.
        max_calls: Most calls; None for as many as its time has room for.
        in_flight: Most at once.
        stop: Ends the test early.
        each_second: Told of every second.
    """

    def __init__(
        self,
        call: Call,
        tally: Tally,
        *,
        seconds: float,
        max_calls: int | None,
        in_flight: int,
        stop: asyncio.Event,
        each_second: Callable[[Second], None],
    ) -> None:
        self._call = call
        self._tally = tally
        self._seconds = seconds
        self._max_calls = max_calls
        self._in_flight = in_flight
        self._stop = stop
        self._each_second = each_second
        self._clock = asyncio.get_running_loop().time
        self._began = 0.0
        self._running: set[asyncio.Task[None]] = set()
        self._fault: Exception | None = None
        self._ran_out = False

    @property
    def cut_short(self) -> CutShort | None:
        """Why it ended before its time; None if it did not."""
        if self._stop.is_set():
            return CutShort.INTERRUPTED
        return CutShort.MAX_CALLS if self._ran_out else None

    async def open(self, starts: Iterator[float]) -> float:
        """Make a call at each of these times (seconds from now); return how many seconds it took."""
        slots = asyncio.Semaphore(self._in_flight)
        waiting: list[float] = []

        async def make() -> None:
            for number, due in enumerate(starts):
                if due >= self._seconds:
                    return
                if number == self._max_calls:
                    self._ran_out = True
                    return
                waiting[:] = [due]
                await self._sleep_until(self._began + due)
                await slots.acquire()
                if self._over():
                    return
                waiting.clear()
                self._start(number, self._began + due, slots)

        took = await self._timed(make())
        if waiting and not self._stop.is_set():
            # Who waited for a turn until the end, and who was due behind it.
            left = None if self._max_calls is None else self._max_calls - self._tally.calls
            self._count_not_made(islice(chain(waiting, starts), left), took)
        # The last call is due before the time is over.
        return max(took, self._seconds) if self.cut_short is None else took

    async def closed(self) -> float:
        """Have every caller ask again once it is answered; return how many seconds it took."""
        numbers = count() if self._max_calls is None else iter(range(self._max_calls))

        async def caller() -> None:
            for number in numbers:
                if self._over():
                    return
                await self._one(number, None)
            self._ran_out = self._ran_out or not self._over()

        callers = [asyncio.create_task(caller()) for _ in range(self._in_flight)]
        self._running.update(callers)
        return await self._timed(_all(callers))

    async def _timed(self, making: Awaitable[None]) -> float:
        self._began = self._clock()
        made = asyncio.ensure_future(making)
        ticking = asyncio.create_task(self._tick())
        stopping = asyncio.create_task(self._stop.wait())
        try:
            await asyncio.wait((made, stopping), timeout=self._seconds, return_when=asyncio.FIRST_COMPLETED)
            took = self._clock() - self._began
            if self._running and not self._stop.is_set():
                await asyncio.wait(self._running, timeout=DRAIN_S)
        finally:
            left = {made, ticking, stopping, *self._running}
            for task in left:
                task.cancel()
            await asyncio.wait(left)
        self._each_second(self._tally.close_second(len(self._tally.seconds) + 1))
        if self._fault is not None:
            raise self._fault
        return took

    def _over(self) -> bool:
        return self._stop.is_set() or self._clock() - self._began >= self._seconds

    def _start(self, number: int, due: float, slots: asyncio.Semaphore) -> None:
        task = asyncio.create_task(self._one(number, due))
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        task.add_done_callback(lambda _: slots.release())

    def _count_not_made(self, left: Iterator[float], took: float) -> None:
        for due in left:
            if due >= self._seconds:
                return
            self._tally.never_made(int((took - due) * _US))

    async def _one(self, number: int, due: float | None) -> None:
        started = self._clock()
        due = started if due is None else due
        self._tally.in_flight += 1
        try:
            units = await self._call(number)
        except grpc.RpcError as error:
            self._failed(from_rpc_error(error).reason, started, due)
        except Error as error:
            self._failed(error.reason, started, due)
        except asyncio.CancelledError:
            if not self._stop.is_set():
                self._failed(NOT_ANSWERED, started, due)
            raise
        except Exception as error:  # a fault of the test itself ends it
            self._fault = self._fault or error
            self._stop.set()
        else:
            ended = self._clock()
            self._tally.ended(latency_us=int((ended - due) * _US), service_us=int((ended - started) * _US), units=units)
        finally:
            self._tally.in_flight -= 1

    def _failed(self, reason: str, started: float, due: float) -> None:
        ended = self._clock()
        self._tally.failed_with(reason, latency_us=int((ended - due) * _US), service_us=int((ended - started) * _US))

    async def _sleep_until(self, moment: float) -> None:
        # Late already: no turn of the event loop is given away, or the loop could never catch up.
        if (left := moment - self._clock()) > 0:
            await asyncio.sleep(left)

    async def _tick(self) -> None:
        for second in count(1):
            await self._sleep_until(self._began + second)
            self._each_second(self._tally.close_second(second))


async def _all(tasks: Iterable[asyncio.Task[None]]) -> None:
    await asyncio.wait(tasks)
