"""Threads with two lanes of work before them: what gives way is taken up only when nothing else waits."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from concurrent.futures import Executor
from typing import Any, NamedTuple, TypeVar, cast

from elicense.errors import StoreUnavailable

T = TypeVar("T")


class _Job(NamedTuple):
    fn: Callable[[], Any]
    done: asyncio.Future[Any]


class Lanes:
    """Hands work to threads in the order in which it comes, but urgent work first; belongs to one event loop.

    Work that has begun is not interrupted, so whatever gives way should be short.

    Args:
        threads: Who does the work; closed by its owner.
    """

    def __init__(self, threads: Executor) -> None:
        self._threads = threads
        self._urgent: deque[_Job] = deque()
        self._yielding: deque[_Job] = deque()

    async def run(self, fn: Callable[[], T], *, gives_way: bool = False) -> T:
        """Call ``fn`` on one of the threads and return its result.

        Raises:
            StoreUnavailable: The threads have been shut down, also while it waited; it was not called.
        """
        loop = asyncio.get_running_loop()
        job = _Job(fn, loop.create_future())
        lane = self._yielding if gives_way else self._urgent
        lane.append(job)
        try:
            # A turn of a thread takes whatever is first by then, not what it was asked for with.
            turn = loop.run_in_executor(self._threads, self._take_turn)
        except RuntimeError as error:
            lane.remove(job)
            raise _closed() from error
        turn.add_done_callback(self._deliver)
        return cast("T", await job.done)

    def _take_turn(self) -> tuple[_Job, Any, BaseException | None]:
        # One operation each: threads need no lock.  There are as many turns as jobs.
        try:
            job = self._urgent.popleft()
        except IndexError:
            job = self._yielding.popleft()
        if job.done.cancelled():
            return job, None, None
        try:
            return job, job.fn(), None
        except BaseException as error:  # it is its caller's, whatever it is
            return job, None, error

    def _deliver(self, turn: asyncio.Future[tuple[_Job, Any, BaseException | None]]) -> None:
        if turn.cancelled():
            # The threads were shut down before it was its turn: one job of those that wait will never have one.
            try:
                job = self._yielding.pop()
            except IndexError:
                job = self._urgent.pop()
            _settle(job.done, None, _closed())
            return
        job, result, error = turn.result()
        _settle(job.done, result, error)


def _settle(done: asyncio.Future[Any], result: Any, error: BaseException | None) -> None:
    if done.done():
        return
    if error is None:
        done.set_result(result)
    else:
        done.set_exception(error)


def _closed() -> StoreUnavailable:
    return StoreUnavailable("the database is closed, for this node is stopping; try again")
