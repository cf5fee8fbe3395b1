"""What a disk holds after a power cut, worked out from the calls that a process made before it.

The model is that of a journalling file system on a disk with a volatile cache, on the pessimistic side:

- What a file held when its last ended fsync or fdatasync began is there.
- Of each sector of 512 bytes that was written since, any state that it had since may be there, each sector for
  itself: so writes survive in any order, in part, or not at all.  A sector itself is never torn.  The same holds
  for the length of a file.
- Names (made, renamed, removed) come back as they were at the last fsync of their folder that has ended, plus
  the first few changes since, in their order: a rename is there or not, and never half of one.  Syncing a file
  does not save its name.
- Shared memory (``-shm``) is noise, or is gone.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Final

from tests.faults.recording import Call

SECTOR: Final = 512

_SHARED_MEMORY: Final = "-shm"
_NOISE_BYTES: Final = 32_768
"""Size of SQLite's shared memory for a short log."""


@dataclass(slots=True)
class _History:
    """A value that is being written: what is durable of it, and what it was since, each with the end of its call."""

    durable: bytes
    since: list[tuple[float, bytes]] = field(default_factory=list)

    def synced(self, began: float) -> None:
        ended = [place for place, (moment, _) in enumerate(self.since) if moment <= began]
        if ended:
            self.durable = self.since[ended[-1]][1]
            del self.since[: ended[-1] + 1]

    def drawn(self, fate: Fate) -> bytes:
        return fate.one_of([self.durable, *(value for _, value in self.since)])


@dataclass(frozen=True, slots=True)
class Fate:
    """What becomes of unsynced writes.

    Attributes:
        random: Draws.
        survival: How likely it is that any one sector, length or name was written since it was synced: with 0
            nothing unsynced is there, with 1 everything is, as after a mere kill.
    """

    random: Random
    survival: float

    def one_of(self, states: Sequence[bytes]) -> bytes:
        return states[self.up_to(len(states) - 1)]

    def up_to(self, changes: int) -> int:
        """Return how many of the changes are there, one after the other."""
        if self.survival >= 1:
            return changes
        if not changes or self.random.random() >= self.survival:
            return 0
        return self.random.randint(1, changes)


