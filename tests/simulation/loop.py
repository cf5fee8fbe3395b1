"""An event loop without a clock, threads or sockets: time passes when nothing else can happen.

* Time jumps to the next timer once nothing is ready.
* Work for a thread runs inline, whole, at a drawn moment; its result arrives at
  a later one.  A crash in between is the commit that nobody heard of.
* Each callback carries the node that it belongs to.  The callbacks of a node
  that has crashed never run again: no cleanup, no last word, as after kill -9.
* Callbacks are counted, so that a crash can fall before any one of them, and a
  hash over them tells whether two runs were the same.
"""

from __future__ import annotations

import asyncio
import heapq
from array import array
from collections.abc import Callable
from concurrent.futures import Executor
from contextlib import suppress
from contextvars import Context, ContextVar
from hashlib import blake2b
from random import Random
from typing import Any, Final, Protocol, cast

_LONGEST_IO_S: Final = 0.004

READING: Final = cast("Executor", object())
"""Stands for threads whose work changes nothing."""


class Owner(Protocol):
    """A node, as the loop sees it."""

    name: str
    alive: bool


OWNER: Final[ContextVar[Owner | None]] = ContextVar("OWNER", default=None)
"""Which node a callback belongs to; None for the world around them."""


class Stuck(Exception):
    """Nothing is ready and no timer is set: somebody waits for ever."""


class VirtualLoop(asyncio.BaseEventLoop):
    """See the module.

    Args:
        random: Draws how long work for a thread takes.
    """

    def __init__(self, random: Random) -> None:
        super().__init__()
        self._random = random
        self._now = 0.0
        #: When something happened, and what, on a line each.
        self._times = array("d")
        self._happened: list[str] = []
        self._all: list[asyncio.Task[Any]] = []
        #: When, in which order they were set, and what.
        self._timers: list[tuple[float, int, asyncio.TimerHandle]] = []
        self._timers_set = 0
        self.steps = 0
        #: Whether the last callback did the work of a thread that may write: only there databases change.
        self.worked = False
        #: Called before each callback of a node; returns True if the node crashed instead.
        self.crashes: Callable[[Owner], bool] = lambda _owner: False
        #: Called after each callback.
        self.after_step: Callable[[], None] = lambda: None

    def time(self) -> float:
        """Return virtual seconds."""
        return self._now

    @property
    def trace(self) -> str:
        """Hash over everything that has happened so far."""
        trace = blake2b(self._times.tobytes(), digest_size=8)
        trace.update("\n".join(self._happened).encode())
        return trace.hexdigest()

    def note(self, what: str) -> None:
        """Add something to the trace."""
        self._times.append(self._now)
        self._happened.append(what)

    def discard(self) -> None:
        """Let go of whatever never ended: the tasks of nodes that crashed, and of those that are left."""
        for task in self._all:
            task._log_destroy_pending = False  # type: ignore[attr-defined]
            if not task.done():
                # Closed here and now, lest the garbage collector do it in the middle of something else.
                with suppress(BaseException):
                    task.get_coro().close()
        self._all.clear()

    def create_task(self, coro: Any, **options: Any) -> asyncio.Task[Any]:
        """Create a task, and remember it."""
        task: asyncio.Task[Any] = super().create_task(coro, **options)
        self._all.append(task)
        return task

    def call_at(self, when: float, callback: Any, *args: Any, context: Any = None) -> asyncio.TimerHandle:  # type: ignore[override]
        """Set a timer."""
        timer = asyncio.TimerHandle(when, callback, args, self, context)
        self._timers_set += 1
        heapq.heappush(self._timers, (when, self._timers_set, timer))
        return timer

    # What follows takes the place of the selector loop; names are asyncio's.

    def _run_once(self) -> None:
        ready, timers = self._ready, self._timers  # type: ignore[attr-defined]
        if not ready:
            while timers and timers[0][2].cancelled():
                heapq.heappop(timers)
            if not timers:
                raise Stuck
            self._now = max(self._now, timers[0][0])
        while timers and timers[0][0] <= self._now:
            ready.append(heapq.heappop(timers)[2])
        handle = ready.popleft()
        if handle.cancelled():
            return
        owner: Owner | None = handle._context.get(OWNER)
        if owner is not None:
            if not owner.alive or self.crashes(owner):
                return
            self.steps += 1
            self.note(owner.name)
        handle._run()
        self.after_step()

    def _write_to_self(self) -> None:
        """There is no selector to wake."""

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        """Cancelled timers are dropped when they are due."""

    def run_in_executor(self, executor: Any, func: Callable[..., Any], *args: Any) -> asyncio.Future[Any]:  # type: ignore[override]
        """Run ``func`` inline at a drawn moment; its result arrives later."""
        future: asyncio.Future[Any] = self.create_future()

        def run() -> None:
            if future.cancelled():
                return
            result, error = None, None
            self.worked = self.worked or executor is not READING
            try:
                result = func(*args)
            except BaseException as raised:  # carried to whoever waits
                error = raised
            self.call_later(self._random.uniform(0, _LONGEST_IO_S), arrive, result, error)

        def arrive(result: object, error: BaseException | None) -> None:
            if future.cancelled():
                return
            if error is None:
                future.set_result(result)
            else:
                future.set_exception(error)

        self.call_later(self._random.uniform(0, _LONGEST_IO_S), run)
        return future


def outside() -> Context:
    """Return a context that belongs to no node."""
    return Context()
