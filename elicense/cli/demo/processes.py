"""Child processes that never outlive the demo.

Each child leads a process group of its own, so that Ctrl-C at the terminal
reaches the demo alone, which then stops its children in order, each by its own
id.  Nothing is ever searched for by name.  The ports of the children are held for them,
also while a child is being started or is down.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, TypeVar

from elicense.cli.demo.figures import ExpectationFailed
from elicense.cli.demo.ports import HeldPorts

T = TypeVar("T")

GRACE_S: Final = 30.0
"""Seconds that a child has to drain before it is killed: more than a node lets its calls take."""

COMMAND_TIMEOUT_S: Final = 120.0
"""Seconds after which a command that should have ended is taken to hang."""

START_TIMEOUT_S: Final = 120.0
"""Seconds that a node has to open its port on a busy machine."""

_POLL_S: Final = 0.05


def last_line(path: Path) -> str:
    """Return the last line of a log that has text, shortened; empty if there is none."""
    with suppress(OSError):
        lines = [line for line in path.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
        if lines:
            return lines[-1][:300]
    return ""


def run_as_household(work: Coroutine[Any, Any, T]) -> T:
    """Run what starts processes; :func:`ended_by_signals`.

    Raises:
        KeyboardInterrupt: One of the three came; whoever called ends the processes.
    """
    try:
        return asyncio.run(ended_by_signals(work))
    except asyncio.CancelledError:
        raise KeyboardInterrupt from None


async def ended_by_signals(work: Coroutine[Any, Any, T]) -> T:
    """Await what starts processes, which SIGTERM and the end of the terminal cancel just as Ctrl-C does.

    Raises:
        CancelledError: One of them came.
    """
    task = asyncio.current_task()
    loop = asyncio.get_running_loop()
    if task is not None:
        for number in (signal.SIGTERM, signal.SIGHUP):
            with suppress(NotImplementedError):
                loop.add_signal_handler(number, task.cancel)
    return await work


class Child:
    """A running process, the leader of its own group."""

    def __init__(self, process: asyncio.subprocess.Process, log: Path) -> None:
        self._process = process
        self.log = log

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether it has not ended yet."""
        return self._process.returncode is None

    async def stop(self) -> int:
        """Ask it to drain and end (SIGTERM); kill its group when the grace is over; return its exit status."""
        self._signal(os.kill, signal.SIGTERM)
        try:
            async with asyncio.timeout(GRACE_S):
                return await self._process.wait()
        except TimeoutError:
            self.kill()
            return await self._process.wait()

    def kill(self) -> None:
        """Kill it and whatever it started, at once."""
        self._signal(os.killpg, signal.SIGKILL)

    def _signal(self, send: Callable[[int, int], None], number: int) -> None:
        # Not by the process object: that waits for one that has just ended, and its status is lost to the loop.
        if self.running:
            with suppress(ChildProcessError, ProcessLookupError, PermissionError):
                # Once waited for it is gone, and its id may be somebody else's: this
                # raises ChildProcessError then.
                os.waitid(os.P_PID, self._process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
                send(self._process.pid, number)

    async def ended(self) -> int:
        """Wait for its end, however long that takes; return its exit status."""
        return await self._process.wait()

    async def communicate(self, timeout_s: float) -> tuple[int, str]:
        """Wait for its end; return exit status and standard output."""
        async with asyncio.timeout(timeout_s):
            output, _ = await self._process.communicate()
        return self._process.returncode or 0, output.decode()


class Household:
    """All processes that this run started, and the ports that they listen on."""

    def __init__(self) -> None:
        self._children: list[Child] = []
        self._ports = HeldPorts()

    def port(self) -> int:
        """Return a loopback port that is nobody else's until :meth:`kill_all`."""
        return self._ports.take()

    async def start(self, argv: Sequence[str], *, log: Path) -> Child:
        """Start a process that stays; its output goes to the end of ``log``."""
        return await self._spawn(argv, log, subprocess.DEVNULL, to_log=True)

    async def run(self, argv: Sequence[str], *, name: str, log: Path, timeout_s: float = COMMAND_TIMEOUT_S) -> str:
        """Run a command to its end and return its standard output.

        Args:
            argv: The command.
            name: What it is called in an error.
            log: File to whose end its standard error goes.
            timeout_s: Seconds after which it is taken to hang.

        Raises:
            ExpectationFailed: It ended with an error, or did not end.
        """
        child = await self._spawn(argv, log, subprocess.DEVNULL, to_log=False)
        try:
            status, output = await child.communicate(timeout_s)
        except TimeoutError as error:
            raise ExpectationFailed(f"{name}: did not end within {timeout_s:.0f} s") from error
        finally:
            child.kill()
            # Else the loop may be closed before it has heard of the end.
            await child.ended()
            self._children.remove(child)
        if status != 0:
            raise ExpectationFailed(f"{name}: exit status {status}: {last_line(log)}")
        return output

    async def _spawn(self, argv: Sequence[str], log: Path, stdin: int, *, to_log: bool) -> Child:
        with log.open("ab") as sink:
            process = await asyncio.create_subprocess_exec(
                *argv,
                stdin=stdin,
                stdout=sink if to_log else subprocess.PIPE,
                stderr=sink,
                # A group of its own, too; uvloop knows no other way to get one.
                start_new_session=True,
            )
        child = Child(process, log)
        self._children.append(child)
        return child

    async def stop_all(self) -> None:
        """Stop every process that still runs, the last started first; each gets its grace."""
        running = [child for child in reversed(self._children) if child.running]
        await asyncio.gather(*(child.stop() for child in running))

    def kill_all(self) -> None:
        """Kill what still runs; the last resort, without waiting.  Ports are given up."""
        for child in self._children:
            child.kill()
        self._ports.close()


async def wait_listening(child: Child, port: int, name: str) -> None:
    """Wait until a node accepts connections.

    Raises:
        ExpectationFailed: It ended, or did not open its port in time.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + START_TIMEOUT_S
    while loop.time() < deadline:
        if not child.running:
            raise ExpectationFailed(f"{name} ended at its start: {last_line(child.log)}")
        with suppress(OSError):
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.close()
            return
        await asyncio.sleep(_POLL_S)
    raise ExpectationFailed(f"{name} did not listen on port {port} within {START_TIMEOUT_S:.0f} s")