class _File:
    """One file, under whatever name."""

    def __init__(self, content: bytes) -> None:
        self._before = content
        self._cached = bytearray(content)
        self._sectors: dict[int, _History] = {}
        self._length = _History(_packed(len(content)))

    @property
    def length(self) -> int:
        return len(self._cached)

    def write(self, offset: int, data: bytes, ended: float) -> None:
        end = offset + len(data)
        self._resize(max(self.length, end), ended)
        self._cached[offset:end] = data
        self._changed(offset, end, ended)

    def truncate(self, length: int, ended: float) -> None:
        before = self.length
        self._resize(length, ended)
        # Where the file is longer again later, there are zeros.
        self._changed(min(before, length), max(before, length), ended)

    def _resize(self, length: int, ended: float) -> None:
        if length != self.length:
            del self._cached[length:]
            self._cached.extend(bytes(length - self.length))
            self._length.since.append((ended, _packed(length)))

    def _changed(self, start: int, end: int, ended: float) -> None:
        for number in range(start // SECTOR, (end + SECTOR - 1) // SECTOR):
            if number not in self._sectors:
                self._sectors[number] = _History(_sector(self._before, number))
            self._sectors[number].since.append((ended, _sector(self._cached, number)))

    def sync(self, began: float) -> None:
        for history in (self._length, *self._sectors.values()):
            history.synced(began)

    def drawn(self, fate: Fate) -> bytes:
        content = bytearray(self._before)
        for number, history in sorted(self._sectors.items()):
            content.extend(bytes(max(0, (number + 1) * SECTOR - len(content))))
            content[number * SECTOR : (number + 1) * SECTOR] = history.drawn(fate)
        length = int.from_bytes(self._length.drawn(fate), "big")
        return bytes(content[:length]).ljust(length, b"\0")


@dataclass(slots=True)
class _Folder:
    """Names of one folder that are not as they were in the beginning."""

    durable: dict[Path, _File | None] = field(default_factory=dict)
    since: list[tuple[float, dict[Path, _File | None]]] = field(default_factory=list)

    def sync(self, began: float) -> None:
        while self.since and self.since[0][0] <= began:
            self.durable.update(self.since.pop(0)[1])

    def drawn(self, fate: Fate) -> dict[Path, _File | None]:
        names = dict(self.durable)
        for _, change in self.since[: fate.up_to(len(self.since))]:
            names.update(change)
        return names


class Disk:
    """A data folder from a moment at which all of it was durable, brought forward call by call.

    Args:
        before: A copy of the folder at that moment.
        folder: The folder that the calls name.
        calls: Everything that was done to it since, by :class:`tests.faults.recording.Recording`.
    """

    def __init__(self, before: Path, folder: Path, calls: Sequence[Call]) -> None:
        self._before = before
        self._folder = folder
        self._found: dict[Path, _File] = {}
        self._names: dict[Path, _File | None] = {}
        self._folders: dict[Path, _Folder] = {}
        self._steps = sorted(((call.ended if call.is_sync else call.began, call) for call in calls), key=_moment)
        self._steps.reverse()
        self._effects: dict[str, Callable[[Call], None]] = {
            "make": self._make,
            "write": lambda call: self._file(call.path).write(call.offset, call.data, call.ended),
            "truncate": lambda call: self._file(call.path).truncate(call.offset, call.ended),
            "rename": self._rename,
            "remove": lambda call: self._change(call, {call.path: None}),
            "sync": self._sync,
        }

    def forward(self, moment: float) -> None:
        """Go on to a moment, seconds of Unix time; a call that is under way then may have had its effect."""
        while self._steps and self._steps[-1][0] <= moment:
            _, call = self._steps.pop()
            if not call.path.name.endswith(_SHARED_MEMORY):
                self._effects[call.name](call)

    def put(self, target: Path, fate: Fate) -> None:
        """Write what is there after a power cut at this moment into a folder, in place of whatever that holds."""
        shutil.rmtree(target, ignore_errors=True)
        shutil.copytree(self._before, target)
        for file in target.rglob(f"*{_SHARED_MEMORY}"):
            file.unlink()
        names: dict[Path, _File | None] = dict(self._found)
        for changed in self._folders.values():
            names |= changed.drawn(fate)
        for path, content in names.items():
            _place(target / path.relative_to(self._folder), content, fate)

    def content(self, name: str, fate: Fate) -> bytes:
        """Return what a file that was there in the beginning, and kept its name, holds after a power cut."""
        return self._file(self._folder / name).drawn(fate)

    def _file(self, path: Path) -> _File:
        if path not in self._names:
            before = self._before / path.relative_to(self._folder)
            self._names[path] = self._found[path] = _File(before.read_bytes())
        file = self._names[path]
        assert file is not None, f"{path} is written to after it was removed"
        return file

    def _exists(self, path: Path) -> bool:
        if path in self._names:
            return self._names[path] is not None
        return (self._before / path.relative_to(self._folder)).exists()

    def _make(self, call: Call) -> None:
        if not self._exists(call.path):
            self._change(call, {call.path: _File(b"")})

    def _rename(self, call: Call) -> None:
        assert call.target is not None
        assert call.target.parent == call.path.parent, "a move between folders is not modelled"
        self._change(call, {call.path: None, call.target: self._file(call.path)})

    def _change(self, call: Call, names: dict[Path, _File | None]) -> None:
        self._names |= names
        self._folders.setdefault(call.path.parent, _Folder()).since.append((call.ended, names))

    def _sync(self, call: Call) -> None:
        if call.path in self._folders:
            self._folders[call.path].sync(call.began)
        elif call.path in self._names:
            self._file(call.path).sync(call.began)


def _place(path: Path, file: _File | None, fate: Fate) -> None:
    if file is None:
        path.unlink(missing_ok=True)
        return
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch(mode=0o600)
    path.write_bytes(file.drawn(fate))
    if path.name.endswith("-wal") and fate.random.random() < fate.survival:
        noise = path.with_name(path.name.removesuffix("-wal") + _SHARED_MEMORY)
        noise.write_bytes(fate.random.randbytes(_NOISE_BYTES))


def _moment(step: tuple[float, Call]) -> float:
    return step[0]


def _sector(content: bytes | bytearray, number: int) -> bytes:
    return bytes(content[number * SECTOR : (number + 1) * SECTOR]).ljust(SECTOR, b"\0")


def _packed(length: int) -> bytes:
    return length.to_bytes(8, "big")
