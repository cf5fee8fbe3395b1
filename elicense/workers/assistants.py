"""Processes that do plain work for one node, beside the process that asks: Python does one thing at a time in each.

The first question has one started; nothing waits until it is up, and nothing fails
with it: whatever is not answered is worked out by whoever asked.  They are commands, never
forks, and hear the node's secret over the line that they inherit.  They end with the process that
asks, also when it is killed, because then the line ends.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import struct
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

import structlog

from elicense.workers.frames import receive_frame, send_frame
from elicense.workers.place import Duty, Place

MOST: Final = 2
"""More assistants than this would wait for whoever stores what they work out."""

START_S: Final = 60
"""How long one may take to start on a busy machine."""

ANSWER_S: Final = 10
"""How long one may take for an answer: a hundred times as long as it takes."""

PAUSE_S: Final = 5.0
"""Between two starts, so that one that can not run does not take all there is."""

READY: Final = b"ready"
"""What one says once it can be asked."""

CPU_QUOTA: Final = Path("/sys/fs/cgroup/cpu.max")
"""Where a container's own quota stands."""

#: Bytes that fit on the line: a question is handed over without waiting.
_LINE_BYTES: Final = 4 * 1024 * 1024

T = TypeVar("T")

Answering = Callable[[bytes], bytes]
"""Answers a question; what it raises is a fault of the program, and ends the process."""

_log = structlog.stdlib.get_logger(__name__)


