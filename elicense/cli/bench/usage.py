"""What processes cost: CPU, memory and disk, as the kernel accounts for them (proc(5))."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

_PROC: Final = Path("/proc")
_TICKS_PER_S: Final = os.sysconf("SC_CLK_TCK")
_GONE: Final = (FileNotFoundError, ProcessLookupError)


class Processes:
    """A process and everything below it: a server, or a database with its backends.

    Args:
        root: Process id.
    """

    def __init__(self, root: int) -> None:
        self._root = root

    def cpu_s(self) -> float:
        """Return the user and system time used so far, children that have ended included, in seconds."""
        return sum(_cpu_ticks(pid) for pid in self._all()) / _TICKS_PER_S

    def anonymous_bytes(self) -> int:
        """Return the anonymous memory of all, without the pages of files that the kernel may drop."""
        return sum(_anonymous(pid) for pid in self._all())

    def _all(self) -> Iterator[int]:
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


def _cpu_ticks(pid: int) -> int:
    with suppress(*_GONE):
        return sum(map(int, _fields(pid)[11:15]))
    return 0


def _anonymous(pid: int) -> int:
    with suppress(*_GONE):
        for line in (_PROC / str(pid) / "smaps_rollup").read_text().splitlines():
            if line.startswith("Anonymous:"):
                return int(line.split()[1]) * 1024
    return 0
