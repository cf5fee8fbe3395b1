"""Records with strace what a process does to the files of a folder: what, when, and with which bytes."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from tests.faults.tracing import traced

_WRITES: Final = "pwrite64,pwritev,pwritev2,write,writev,ftruncate,truncate,fallocate,sendfile,copy_file_range,splice"
_NAMES: Final = "open,openat,creat,rename,renameat,renameat2,unlink,unlinkat,link,linkat,symlink,symlinkat"
_SYNCS: Final = "fsync,fdatasync,sync_file_range,msync"
_CALLS: Final = f"{_WRITES},{_NAMES},{_SYNCS},lseek,mmap"

#: ``1795703091.770471 pwrite64(3<path>, "data", 7, 512) = 7 <0.000023>``
_LINE: Final = re.compile(r"([0-9.]+) (\w+)\((.*)\) += (-?\w+)(?:<.*>)?(?: \w+ \(.*\))?(?: \(.*\))? <([0-9.]+)>")
_DESCRIPTOR: Final = re.compile(r"(\d+)<((?:\\x..)*)>(\(deleted\))?")
_TEXT: Final = re.compile(r'"((?:\\x..)*)"(\.\.\.)?')

#: Made by mapping a file: never durable as far as the model goes.
_SHARED_MEMORY: Final = "-shm"


@dataclass(frozen=True, slots=True)
class Call:
    """One call that changed a file, or made it durable.

    Attributes:
        name: ``make``, ``write``, ``truncate``, ``rename``, ``remove`` or ``sync``.
        began: When it began at the latest, seconds of Unix time.
        ended: When it had ended for sure; its caller went on later.
        path: The file, or the folder that was synced.
        data: What was written.
        offset: Where; the new length of a file that was truncated.
        target: The new name.
    """

    name: str
    began: float
    ended: float
    path: Path
    data: bytes = b""
    offset: int = 0
    target: Path | None = None

    @property
    def is_sync(self) -> bool:
        return self.name == "sync"


@dataclass(frozen=True, slots=True)
class Recording:
    """See :func:`recording`.

    Attributes:
        folder: The folder whose files are watched.
        traces: Where strace writes, a file for each thread.
    """

    folder: Path
    traces: Path

    def calls(self) -> list[Call]:
        """Return what was done, in the order in which it began; the process must have ended."""
        lines = [line for trace in sorted(self.traces.iterdir()) for line in self._lines(trace)]
        reader = _Reader(self.folder)
        return [call for line in sorted(lines, key=lambda line: line.began) for call in reader.read(line)]

    def _lines(self, trace: Path) -> Iterator[_Line]:
        marked = "".join(f"\\x{byte:02x}" for byte in str(self.folder).encode())
        with trace.open(encoding="ascii") as file:
            for text in file:
                # What was cut short by the end of the process has no time, and no effect that anybody waited for.
                if marked in text and (found := _LINE.match(text)) is not None and not found[4].startswith("-"):
                    began, took = float(found[1]), float(found[5])
                    yield _Line(began, began + took, found[2], found[3], found[4])


@asynccontextmanager
async def recording(pid: int, folder: Path, traces: Path) -> AsyncIterator[Recording]:
    """Record a process, with all of its threads, from now on until it ends or the context is left.

    Args:
        pid: The process.
        folder: The folder whose files are watched; an absolute path.
        traces: A folder to make for what strace writes.

    Raises:
        NotPossibleHere: strace is missing, or may not attach.
    """
    await asyncio.to_thread(traces.mkdir)
    calls = ("-e", f"trace={_CALLS}", "-e", "signal=none")
    whole = ("-ff", "-ttt", "-T", "-y", "-xx", "-s", str(1 << 24))
    async with traced(pid, *whole, *calls, "-o", str(traces / "thread")):
        yield Recording(folder, traces)


@dataclass(frozen=True, slots=True)
class _Line:
    began: float
    ended: float
    name: str
    arguments: str
    result: str


@dataclass(slots=True)
class _Reader:
    """Makes calls of lines; follows where each descriptor stands in its file."""

    folder: Path
    #: Place in the file by descriptor; None for one that appends.
    _places: dict[str, int | None] = field(default_factory=dict)

    def read(self, line: _Line) -> list[Call]:
        match line.name:
            case "open" | "openat" | "creat":
                return self._open(line)
            case "rename" | "renameat" | "renameat2":
                old, new = self._texts(line)
                return self._calls(line, "rename", old, target=new)
            case "unlink" | "unlinkat":
                return self._calls(line, "remove", self._texts(line)[0])
            case "mmap":
                self._mmap(line)
                return []
        return self._of_descriptor(line)

    def _of_descriptor(self, line: _Line) -> list[Call]:
        descriptor = _DESCRIPTOR.match(line.arguments)
        assert descriptor is not None, f"{line.name} is not modelled: {line.arguments[:200]}"
        number, path, deleted = descriptor[1], Path(_decoded(descriptor[2]).decode()), descriptor[3]
        if deleted or not path.is_relative_to(self.folder):
            return []
        values = line.arguments.rpartition(", ")[2]
        match line.name:
            case "pwrite64":
                return self._write(line, path, int(values))
            case "write":
                place = self._places[number]
                assert place is not None, f"appending is not modelled: {path}"
                self._places[number] = place + int(line.result)
                return self._write(line, path, place)
            case "ftruncate":
                return self._calls(line, "truncate", path, offset=int(values))
            case "fsync" | "fdatasync":
                return self._calls(line, "sync", path)
            case "lseek":
                self._places[number] = int(line.result)
                return []
        raise AssertionError(f"{line.name} is not modelled: {path}")

    def _open(self, line: _Line) -> list[Call]:
        flags = set(re.split(r"[|, ]+", line.arguments))
        path = self._texts(line)[0]
        self._places[line.result] = None if "O_APPEND" in flags else 0
        made = self._calls(line, "make", path) if "O_CREAT" in flags else []
        return made + (self._calls(line, "truncate", path) if "O_TRUNC" in flags else [])

    def _write(self, line: _Line, path: Path, offset: int) -> list[Call]:
        data = _TEXT.search(line.arguments)
        assert data is not None, "strace writes what was written"
        assert not data[2], "strace writes all of it"
        return self._calls(line, "write", path, data=_decoded(data[1])[: int(line.result)], offset=offset)

    def _calls(
        self, line: _Line, name: str, path: Path, *, data: bytes = b"", offset: int = 0, target: Path | None = None
    ) -> list[Call]:
        if not path.is_relative_to(self.folder):
            return []
        return [Call(name, line.began, line.ended, path, data, offset, target)]

    @staticmethod
    def _mmap(line: _Line) -> None:
        shared = "PROT_WRITE" in line.arguments and "MAP_SHARED" in line.arguments
        descriptor = _DESCRIPTOR.search(line.arguments)
        assert not shared or descriptor is None or _decoded(descriptor[2]).decode().endswith(_SHARED_MEMORY), (
            f"writing by a map is not modelled: {line.arguments}"
        )

    @staticmethod
    def _texts(line: _Line) -> list[Path]:
        paths = [Path(_decoded(found[1]).decode()) for found in _TEXT.finditer(line.arguments)]
        assert all(path.is_absolute() for path in paths), f"{line.name} of a relative path is not modelled"
        return paths


def _decoded(text: str) -> bytes:
    return bytes.fromhex(text.replace("\\x", ""))
