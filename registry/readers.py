"""Processes that read large batches beside the one that stores them.

The first large batch has them started; nothing waits until they are up, and nothing
fails with them: whatever they do not read is read here.  They are commands, never
forks, and hear the index key over the line that they inherit.  They end with this process,
also when it is killed, because then the line ends.
"""

from __future__ import annotations

import asyncio
import os
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import structlog

from elicense.view.person import PersonIndex
from elicense.workers.frames import receive_frame, send_frame
from elicense.workers.place import Duty, Place
from registry.batch import Batch
from registry.reader import NOT_READ, READY
from registry.reading import Reading, question_of, read_here, reading_from

LARGE: Final = 128
"""Entries from which on a batch is worth another process's while."""

MOST: Final = 2
"""More readers than this would wait for whoever stores what they read."""

START_S: Final = 60
"""How long a reader may take to start on a busy machine."""

ANSWER_S: Final = 10
"""How long one may take for a batch: a hundred times as long as it takes."""

PAUSE_S: Final = 5.0
"""Between two starts, so that one that can not run does not take all there is."""

#: Bytes that fit on the line: a batch is handed over without waiting.
_LINE_BYTES: Final = 4 * 1024 * 1024

T = TypeVar("T")

_log = structlog.stdlib.get_logger(__name__)


def available_cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0))


def readers_for(place: Place, cores: int) -> int:
    """Return how many readers a process of the registry is to have.

    Workers that are equal read side by side as it is; only cores that are left are worth a reader.
    """
    processes = place.count if place.duty is Duty.EQUAL else 1
    return max(0, min(MOST, cores // processes - 1))


def reader_command(descriptor: int) -> Sequence[str]:
    """Return the command of a reader, given the number of its end of the line."""
    return (sys.executable, "-m", "registry.reader", str(descriptor))


class ReaderEnded(Exception):  # no error of ours: nobody hears of it
    """A reader is gone, or does not answer."""


@dataclass(frozen=True, slots=True)
class _Reader:
    """A reader that runs; used by one thread at a time."""

    process: subprocess.Popen[bytes]
    line: socket.socket

    @classmethod
    def start(cls, command: Callable[[int], Sequence[str]]) -> _Reader:
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

    def greet(self, key: bytes) -> None:
        """Hand over the index key and wait until it can read.

        Raises:
            ReaderEnded: It can not.
        """
        self._wait_at_most(START_S)
        if self.ask(key) != READY:
            raise ReaderEnded
        self._wait_at_most(ANSWER_S)

    def _wait_at_most(self, seconds: int) -> None:
        # In the kernel, so that a thread waits in one call for all of an answer.
        limit = struct.pack("ll", seconds, 0)
        self.line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, limit)
        self.line.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, limit)

    def ask(self, question: bytes) -> bytes:
        """Return the answer to a question.

        Raises:
            ReaderEnded: There is none.
        """
        try:
            send_frame(self.line, question)
            answer = receive_frame(self.line)
        except OSError as error:
            raise ReaderEnded from error
        if answer is None:
            raise ReaderEnded
        return answer

    def end(self) -> None:
        """End the process; it has nothing to lose."""
        self.line.close()
        self.process.kill()
        self.process.wait()


class Readers:
    """Reads batches: large ones in processes of their own, as far as there are any.

    Args:
        index_key: Key of person and name tags.
        count: How many processes; 0 for none.
        command: How one is started.
        clock: Seconds that only grow.
    """

    def __init__(
        self,
        index_key: bytes,
        *,
        count: int = 0,
        command: Callable[[int], Sequence[str]] = reader_command,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._key = index_key
        self._persons = PersonIndex(index_key)
        self._count = count
        self._command = command
        self._clock = clock
        self._idle: list[_Reader] = []
        self._up: set[_Reader] = set()
        self._starting: set[_Reader] = set()
        self._changed = asyncio.Condition()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._next_start = 0.0
        self._closed = False

    @property
    def pids(self) -> list[int]:
        """The processes that are up."""
        return [reader.process.pid for reader in self._up]

    async def read(self, batch: Batch) -> Reading:
        """Return what a batch says by itself.

        Raises:
            Malformed: A salt or a leaf hash has another size than it must.
        """
        if len(batch.entries) >= LARGE:
            self._start_missing()
            reader = await self._take()
            if reader is not None:
                # A call that is cancelled must not leave a reader behind that still answers it.
                reading = await asyncio.shield(self._spawn(self._ask(reader, batch)))
                if reading is not None:
                    return reading
        return await asyncio.to_thread(read_here, batch, self._persons)

    async def close(self) -> None:
        """End every reader; what one is reading just now is read here."""
        self._closed = True
        for reader in self._up | self._starting:
            reader.process.kill()
        while self._tasks:
            await asyncio.wait(self._tasks)
        for reader in self._up:
            await asyncio.to_thread(reader.end)

    async def _take(self) -> _Reader | None:
        """Return a reader as soon as one is idle; None when none runs."""
        async with self._changed:
            await self._changed.wait_for(lambda: self._idle or not self._up)
            return self._idle.pop() if self._idle else None

    async def _ask(self, reader: _Reader, batch: Batch) -> Reading | None:
        def ask() -> Reading | None:
            answer = reader.ask(question_of(batch))
            return None if answer == NOT_READ else reading_from(answer, batch, self._persons)

        try:
            reading = await asyncio.to_thread(ask)
        except ReaderEnded:
            _log.warning("reader_ended", pid=reader.process.pid)
            self._up.discard(reader)
            await asyncio.to_thread(reader.end)
            reading = None
        else:
            self._idle.append(reader)
        async with self._changed:
            self._changed.notify_all()
        return reading

    def _start_missing(self) -> None:
        now = self._clock()
        if self._closed or now < self._next_start or len(self._up) + len(self._starting) >= self._count:
            return
        self._next_start = now + PAUSE_S
        try:
            reader = _Reader.start(self._command)
        except OSError:
            _log.warning("reader_not_started")
            return
        self._starting.add(reader)
        self._spawn(self._greet(reader))

    async def _greet(self, reader: _Reader) -> None:
        try:
            await asyncio.to_thread(reader.greet, self._key)
        except ReaderEnded:
            _log.warning("reader_not_started", pid=reader.process.pid)
            await asyncio.to_thread(reader.end)
        else:
            _log.info("reader_started", pid=reader.process.pid)
            self._up.add(reader)
            self._idle.append(reader)
        self._starting.discard(reader)
        async with self._changed:
            self._changed.notify_all()

    def _spawn(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task
