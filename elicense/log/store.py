"""Logs in SQL: the only queries over the tables of logs.

A log is known by its head: size, compact range and root in one row, moved on
by compare-and-set.  Everything else only grows.  Methods run inside a caller's
transaction; nothing they write is a fact before that transaction is committed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from sqlalchemy import Connection, bindparam, func, select, tuple_

from elicense.errors import Malformed, StoreCorrupt
from elicense.log import merkle
from elicense.log.commit_store import CommitStore, key_values, of_log
from elicense.log.erased_store import ErasedStore
from elicense.log.model import Census, CheckpointRow, Head, HeadMoved, LogKey, NewEntry, StoredEntry
from elicense.log.tables import LogTables, define_log_tables
from elicense.log.tile_store import TileStore
from elicense.log.tree import EMPTY_ROOT, CompactRange
from elicense.sql.bulk import BulkInsert, BulkLookup
from elicense.sql.database import insert_for
from elicense.sql.direct import FixedStatement

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

__all__ = [
    "CheckpointRow",
    "Head",
    "HeadMoved",
    "LogKey",
    "LogStore",
    "LogTables",
    "NewEntry",
    "StoredEntry",
    "define_log_tables",
]

_MAX_KEYS: Final = 4_000  # of one IN list, well below every engine's limit on parameters

_FEWEST_ROWS: Final = 16
"""Entries that are read at least where a page has room left: each query costs as much as reading some."""

_FIRST_ROWS: Final = 64
"""Entries that are read before it is known how large they are: one of the registry's may hold a thousand grants."""

_MOST_ROWS: Final = 256
"""Entries that are read at once, however small those before them: larger ones may follow."""


