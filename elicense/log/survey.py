"""Checks every log step by step, each step in a transaction of its own, in memory that no log's length adds to.

Logs only grow: what was checked once stays so, and a step in a later transaction
goes on behind it.  When a step comes to the end of every log, whatever else its
transaction shows can be compared with what the logs have said so far.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import astuple
from typing import TYPE_CHECKING, Any, Final

from elicense.errors import Error
from elicense.log.check import Finding, LogCheck, LogKeys, LogProgress
from elicense.log.model import LogKey, StoredEntry
from elicense.log.store import LogStore
from elicense.log.tree import HASH_SIZE, CompactRange
from elicense.sql.scratch import Scratch

if TYPE_CHECKING:
    from sqlalchemy import Connection

#: Entries that one step checks before it lets the transaction end.
STEP: Final = 16_384


class Survey:
    """Checks logs in order of their keys, so that the registry's own comes first.

    Args:
        scratch: Where it notes how far it has come.
        store: The tables of logs.
        keys_of: Who signs a log; None when nobody knows.
        read: Called with the entries of each log in order, each once.
        found: Called with each finding.
        progress: Called with the number of entries checked since the last call.
    """

    def __init__(
        self,
        scratch: Scratch,
        store: LogStore,
        *,
        keys_of: Callable[[Connection, LogKey], LogKeys | None],
        read: Callable[[Connection, LogKey, Sequence[StoredEntry]], None],
        found: Callable[[Finding], None],
        progress: Callable[[int], None],
    ) -> None:
        self._store = store
        self._keys_of = keys_of
        self._read = read
        self._found = found
        self._progress = progress
        self._logs = scratch.shelf("log", keys=2, values=11)

    def checked(self, *, but: int | None = None) -> tuple[int, int]:
        """Return how many logs have been checked, and entries of them, by earlier runs as well; one log left out."""
        held = [self._load(key).index for key in self._keys() if key.log != but]
        return len(held), sum(held)

    def misfit(self, conn: Connection) -> str | None:
        """Return why what was checked earlier is worth nothing in this database; None when it goes on."""
        for key in self._keys():
            held = self._load(key)
            try:
                row = self._store.commits.at(conn, key, held.tree.size) if held.tree.size else None
            except Error:
                row = None
            if held.tree.size and (row is None or row.root != held.root):
                return f"log {key.log}/{key.epoch} is not the one any more that was checked up to {held.tree.size}"
        return None

    def step(self, conn: Connection, *, limit: int = STEP) -> bool:
        """Check up to about ``limit`` entries; return whether the end of every log was reached."""
        for log, epoch, size in sorted(self._store.sizes(conn)):
            key = LogKey(log, epoch)
            held = self._load(key)
            if held.broken or held.head == size:
                continue
            limit -= self._go_on(conn, key, held, limit)
            if limit <= 0:
                return False
        return True

    def _go_on(self, conn: Connection, key: LogKey, held: LogProgress, limit: int) -> int:
        keys = self._keys_of(conn, key)
        if keys is None:
            self._found(Finding(f"log {key.log}/{key.epoch}", "nobody knows who signs it"))
            self._save(key, LogProgress(broken=True))
            return 0
        check = LogCheck(conn, self._store, key, keys=keys, found=self._found, since=held)
        done = 0
        for chunk in check.entries():
            self._read(conn, key, chunk)
            done += len(chunk)
            self._progress(len(chunk))
            if done >= limit:
                break
        self._save(key, check.progress)
        return done

    def _keys(self) -> list[LogKey]:
        found: list[LogKey] = []
        while page := self._logs.page((found[-1].log, found[-1].epoch) if found else None, 100):
            found += [LogKey(int(row[0]), int(row[1])) for row in page]
        return found

    def _load(self, key: LogKey) -> LogProgress:
        row: Any = self._logs.get(key.log, key.epoch)
        if row is None:
            return LogProgress()
        index, size, frontier, root, since, leaves, subtrees, commits, recorded_us, head, broken = row[2:]
        levels = tuple(_split(level) for level in _parts(subtrees))
        tree = CompactRange.decode(size, frontier)
        return LogProgress(
            index, tree, root, _split(since), _split(leaves), levels, commits, recorded_us, head, bool(broken)
        )

    def _save(self, key: LogKey, held: LogProgress) -> None:
        subtrees = b"".join(len(level).to_bytes(2) + b"".join(level) for level in held.subtrees)
        row = (held.index, held.tree.size, held.tree.encode(), held.root, b"".join(held.since), b"".join(held.leaves))
        self._logs.put([(*astuple(key), *row, subtrees, held.commits, held.recorded_us, held.head, int(held.broken))])


def _split(hashes: bytes) -> tuple[bytes, ...]:
    return tuple(hashes[at : at + HASH_SIZE] for at in range(0, len(hashes), HASH_SIZE))


def _parts(subtrees: bytes) -> list[bytes]:
    parts = []
    while subtrees:
        end = 2 + int.from_bytes(subtrees[:2]) * HASH_SIZE
        parts.append(subtrees[2:end])
        subtrees = subtrees[end:]
    return parts
