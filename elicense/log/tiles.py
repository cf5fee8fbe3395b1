"""Coordinates of Merkle tiles: where a hash of the tree is kept.

A tile holds up to 256 hashes of every eighth level of the tree: entry i of
tile n at tile level l is the root over the 256^l leaves from
(n * 256 + i) * 256^l.  Only complete subtrees are ever kept, and a full tile
never changes.

Source: c2sp.org/tlog-tiles@v0.1.0.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from elicense.errors import Malformed
from elicense.log.tree import HASH_SIZE, MAX_LOG_SIZE

TILE_HEIGHT: Final = 8
"""Levels of the tree that one level of tiles stands for."""

TILE_WIDTH: Final = 256
"""Hashes of a full tile."""

TILE_SIZE: Final = TILE_WIDTH * HASH_SIZE
"""Bytes of a full tile."""

MAX_TILE_LEVEL: Final = 63
"""Highest tile level that the specification lets a path name."""

_MAX_PATH_SIZE: Final = 64
_TILE_MASK: Final = TILE_WIDTH - 1


@dataclass(frozen=True, slots=True)
class Tile:
    """One tile, full or partial.

    Attributes:
        level: Tile level from 0, where the entries are leaf hashes.
        n: Number of the tile on its level, from 0.
        width: Hashes in it, 1 to 256.

    Raises:
        Malformed: A value is out of range.
    """

    level: int
    n: int
    width: int = TILE_WIDTH

    def __post_init__(self) -> None:
        if not (0 <= self.level <= MAX_TILE_LEVEL and 0 <= self.n <= MAX_LOG_SIZE and 1 <= self.width <= TILE_WIDTH):
            raise Malformed("the coordinates of a tile are out of range")


@dataclass(frozen=True, slots=True)
class TileSlice:
    """The hashes of one tile that a complete subtree is made of.

    The root of the subtree is :func:`elicense.log.merkle.subtree_root` over them.

    Attributes:
        level: Tile level.
        n: Number of the tile.
        first: Position of the first hash in the tile.
        count: Number of hashes, a power of two, at most 128.
    """

    level: int
    n: int
    first: int
    count: int


def tile_path(level: int, n: int, width: int = TILE_WIDTH) -> str:
    """The path of a tile below the prefix of its log, such as ``tile/0/x001/067.p/40``.

    Raises:
        Malformed: The coordinates are out of range.
    """
    tile = Tile(level, n, width)
    digits = str(tile.n)
    digits = digits.zfill(-(-len(digits) // 3) * 3)
    groups = [digits[i : i + 3] for i in range(0, len(digits), 3)]
    name = "/".join([f"x{group}" for group in groups[:-1]] + groups[-1:])
    partial = "" if tile.width == TILE_WIDTH else f".p/{tile.width}"
    return f"tile/{tile.level}/{name}{partial}"


def parse_tile_path(path: str) -> Tile:
    """Read a path that :func:`tile_path` wrote.

    Raises:
        Malformed: The path is not the one canonical path of a tile.
    """
    if len(path) > _MAX_PATH_SIZE or not path.isascii():
        raise Malformed("the path of a tile is too long or not ASCII")
    whole, partial, width = path.partition(".p/")
    root, _, rest = whole.partition("/")
    level, _, name = rest.partition("/")
    number = name.replace("/x", "").replace("/", "").removeprefix("x")
    parts = (level, number, width if partial else str(TILE_WIDTH))
    if root != "tile" or not all(part.isdecimal() for part in parts):
        raise Malformed("the path of a tile must read tile/level/number")
    tile = Tile(*map(int, parts))
    # Writing it again shows wrong groups, leading zeros and an explicit full width.
    if tile_path(tile.level, tile.n, tile.width) != path:
        raise Malformed("the path of a tile is not in its canonical form")
    return tile


def tile_width(level: int, n: int, size: int) -> int:
    """How many hashes a tile holds in a log of this size: 0 to 256.

    Args:
        level: Tile level.
        n: Number of the tile.
        size: Number of leaves of the log.
    """
    complete = size >> (level * TILE_HEIGHT)
    return max(0, min(TILE_WIDTH, complete - n * TILE_WIDTH))


def subtree_slice(start: int, end: int) -> TileSlice:
    """Where the hashes of a complete subtree are kept.

    Args:
        start: First leaf of the subtree.
        end: Leaf after the last one.

    Raises:
        Malformed: The leaves are not a complete aligned subtree.
    """
    width = end - start
    if start < 0 or width < 1 or width & (width - 1) or start & (width - 1):
        raise Malformed("the leaves are not a complete subtree")
    level, height = divmod(width.bit_length() - 1, TILE_HEIGHT)
    position = start >> (level * TILE_HEIGHT)
    return TileSlice(level, position >> TILE_HEIGHT, position & _TILE_MASK, 1 << height)
