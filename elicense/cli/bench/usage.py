"""What processes cost: CPU, memory and disk, as the kernel accounts for them (proc(5))."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

_PROC: Final = Path("/proc")
_TICKS_PER_S: Final = os.sysconf("SC_CLK_TCK")
#: In a clock id: user and system time of a process, all threads together (linux/posix-timers.h).
_PROCESS_CLOCK: Final = 2
_GONE: Final = (FileNotFoundError, ProcessLookupError)


class Processes:
    """A process and everything below it: a server, or a database with its backends.

    Args:
        root: Process id.
        below: Whether what it started counts too.
    """

    def __init__(self, root: int, *, below: bool = True) -> None:
        self._root = root
        self._below = below

    def cpu_s(self) -> float:
        """Return the user and system time used so far, children that have ended included, in seconds."""
        return sum(_cpu_s(pid) for pid in self._all())

    def anonymous_bytes(self) -> int:
        """Return the anonymous memory of all, without the pages of files that the kernel may drop."""
        return sum(self.anonymous_of_each())

    def anonymous_of_each(self) -> list[int]:
        """Return the anonymous memory of each, in bytes; the root's first."""
        return [_anonymous(pid) for pid in self._all()]

    def _all(self) -> Iterator[int]:
        if not self._below:
            yield self._root
            return
        parents = dict(_parents())
        below = [self._root]
        while below:
            pid = below.pop()
            yield pid
            below.extend(child for child, parent in parents.items() if parent == pid)


def disk_bytes(paths: Iterable[Path]) -> int:
    """Return what files take on disk; one that is gone takes nothing."""
    total = 0
    for path in paths:
        with suppress(FileNotFoundError):
            total += path.stat().st_size
    return total


def _fields(pid: int) -> list[str]:
    # The name in parentheses may hold blanks: what follows its end can be split.
    return (_PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()


def _parents() -> Iterator[tuple[int, int]]:
    for entry in _PROC.iterdir():
        if entry.name.isdigit():
            with suppress(*_GONE):
                yield int(entry.name), int(_fields(int(entry.name))[1])


def _cpu_s(pid: int) -> float:
    # The process's own clock counts nanoseconds; /proc counts ticks of 10 ms, which is all
    # there is of children that have ended.
    with suppress(OSError):
        own = time.clock_gettime(~pid << 3 | _PROCESS_CLOCK)
        return own + sum(map(int, _fields(pid)[13:15])) / _TICKS_PER_S
    return 0.0


def _anonymous(pid: int) -> int:
    # The kernel's counter: to add up smaps, it walks every page of a database's shared memory, anew for each backend.
    with suppress(*_GONE):
        for line in (_PROC / str(pid) / "status").read_text().splitlines():
            if line.startswith("RssAnon:"):
                return int(line.split()[1]) * 1024
    return 0
