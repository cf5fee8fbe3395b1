"""Hashes of the RFC 6962 Merkle tree, and the tree of which only the right edge is kept.

Nothing here stores anything.  A tree of n leaves is known by its *compact
range*: the roots of the complete subtrees that the bits of n stand for, widest
first, at most 63 hashes.  That is enough to append and to give the root.
"""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING, Final

from elicense.errors import Malformed

if TYPE_CHECKING:
    from collections.abc import Sequence

HASH_SIZE: Final = 32
"""Bytes of every hash in the tree."""

MAX_LOG_SIZE: Final = 2**63 - 1
"""Most leaves of a log: sizes are kept as signed 64-bit integers in SQL."""

EMPTY_ROOT: Final = sha256().digest()
"""Root of the tree without leaves (RFC 6962, 2.1)."""


def hash_leaf(entry: bytes) -> bytes:
    """The hash of a leaf: ``SHA-256(0x00 || entry)`` (RFC 6962, 2.1)."""
    return sha256(b"\x00" + entry).digest()


def hash_children(left: bytes, right: bytes) -> bytes:
    """The hash of an inner node: ``SHA-256(0x01 || left || right)`` (RFC 6962, 2.1)."""
    return sha256(b"\x01" + left + right).digest()


def check_hashes(hashes: Sequence[bytes]) -> None:
    """Refuse hashes of another length, before they shift every byte after them.

    Raises:
        Malformed: A hash is not 32 bytes.
    """
    if not set(map(len, hashes)) <= {HASH_SIZE}:
        raise Malformed(f"a hash must be {HASH_SIZE} bytes")


def parents(nodes: list[bytes]) -> list[bytes]:
    """The next level up; the number of nodes must be even."""
    digest = sha256
    return [digest(b"\x01" + left + right).digest() for left, right in zip(nodes[::2], nodes[1::2], strict=True)]


def next_level(nodes: list[bytes]) -> list[bytes]:
    """The next level, where an odd last node goes up unchanged."""
    if len(nodes) & 1:
        return [*parents(nodes[:-1]), nodes[-1]]
    return parents(nodes)


def fold(roots: Sequence[bytes]) -> bytes:
    """The root over complete subtrees that stand side by side, widest first."""
    if not roots:
        return EMPTY_ROOT
    root = roots[-1]
    for left in reversed(roots[:-1]):
        root = hash_children(left, root)
    return root


@dataclass(frozen=True, slots=True)
class CompactRange:
    """A tree of which only the right edge is kept.

    Attributes:
        size: Number of leaves.
        hashes: Roots of the complete subtrees, widest first; one for every one bit of ``size``.

    Raises:
        Malformed: The number or the length of the hashes does not fit ``size``.
    """

    size: int
    hashes: tuple[bytes, ...]

    def __post_init__(self) -> None:
        if not 0 <= self.size <= MAX_LOG_SIZE:
            raise Malformed("the size of a log is out of range")
        if len(self.hashes) != self.size.bit_count():
            raise Malformed("a compact range must have one hash for every one bit of its size")
        check_hashes(self.hashes)

    def append_leaves(self, leaf_hashes: Sequence[bytes]) -> CompactRange:
        """The range after these leaves.

        The new nodes are made level by level: what waits at a level on the
        right edge goes before the new nodes of that level, pairs become the
        nodes of the next level, and an odd one out waits in turn.  One hash a
        leaf, and the loops run inside comprehensions: this is the hot path of
        every commit.

        Args:
            leaf_hashes: Leaf hashes in log order, 32 bytes each.

        Raises:
            Malformed: A leaf hash is not 32 bytes, or the log would be too large.
        """
        check_hashes(leaf_hashes)
        nodes = list(leaf_hashes)
        edge = list(self.hashes)
        waiting: list[bytes] = []
        size = self.size
        while nodes:
            if size & 1:
                nodes.insert(0, edge.pop())
            if len(nodes) & 1:
                waiting.append(nodes.pop())
            nodes = parents(nodes)
            size >>= 1
        waiting.reverse()
        return CompactRange(self.size + len(leaf_hashes), (*edge, *waiting))

    def root(self) -> bytes:
        """The root of the tree."""
        return fold(self.hashes)

    def encode(self) -> bytes:
        """The hashes one after the other; with the size, enough to decode."""
        return b"".join(self.hashes)

    @classmethod
    def decode(cls, size: int, encoded: bytes) -> CompactRange:
        """Read what :meth:`encode` wrote.

        Args:
            size: Number of leaves, kept beside the hashes.
            encoded: The hashes one after the other.

        Raises:
            Malformed: The bytes do not fit the size.
        """
        if len(encoded) % HASH_SIZE:
            raise Malformed("a compact range must be whole hashes")
        return cls(size, tuple(encoded[i : i + HASH_SIZE] for i in range(0, len(encoded), HASH_SIZE)))


def subtree_root(leaf_hashes: Sequence[bytes]) -> bytes:
    """The root over these hashes, taken as the leaves of a tree of their own.

    The hashes may be nodes of any one level; a complete subtree's root is the
    root over its nodes of each level below.

    Raises:
        Malformed: A hash is not 32 bytes.
    """
    check_hashes(leaf_hashes)
    nodes = list(leaf_hashes)
    while len(nodes) > 1:
        nodes = next_level(nodes)
    return nodes[0] if nodes else EMPTY_ROOT


EMPTY_RANGE: Final = CompactRange(0, ())
"""The log before its first leaf."""
