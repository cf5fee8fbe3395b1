"""Nodes and commands as processes of their own, forked by a nursery."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import struct
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

#: Longer than anything takes on a machine that is slow and busy with other tests.
DEADLINE_S = 180.0
#: A check of everything that a long campaign has written takes its time.
COMMAND_S = 900.0


async def until(holds: Callable[[], bool], *, deadline_s: float = DEADLINE_S) -> None:
    """Ask again until it is true; what is waited for is in another process."""
    async with asyncio.timeout(deadline_s):
        while not holds():  # noqa: ASYNC110
            await asyncio.sleep(0.01)


class SteppingClock:
    """A file that tells a process how far its clock is off.

    Args:
        path: The file to make.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.set(0)

    def set(self, seconds: float) -> None:
        """Let the clock be ahead by this much, from now on."""
        packed = struct.pack("<q", int(seconds * 1_000_000))
        # In place: the process has this very file mapped.
        descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT)
        try:
            os.pwrite(descriptor, packed, 0)
        finally:
            os.close(descriptor)


@dataclass
class Process:
    """A process that was started.

    Attributes:
        pid: Its number.
        ended: Gets its exit status, negative for a signal.
    """

    pid: int
    ended: asyncio.Future[int]

    @property
    def alive(self) -> bool:
        return not self.ended.done()

    def signal(self, number: int) -> None:
        """Send a signal; a process that has just ended does not mind."""
        if self.alive:
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)

    async def pause(self) -> None:
        """Have it stand still until SIGCONT, and wait until it does."""
        self.signal(signal.SIGSTOP)
        await until(lambda: self._status()[0] in "TZX")

    def go_on(self) -> None:
        """Have it go on after :meth:`pause`."""
        self.signal(signal.SIGCONT)

    def processor_s(self) -> float:
        """Return how much processor time it has used so far, seconds."""
        user, system = self._status()[11:13]
        return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")

    def _status(self) -> list[str]:
        """Return what the kernel says of it, from its state on (proc_pid_stat(5), field 3)."""
        try:
            status = Path(f"/proc/{self.pid}/stat").read_text(encoding="ascii", errors="replace")
        except OSError:
            return ["X"]
        # Behind the name, which may hold anything.
        return status.rpartition(")")[2].split()

    def terminate(self) -> None:
        """Ask it to end."""
        self.signal(signal.SIGTERM)

    async def kill(self) -> None:
        """End it without warning, and wait until it is gone."""
        self.signal(signal.SIGKILL)
        await self.wait()

    async def wait(self, *, deadline_s: float = DEADLINE_S) -> int:
        async with asyncio.timeout(deadline_s):
            return await asyncio.shield(self.ended)


@dataclass
class Nursery:
    """Starts processes; see :func:`running_nursery`."""

    folder: Path
    _process: asyncio.subprocess.Process
    _numbers: count[int] = field(default_factory=lambda: count(1))
    _starting: dict[int, asyncio.Future[Process]] = field(default_factory=dict)
    _running: dict[int, Process] = field(default_factory=dict)

    async def serve(
        self, side: str, config: str, *, clock: SteppingClock, log: Path, pragmas: Sequence[str] = ()
    ) -> Process:
        """Start a node of the registry or of a city; ``pragmas`` follow those that it gives SQLite itself."""
        return await self._start(log, serve=side, config=config, clock=str(clock.path), pragmas=pragmas)

    async def command(self, main: str, *arguments: str) -> tuple[int, str]:
        """Run a console command to its end; return its exit status and what it wrote."""
        process, log = await self.start(main, *arguments)
        status = await process.wait(deadline_s=COMMAND_S)
        return status, await asyncio.to_thread(log.read_text)

    async def start(self, main: str, *arguments: str) -> tuple[Process, Path]:
        """Start a console command; return its process and the file that it writes into."""
        log = self.folder / f"command-{next(self._numbers)}.log"
        log.touch()
        return await self._start(log, main=main, arguments=list(arguments)), log

    async def _start(self, log: Path, **order: Any) -> Process:
        number = next(self._numbers)
        self._starting[number] = asyncio.get_running_loop().create_future()
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"id": number, "log": str(log), **order}).encode() + b"\n")
        async with asyncio.timeout(DEADLINE_S):
            return await self._starting[number]

    async def listen(self) -> None:
        """Take in what the nursery says, until it ends."""
        assert self._process.stdout is not None
        loop = asyncio.get_running_loop()
        async for line in self._process.stdout:
            said = json.loads(line)
            if "id" in said:
                process = self._running[said["pid"]] = Process(said["pid"], loop.create_future())
                self._starting.pop(said["id"]).set_result(process)
            else:
                self._running.pop(said["pid"]).ended.set_result(said["status"])


@asynccontextmanager
async def running_nursery(folder: Path) -> AsyncIterator[Nursery]:
    """Run a nursery; whatever it started has ended on return."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.faults.nursery",
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        cwd=Path(__file__).parents[2],
        # A signal to the group of the campaign is not for the nursery: it ends with its input.
        start_new_session=True,
    )
    nursery = Nursery(folder, process)
    listening = asyncio.create_task(nursery.listen())
    try:
        yield nursery
    finally:
        assert process.stdin is not None
        process.stdin.close()
        # Its children are told by the kernel.
        await process.wait()
        await listening
