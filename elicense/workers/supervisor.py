"""Keeps a node's workers running: starts each, starts again whichever dies, and ends them all in order.

Workers are started as commands, never forked: a copy of a process in which gRPC
has run does not work.  Each holds one end of a socket whose other end is here.  It
says on it that it is ready, and it ends by itself when this process is gone.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from asyncio.subprocess import Process, create_subprocess_exec
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

import structlog

from elicense.workers.link import READY
from elicense.workers.place import Duty, Place

FIRST_PAUSE_S: Final = 0.1
LONGEST_PAUSE_S: Final = 10.0
"""Between the end of a worker and its next start: doubled each time, so that a node that can not run does not spin."""

SOUND_S: Final = 30.0
"""A worker that ran this long ended for a new reason: the next pause is the first one again."""

KILL_AFTER_S: Final = 40.0
"""How long a worker may take to drain; above the grace of its server and below what service managers allow."""

_log = structlog.stdlib.get_logger(__name__)

Command = Callable[[Place, int], Sequence[str]]
"""Returns the command of a worker, given its place and the number of its end of the line."""


@dataclass(slots=True)
class _Worker:
    """One place and the process that fills it now."""

    place: Place
    process: Process | None = None
    ready: asyncio.Event = field(default_factory=asyncio.Event)


class Supervisor:
    """Runs the workers of one node.

    Args:
        places: Where workers are to be; a writer comes first.
        command: How one is started.
        first_pause_s: Pause before a worker that died is started again the first time.
    """

    def __init__(self, places: Sequence[Place], command: Command, *, first_pause_s: float = FIRST_PAUSE_S) -> None:
        self._workers = [_Worker(place) for place in places]
        self._command = command
        self._first_pause_s = first_pause_s
        self._stop = asyncio.Event()
        self._served = False
        self._failed = False

    async def run(self, stop: asyncio.Event) -> int:
        """Keep every worker running until ``stop`` is set, or one can not even start; return the exit status."""
        self._stop = stop
        keepers = [asyncio.create_task(self._keep(worker)) for worker in self._workers]
        serving = asyncio.create_task(self._await_ready())
        await stop.wait()
        serving.cancel()
        # Those that listen pass calls on to the writer until they have drained.
        await self._end([worker for worker in self._workers if worker.place.duty is not Duty.WRITER])
        await self._end(self._workers)
        await asyncio.gather(*keepers)
        _log.info("workers_ended")
        return int(self._failed)

    async def _await_ready(self) -> None:
        for worker in self._workers:
            await worker.ready.wait()
        self._served = True
        _log.info("workers_ready", workers=[self._describe(worker) for worker in self._workers])

    def _describe(self, worker: _Worker) -> dict[str, object]:
        process = worker.process
        return {
            "worker": worker.place.number,
            "duty": worker.place.duty.value,
            "pid": None if process is None else process.pid,
        }

    async def _keep(self, worker: _Worker) -> None:
        loop = asyncio.get_running_loop()
        failures = 0
        while not self._stop.is_set():
            began = loop.time()
            status = await self._run_once(worker)
            if self._stop.is_set():
                self._failed |= status != 0
                return
            if not self._served:
                # What keeps a worker from starting the first time is said by it, and is for a person to mend.
                _log.error("worker_not_started", **self._describe(worker), status=status)
                self._failed = True
                self._stop.set()
                return
            failures = 0 if loop.time() - began >= SOUND_S else failures + 1
            pause = min(LONGEST_PAUSE_S, self._first_pause_s * 2 ** min(max(failures - 1, 0), 16))
            _log.warning("worker_ended", **self._describe(worker), status=status, starts_in_s=pause)
            with suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._stop.wait()

    async def _run_once(self, worker: _Worker) -> int:
        ours, theirs = socket.socketpair()
        try:
            worker.process = process = await create_subprocess_exec(
                *self._command(worker.place, theirs.fileno()),
                stdin=asyncio.subprocess.DEVNULL,
                pass_fds=(theirs.fileno(),),
            )
        finally:
            theirs.close()
        reader, writer = await asyncio.open_connection(sock=ours)
        listening = asyncio.create_task(self._listen(worker, reader))
        try:
            if self._stop.is_set():
                _signal(process, signal.SIGTERM)
            return await process.wait()
        finally:
            worker.ready.clear()
            listening.cancel()
            writer.close()

    async def _listen(self, worker: _Worker, reader: asyncio.StreamReader) -> None:
        with suppress(ConnectionError):
            if await reader.readline() == READY:
                worker.ready.set()
                if self._served:
                    _log.info("worker_ready", **self._describe(worker))

    async def _end(self, workers: Sequence[_Worker]) -> None:
        """Ask workers to drain and end, and wait for it; whichever does not is killed."""
        processes = [worker.process for worker in workers if worker.process is not None]
        for process in processes:
            _signal(process, signal.SIGTERM)
        if not processes:
            return
        waiting = {asyncio.create_task(process.wait()): process for process in processes}
        _, late = await asyncio.wait(waiting, timeout=KILL_AFTER_S)
        for task in late:
            _log.error("worker_killed", pid=waiting[task].pid)
            _signal(waiting[task], signal.SIGKILL)
        await asyncio.gather(*waiting)


def _signal(process: Process, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        process.send_signal(number)


def reserve(address: str) -> tuple[socket.socket, str]:
    """Return a socket that keeps an address for the workers, and the address with its port.

    It takes no connection: only sockets that listen do.

    Args:
        address: host:port; port 0 takes any that is free.

    Raises:
        OSError: Somebody else listens there.
    """
    host, _, port = address.rpartition(":")
    bare = host.strip("[]")
    family, kind, protocol, _, place = socket.getaddrinfo(
        bare, int(port), type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    # Without SO_REUSEPORT first: another node's workers would share the port with ours in silence.
    with socket.socket(family, kind, protocol) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(place)
    kept = socket.socket(family, kind, protocol)
    try:
        kept.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        kept.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        kept.bind(place)
    except OSError:
        kept.close()
        raise
    os.set_inheritable(kept.fileno(), False)
    return kept, f"{host}:{kept.getsockname()[1]}"