def assistants_for(place: Place, cores: int) -> int:
    """Return how many assistants a process of a node is to have.

    Workers that are equal work side by side as it is; only cores that are left are worth an assistant.
    """
    processes = place.count if place.duty is Duty.EQUAL else 1
    return max(0, min(MOST, cores // processes - 1))


def available_cores(quota: Path = CPU_QUOTA) -> int:
    """Return how many cores this process may use: those it may run on, and no more than its container may have busy.

    Args:
        quota: File with the quota of the container, as cgroup v2 writes it: microseconds of all cores together in
            each period, or ``max``, and the length of the period.  One that is missing or otherwise limits nothing.
    """
    cores = len(os.sched_getaffinity(0))
    try:
        busy_us, period_us = map(int, quota.read_text().split())
    except (OSError, ValueError):
        return cores
    return min(cores, max(1, busy_us // period_us)) if busy_us > 0 and period_us > 0 else cores


def assist(descriptor: int, learn: Callable[[bytes], Answering]) -> None:
    """Answer, in a process of its own, until nobody holds the other end of the line.

    Args:
        descriptor: Number of this end.
        learn: Makes of the node's secret what answers.
    """
    # At a terminal it reaches the whole group; the node drains first, and needs this process to.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with socket.socket(fileno=descriptor) as line:
        try:
            secret = receive_frame(line)
            if secret is None:
                return
            answer = learn(secret)
            send_frame(line, READY)
            while (question := receive_frame(line)) is not None:
                send_frame(line, answer(question))
        except ConnectionError:
            return
        except Exception as error:
            # Its text may quote what was asked, which is about people, and so may those that it came from.
            where = traceback.extract_tb(error.__traceback__)[-1]
            said = f"{type(error).__name__} in {where.name}, line {where.lineno} of {where.filename}"
            # Before the line ends: once the node sees that end it kills what is left of this process.
            sys.stderr.write(f"{said}\n")
            sys.stderr.flush()
            sys.exit(1)


class _Ended(Exception):  # no error of ours: nobody hears of it
    """An assistant is gone, or does not answer."""


@dataclass(frozen=True, slots=True)
class _Assistant:
    """An assistant that runs; used by one thread at a time."""

    process: subprocess.Popen[bytes]
    line: socket.socket

    @classmethod
    def start(cls, command: Callable[[int], Sequence[str]]) -> _Assistant:
        """Start a process; it can be asked once it was greeted."""
        ours, theirs = socket.socketpair()
        try:
            for line in (ours, theirs):
                line.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _LINE_BYTES)
            words = command(theirs.fileno())
            process = subprocess.Popen(words, stdin=subprocess.DEVNULL, pass_fds=(theirs.fileno(),))  # noqa: S603  # our own
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
        return cls(process, ours)

    def greet(self, secret: bytes) -> None:
        """Hand over the secret and wait until it can be asked.

        Raises:
            _Ended: It can not.
        """
        self._wait_at_most(START_S)
        if self.ask(secret) != READY:
            raise _Ended
        self._wait_at_most(ANSWER_S)

    def _wait_at_most(self, seconds: int) -> None:
        # In the kernel, so that a thread waits in one call for all of an answer.
        limit = struct.pack("ll", seconds, 0)
        self.line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, limit)
        self.line.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, limit)

    def ask(self, question: bytes) -> bytes:
        """Return the answer to a question.

        Raises:
            _Ended: There is none.
        """
        try:
            send_frame(self.line, question)
            answer = receive_frame(self.line)
        except OSError as error:
            raise _Ended from error
        if answer is None:
            raise _Ended
        return answer

    def end(self) -> None:
        """End the process; it has nothing to lose."""
        self.line.close()
        self.process.kill()
        self.process.wait()


class Assistants:
    """Asks processes of their own, as far as there are any.

    Args:
        module: Module that is run as each process, with the number of its end of the line; it calls :func:`assist`.
        secret: What they are told first; stands in no command and no environment.
        count: How many processes; 0 for none.
        command: How one is started, where it is not by ``module``.
        clock: Seconds that only grow.
    """

    def __init__(
        self,
        module: str,
        secret: bytes,
        *,
        count: int = 0,
        command: Callable[[int], Sequence[str]] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._module = module
        self._secret = secret
        self._count = count
        self._command = command or (lambda descriptor: (sys.executable, "-m", module, str(descriptor)))
        self._clock = clock
        self._idle: list[_Assistant] = []
        self._up: set[_Assistant] = set()
        self._starting: set[_Assistant] = set()
        self._changed = asyncio.Condition()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._next_start = 0.0
        self._closed = False

    @property
    def pids(self) -> list[int]:
        """The processes that are up."""
        return [assistant.process.pid for assistant in self._up]

    async def ask(self, question: Callable[[], bytes], read: Callable[[bytes], T]) -> T | None:
        """Return what one answers; None when none is up, or it is gone before it has answered.

        Args:
            question: Gives the question; called on a thread, and only if there is somebody to ask.
            read: Takes the answer apart, on that thread.
        """
        self._start_missing()
        assistant = await self._take()
        if assistant is None:
            return None
        # A call that is cancelled must not leave one behind that still answers it.
        return await asyncio.shield(self._spawn(self._ask(assistant, question, read)))

    async def close(self) -> None:
        """End every process; what one is at work on just now is not answered."""
        self._closed = True
        for assistant in self._up | self._starting:
            assistant.process.kill()
        while self._tasks:
            await asyncio.wait(self._tasks)
        # Whoever asked just now may find one gone, and take it out, meanwhile.
        for assistant in tuple(self._up):
            await asyncio.to_thread(assistant.end)

    async def _take(self) -> _Assistant | None:
        """Return an assistant as soon as one is idle; None when none runs."""
        async with self._changed:
            await self._changed.wait_for(lambda: self._idle or not self._up)
            return self._idle.pop() if self._idle else None

    async def _ask(self, assistant: _Assistant, question: Callable[[], bytes], read: Callable[[bytes], T]) -> T | None:
        answer: T | None = None
        try:
            answer = await asyncio.to_thread(lambda: read(assistant.ask(question())))
        except Exception:  # an answer that can not be taken apart is none either
            _log.warning("assistant_ended", module=self._module, pid=assistant.process.pid)
            self._up.discard(assistant)
            await asyncio.to_thread(assistant.end)
        else:
            self._idle.append(assistant)
        async with self._changed:
            self._changed.notify_all()
        return answer

    def _start_missing(self) -> None:
        now = self._clock()
        if self._closed or now < self._next_start or len(self._up) + len(self._starting) >= self._count:
            return
        self._next_start = now + PAUSE_S
        try:
            assistant = _Assistant.start(self._command)
        except OSError:
            _log.warning("assistant_not_started", module=self._module)
            return
        self._starting.add(assistant)
        self._spawn(self._greet(assistant))

    async def _greet(self, assistant: _Assistant) -> None:
        try:
            await asyncio.to_thread(assistant.greet, self._secret)
        except (_Ended, OSError):
            _log.warning("assistant_not_started", module=self._module, pid=assistant.process.pid)
            await asyncio.to_thread(assistant.end)
        else:
            _log.info("assistant_started", module=self._module, pid=assistant.process.pid)
            self._up.add(assistant)
            self._idle.append(assistant)
        self._starting.discard(assistant)
        async with self._changed:
            self._changed.notify_all()

    def _spawn(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task
