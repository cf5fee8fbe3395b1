"""Tiles in SQL: written as the log grows, read for proofs.

A tile of level 0 is written once, when its 256 leaf hashes are there; until
then they are read from the entries.  A tile above grows by one hash for each
tile below it that is full.  So the right edge is never stored twice, and any
node of the tree is one short read away.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import Connection, bindparam, select

from elicense.errors import StoreCorrupt
from elicense.log.tiles import TILE_SIZE, TILE_WIDTH, subtree_slice
from elicense.log.tree import HASH_SIZE, CompactRange, subtree_root
from elicense.sql.bulk import BulkInsert
from elicense.sql.direct import FixedStatement

if TYPE_CHECKING:
    from collections.abc import Sequence

    from elicense.log.model import LogKey
    from elicense.log.tables import LogTables


class TileStore:
    """Reads and writes tiles inside a caller's transaction.

    Args:
        tables: The tables of logs.
    """

    def __init__(self, tables: LogTables) -> None:
        tile, entry = tables.tile, tables.entry
        self._write = BulkInsert(tile, replace=True)
        self._hashes = FixedStatement(
            select(tile.c.hashes).where(
                tile.c.log == bindparam("log"),
                tile.c.epoch == bindparam("epoch"),
                tile.c.level == bindparam("level"),
                tile.c.n == bindparam("n"),
            )
        )
        self._leaves = FixedStatement(
            select(entry.c.leaf_hash)
            .where(
                entry.c.log == bindparam("log"),
                entry.c.epoch == bindparam("epoch"),
                entry.c.idx >= bindparam("start"),
                entry.c.idx < bindparam("stop"),
            )
            .order_by(entry.c.idx)
        )

    def leaf_hashes(self, conn: Connection, key: LogKey, start: int, stop: int) -> list[bytes]:
        """Return the hashes of leaves ``start`` to ``stop - 1``.

        Raises:
            StoreCorrupt: One is missing.
        """
        if start >= stop:
            return []
        found = self._leaves.all(conn, {"log": key.log, "epoch": key.epoch, "start": start, "stop": stop})
        hashes: list[bytes] = [row[0] for row in found]
        if len(hashes) != stop - start:
            raise StoreCorrupt("an entry of the log is missing; run fsck", log=key.log, start=start, stop=stop)
        return hashes

    def extend(self, conn: Connection, key: LogKey, size: int, leaf_hashes: Sequence[bytes]) -> None:
        """Write the tiles that new leaves fill or lengthen.

        Args:
            conn: Transaction that also writes the entries.
            key: Which log.
            size: Number of leaves before these.
            leaf_hashes: The new ones.

        Raises:
            StoreCorrupt: What is stored does not fit ``size``.
        """
        first = size // TILE_WIDTH
        full = (size + len(leaf_hashes)) // TILE_WIDTH - first
        if not full:
            return
        hashes = [*self.leaf_hashes(conn, key, first * TILE_WIDTH, size), *leaf_hashes]
        level = 0
        while full:
            tiles = [hashes[start : start + TILE_WIDTH] for start in range(0, len(hashes), TILE_WIDTH)]
            # Level 0 keeps full tiles only: its right edge is in the entries.
            self._put(conn, key, level, first, tiles if level else tiles[:full])
            roots = [subtree_root(tile) for tile in tiles[:full]]
            level += 1
            # The full tiles below are the nodes here, from number ``first`` on.
            start = first
            first, offset = divmod(start, TILE_WIDTH)
            held = self._tile_hashes(conn, key, level, first) if offset else []
            if len(held) != offset:
                raise StoreCorrupt("a tile of the log does not fit its size; run fsck", log=key.log, level=level)
            hashes = [*held, *roots]
            full = len(hashes) // TILE_WIDTH
            if not full:
                self._put(conn, key, level, first, [hashes])

    def reader(self, conn: Connection, key: LogKey) -> TileReader:
        """Return a reader that remembers the tiles it has read, for the proofs of one transaction."""
        return TileReader(self, conn, key)

    def node(self, conn: Connection, key: LogKey, start: int, end: int) -> bytes:
        """Return the root over leaves ``[start, end)``, a complete aligned subtree.

        Raises:
            Malformed: It is not such a subtree.
            StoreCorrupt: A part of it is missing.
        """
        return self.reader(conn, key).node(start, end)

    def read_tile(self, conn: Connection, key: LogKey, level: int, n: int) -> bytes | None:
        """Return the hashes of a stored tile, one after the other, or None."""
        data: bytes | None = self._hashes.scalar(conn, {"log": key.log, "epoch": key.epoch, "level": level, "n": n})
        return data

    def _tile_hashes(self, conn: Connection, key: LogKey, level: int, n: int) -> list[bytes]:
        data = self.read_tile(conn, key, level, n) or b""
        return [data[i : i + HASH_SIZE] for i in range(0, len(data), HASH_SIZE)]

    def _put(self, conn: Connection, key: LogKey, level: int, first: int, tiles: Sequence[Sequence[bytes]]) -> None:
        rows = [(key.log, key.epoch, level, first + i, b"".join(tile)) for i, tile in enumerate(tiles)]
        self._write.execute(conn, rows)


class TileReader:
    """Gives nodes of a log's tree; each tile is read once.

    Args:
        store: Reads the tiles.
        conn: Transaction in which they are read.
        key: Which log.
    """

    def __init__(self, store: TileStore, conn: Connection, key: LogKey) -> None:
        self._store = store
        self._conn = conn
        self._key = key
        self._tiles: dict[tuple[int, int], bytes] = {}

    def root(self, size: int) -> bytes:
        """Return the root over the first ``size`` leaves.

        Raises:
            StoreCorrupt: A part of the tree is missing.
        """
        hashes, start = [], 0
        for bit in reversed(range(size.bit_length())):
            if size & (1 << bit):
                hashes.append(self.node(start, start + (1 << bit)))
                start += 1 << bit
        return CompactRange(size, tuple(hashes)).root()

    def node(self, start: int, end: int) -> bytes:
        """Return the root over leaves ``[start, end)``, a complete aligned subtree.

        Raises:
            Malformed: It is not such a subtree.
            StoreCorrupt: A part of it is missing.
        """
        part = subtree_slice(start, end)
        if part.level == 0 and (0, part.n) not in self._tiles:
            tile = self._store.read_tile(self._conn, self._key, 0, part.n)
            if tile is None:
                # The right edge: not yet a tile.
                return subtree_root(self._store.leaf_hashes(self._conn, self._key, start, end))
            self._tiles[0, part.n] = tile
        data = self._tiles.get((part.level, part.n))
        if data is None:
            data = self._store.read_tile(self._conn, self._key, part.level, part.n) or b""
            self._tiles[part.level, part.n] = data
        first, stop = part.first * HASH_SIZE, (part.first + part.count) * HASH_SIZE
        if len(data) > TILE_SIZE or len(data) < stop:
            raise StoreCorrupt("a tile of the log is missing or too short; run fsck", level=part.level, tile=part.n)
        return subtree_root([data[i : i + HASH_SIZE] for i in range(first, stop, HASH_SIZE)])