class LogStore:
    """Reads and appends logs inside a caller's transaction.

    Attributes:
        commits: What each commit left.
        erased: Takes records out of logs.

    Args:
        tables: From :func:`define_log_tables`.
    """

    def __init__(self, tables: LogTables) -> None:
        head, entry = tables.head, tables.entry
        self.commits = CommitStore(tables)
        self.erased = ErasedStore(tables)
        self._tables = tables
        self._tiles = TileStore(tables)
        self._insert_entries = BulkInsert(entry)
        of_one = select(head.c.size, head.c.frontier, head.c.root, head.c.note, head.c.recorded_us).where(*of_log(head))
        self._head = FixedStatement(of_one)
        self._locked_head = FixedStatement(of_one.with_for_update())
        self._heads = select(
            head.c.log, head.c.epoch, head.c.size, head.c.frontier, head.c.root, head.c.note, head.c.recorded_us
        ).order_by(head.c.log, head.c.epoch)
        self._keys = FixedStatement(select(head.c.log, head.c.epoch).order_by(head.c.log, head.c.epoch))
        self._sizes = FixedStatement(select(head.c.log, head.c.epoch, head.c.size))
        self._advance = FixedStatement(
            head.update()
            .where(*of_log(head), head.c.size == bindparam("old_size"), head.c.root == bindparam("old_root"))
            .values({name: bindparam(f"new_{name}") for name in ("size", "frontier", "root", "note", "recorded_us")})
        )
        columns = (entry.c.idx, entry.c.record, entry.c.salt, entry.c.leaf_hash)
        self._entry_range = FixedStatement(
            select(*columns)
            .where(*of_log(entry), entry.c.idx >= bindparam("start"), entry.c.idx < bindparam("stop"))
            .order_by(entry.c.idx)
        )
        self._entries_anywhere = select(entry.c.log, entry.c.epoch, *columns).where(
            tuple_(entry.c.log, entry.c.epoch, entry.c.idx).in_(bindparam("places", expanding=True))
        )
        self._entries_at = BulkLookup(columns, entry.c.idx, condition="log = ? AND epoch = ? AND")
        self._counts = [
            FixedStatement(select(func.count()).select_from(table).where(*of_log(table)))
            for table in (tables.entry, tables.checkpoint, tables.tile)
        ]

    def create(self, conn: Connection, key: LogKey) -> None:
        """Open an empty log; without effect when it exists."""
        row = {"log": key.log, "epoch": key.epoch, "size": 0, "frontier": b"", "root": EMPTY_ROOT, "note": None}
        row |= {"cosigned_size": 0, "cosigned": None, "recorded_us": 0}
        statement = insert_for(conn.dialect.name, self._tables.head)
        conn.execute(statement.on_conflict_do_nothing(index_elements=["log", "epoch"]), [row])

    def keys(self, conn: Connection) -> list[LogKey]:
        """Return every log that was created, in order."""
        return [LogKey(*row) for row in self._keys.all(conn)]

    def sizes(self, conn: Connection) -> frozenset[tuple[int, int, int]]:
        """Return log, epoch and size of every log: a cheap sign of whether any has moved."""
        return frozenset((log, epoch, size) for log, epoch, size in self._sizes.all(conn))

    def head(self, conn: Connection, key: LogKey, *, lock: bool = False) -> Head | None:
        """Return the head of a log, or None when it was never created.

        Args:
            conn: A transaction; a writing one when ``lock`` is set.
            key: Which log.
            lock: Keep others from appending until the transaction ends.

        Raises:
            StoreCorrupt: The stored head contradicts itself.
        """
        row = (self._locked_head if lock else self._head).first(conn, key_values(key))
        return None if row is None else _read_head(key, *row)

    def heads(self, conn: Connection) -> list[Head]:
        """Return the head of every log, in order.

        Raises:
            StoreCorrupt: A stored head contradicts itself.
        """
        return [_read_head(LogKey(log, epoch), *row) for log, epoch, *row in conn.execute(self._heads)]

    def advance(
        self,
        conn: Connection,
        head: Head,
        entries: Sequence[NewEntry],
        *,
        recorded_us: int,
        previous_note: tuple[int, bytes] | None = None,
        note: bytes | None = None,
        frontier: CompactRange | None = None,
    ) -> Head:
        """Append entries after ``head`` and move the head on.

        Args:
            conn: The transaction; once it is committed, the new head may be signed.
            head: The head that the entries follow.
            entries: At least one, in order.
            recorded_us: Clock of this commit, UTC microseconds.
            previous_note: Size and signed checkpoint of an earlier head, to be stored along.
            note: Signed checkpoint of the new head, where another has signed it before.
            frontier: The tree behind the entries, where it is known already.

        Returns:
            The new head.

        Raises:
            HeadMoved: The log does not end at ``head`` any more; nothing must be committed.
            StoreCorrupt: The stored tree does not fit ``head``.
        """
        leaf_hashes = [entry.leaf_hash for entry in entries]
        frontier = frontier or head.frontier.append_leaves(leaf_hashes)
        moved = Head(head.key, frontier, frontier.root(), note, recorded_us)
        values = {
            **key_values(head.key),
            "old_size": head.size,
            "old_root": head.root,
            "new_size": moved.size,
            "new_frontier": frontier.encode(),
            "new_root": moved.root,
            "new_note": note,
            "new_recorded_us": recorded_us,
        }
        if self._advance.run(conn, values) != 1:
            raise HeadMoved("another writer appended to the log; read its head again", log=head.key.log)
        log, epoch = head.key.log, head.key.epoch
        self._insert_entries.execute(
            conn, [(log, epoch, index, e.record, e.salt, e.leaf_hash) for index, e in enumerate(entries, head.size)]
        )
        self._tiles.extend(conn, head.key, head.size, leaf_hashes)
        if previous_note is not None:
            size, earlier = previous_note
            self.commits.note(conn, head.key, size, earlier)
        self.commits.add(conn, moved)
        return moved

    def entries(
        self, conn: Connection, key: LogKey, start: int, count: int, *, max_bytes: int | None = None
    ) -> list[StoredEntry]:
        """Return up to ``count`` entries from ``start`` on, in order.

        Args:
            conn: A transaction.
            key: Which log.
            start: Index of the first entry.
            count: Most entries.
            max_bytes: Stop before records and salts exceed this; the first entry always comes.
        """
        found: list[StoredEntry] = []
        taken, stop = 0, start + count
        while (at := start + len(found)) < stop:
            rows = stop - at if max_bytes is None else min(stop - at, _rows_within(max_bytes, len(found), taken))
            read = self._entry_range.all(conn, {**key_values(key), "start": at, "stop": at + rows})
            for row in read:
                entry = StoredEntry(*row)
                taken += len(entry.record or b"") + len(entry.salt or b"")
                if max_bytes is not None and found and taken > max_bytes:
                    return found
                found.append(entry)
            if len(read) < rows:
                break
        return found

    def entries_at(self, conn: Connection, key: LogKey, indices: Iterable[int]) -> dict[int, StoredEntry]:
        """Return the entries at these indices, by index; one that does not exist is absent."""
        return {row[0]: StoredEntry(*row) for row in self._entries_at.execute(conn, indices, key.log, key.epoch)}

    def entries_anywhere(
        self, conn: Connection, places: Iterable[tuple[LogKey, int]]
    ) -> dict[tuple[LogKey, int], StoredEntry]:
        """Return entries of any logs, by log and index; one that does not exist is absent."""
        wanted = sorted({(key.log, key.epoch, index) for key, index in places})
        found: dict[tuple[LogKey, int], StoredEntry] = {}
        for start in range(0, len(wanted), _MAX_KEYS // 3):
            for row in conn.execute(self._entries_anywhere, {"places": wanted[start : start + _MAX_KEYS // 3]}):
                found[LogKey(row[0], row[1]), row[2]] = StoredEntry(*row[2:])
        return found

    def leaf_hashes(self, conn: Connection, key: LogKey, start: int, stop: int) -> list[bytes]:
        """Return the hashes of leaves ``start`` to ``stop - 1``.

        Raises:
            StoreCorrupt: One is missing.
        """
        return self._tiles.leaf_hashes(conn, key, start, stop)

    def has_tile(self, conn: Connection, key: LogKey, level: int, n: int) -> bool:
        """Whether a tile is stored."""
        return self._tiles.read_tile(conn, key, level, n) is not None

    def census(self, conn: Connection, key: LogKey) -> Census:
        """Return how many rows of each kind a log has; reads all of their keys."""
        return Census(*(int(counted.scalar(conn, key_values(key))) for counted in self._counts))

    def strays(self, conn: Connection) -> list[LogKey]:
        """Return logs that have rows but no head."""
        known = set(self.keys(conn))
        found: set[LogKey] = set()
        for table in (self._tables.entry, self._tables.checkpoint, self._tables.tile):
            rows = conn.execute(select(table.c.log, table.c.epoch).distinct())
            found |= {LogKey(*row) for row in rows} - known
        return sorted(found)

    def node(self, conn: Connection, key: LogKey, start: int, end: int) -> bytes:
        """Return the root over leaves ``[start, end)``, a complete aligned subtree.

        Raises:
            Malformed: It is not such a subtree.
            StoreCorrupt: A part of it is missing.
        """
        return self._tiles.node(conn, key, start, end)

    def root_at(self, conn: Connection, head: Head, size: int) -> bytes:
        """Return the root over the first ``size`` entries of a log that holds at least so many.

        Raises:
            StoreCorrupt: A part of the tree is missing.
        """
        return head.root if size == head.size else self._tiles.reader(conn, head.key).root(size)

    def inclusion_proofs(self, conn: Connection, key: LogKey, indices: Iterable[int], size: int) -> list[list[bytes]]:
        """Return the inclusion proof of each index in the tree of ``size`` leaves, in order.

        Raises:
            Malformed: The log is not that large, or an index is not below ``size``.
            StoreCorrupt: A part of the tree is missing.
        """
        self._require_size(conn, key, size)
        node = self._tiles.reader(conn, key).node
        return [merkle.inclusion_proof(index, size, node) for index in indices]

    def inclusion_proof(self, conn: Connection, key: LogKey, index: int, size: int) -> list[bytes]:
        """Return the inclusion proof of one index; as :meth:`inclusion_proofs`."""
        return self.inclusion_proofs(conn, key, [index], size)[0]

    def consistency_proof(self, conn: Connection, key: LogKey, first: int, second: int) -> list[bytes]:
        """Return the proof that the tree of ``first`` leaves is a prefix of that of ``second``.

        Raises:
            Malformed: The log is not that large, or the sizes are out of order.
            StoreCorrupt: A part of the tree is missing.
        """
        self._require_size(conn, key, second)
        return merkle.consistency_proof(first, second, self._tiles.reader(conn, key).node)

    def _require_size(self, conn: Connection, key: LogKey, size: int) -> None:
        head = self.head(conn, key)
        if head is None or size > head.size:
            raise Malformed("the log is not that large", size=size)


def _rows_within(max_bytes: int, rows: int, taken: int) -> int:
    """Return how many rows to read next, where ``rows`` that were read have ``taken`` bytes."""
    if not rows:
        return _FIRST_ROWS
    return min(_MOST_ROWS, max(_FEWEST_ROWS, (max_bytes - taken) * rows // max(taken, 1)))


def _read_head(key: LogKey, size: int, frontier: bytes, root: bytes, note: bytes | None, recorded_us: int) -> Head:
    try:
        compact = CompactRange.decode(size, frontier)
    except Malformed as error:
        raise StoreCorrupt("the head of the log is damaged; run fsck", log=key.log) from error
    # A flipped bit must be found before anything is built, and signed, upon it.
    if compact.root() != root:
        raise StoreCorrupt("the head of the log does not lead to its root; run fsck", log=key.log)
    return Head(key, compact, root, note, recorded_us)
