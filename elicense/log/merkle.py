"""The RFC 6962 Merkle tree: roots, the compact right edge, proofs and their checks.

The tree over no leaves has the root SHA-256 of nothing.  Where RFC 6962 leaves
proofs about it undefined, the rule here is: nothing is included in it, and
every tree is consistent with it by the empty proof.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from hashlib import sha256

from elicense.errors import Malformed, RootMismatch
from elicense.log.tree import (
    EMPTY_RANGE,
    EMPTY_ROOT,
    HASH_SIZE,
    MAX_LOG_SIZE,
    CompactRange,
    check_hashes,
    fold,
    hash_children,
    hash_leaf,
    next_level,
    subtree_root,
)

__all__ = [
    "EMPTY_RANGE",
    "EMPTY_ROOT",
    "HASH_SIZE",
    "MAX_LOG_SIZE",
    "CompactRange",
    "NodeReader",
    "batch_inclusion_proofs",
    "consistency_proof",
    "hash_children",
    "hash_leaf",
    "inclusion_proof",
    "inclusion_root",
    "root_over",
    "subtree_root",
    "verify_consistency",
    "verify_inclusion",
]

NodeReader = Callable[[int, int], bytes]
"""Gives the root over leaves ``[start, end)``, for complete aligned subtrees only."""


def inclusion_proof(index: int, size: int, node: NodeReader) -> list[bytes]:
    """The path that shows a leaf in a tree (RFC 6962, 2.1.1).

    Args:
        index: Index of the leaf from 0.
        size: Number of leaves of the tree.
        node: Gives the root over leaves ``[start, end)``.  It is asked for
            complete subtrees only: ``end - start`` is a power of two that
            divides ``start``.

    Returns:
        The hashes from the leaf upwards.

    Raises:
        Malformed: The tree has no such leaf.
    """
    if not 0 <= index < size:
        raise Malformed("the index is not below the size of the tree")
    start, end = 0, size
    path = []
    while end - start > 1:
        middle = _split(start, end)
        if index < middle:
            path.append(_span_root(middle, end, node))
            end = middle
        else:
            path.append(node(start, middle))
            start = middle
    path.reverse()
    return path


def consistency_proof(first: int, second: int, node: NodeReader) -> list[bytes]:
    """The hashes that show one tree to be a prefix of another (RFC 6962, 2.1.2).

    Args:
        first: Size of the older tree.
        second: Size of the newer tree.
        node: As for :func:`inclusion_proof`.

    Returns:
        The hashes in the order of RFC 6962; none when the sizes are equal or the older tree is empty.

    Raises:
        Malformed: The sizes are out of order.
    """
    if not 0 <= first <= second:
        raise Malformed("the sizes of the two trees are out of order")
    if first == 0:
        return []
    start, end = 0, second
    path = []
    while end != first:
        middle = _split(start, end)
        if first <= middle:
            path.append(_span_root(middle, end, node))
            end = middle
        else:
            path.append(node(start, middle))
            start = middle
    # The older root itself is known to the reader; only a part of it has to be sent.
    if start:
        path.append(node(start, end))
    path.reverse()
    return path


def root_over(size: int, node: NodeReader) -> bytes:
    """The root over the first ``size`` leaves of a tree, from its complete subtrees.

    Args:
        size: Number of leaves.
        node: As for :func:`inclusion_proof`.
    """
    return _span_root(0, size, node)


def batch_inclusion_proofs(
    frontier: CompactRange, leaf_hashes: Sequence[bytes], indices: Sequence[int]
) -> list[list[bytes]]:
    """Inclusion proofs of new leaves against the head right after their batch.

    No store is needed: whatever lies left of the batch is on the right edge
    of the tree before it.

    Args:
        frontier: The tree before the batch.
        leaf_hashes: The batch, in log order.
        indices: Log indices, each within the batch; any order, repeats allowed.

    Returns:
        One path for every index, in the order of ``indices``.

    Raises:
        Malformed: An index is outside the batch, or a hash is not 32 bytes.
    """
    check_hashes(leaf_hashes)
    size = frontier.size + len(leaf_hashes)
    if any(not frontier.size <= index < size for index in indices):
        raise Malformed("the index is outside the batch")
    # Level by level as in append_leaves, but an odd node on the right goes up
    # unchanged: its place in RFC 6962 is taken by the subtree it stands for.
    levels: list[tuple[int, list[bytes]]] = []
    nodes, edge = list(leaf_hashes), list(frontier.hashes)
    first, last = frontier.size, size - 1
    while last > 0:
        if first & 1:
            nodes.insert(0, edge.pop())
        levels.append((first & ~1, nodes))
        nodes = next_level(nodes)
        first >>= 1
        last >>= 1
    return [_path(levels, index) for index in indices]


def inclusion_root(*, leaf_hash: bytes, index: int, size: int, proof: Sequence[bytes]) -> bytes:
    """The root that an inclusion proof leads to (RFC 9162, 2.1.3.2).

    Args:
        leaf_hash: Hash of the leaf.
        index: Index of the leaf from 0.
        size: Number of leaves of the tree.
        proof: The hashes from the leaf upwards.

    Raises:
        RootMismatch: The proof has not the shape that index and size demand.
    """
    if not 0 <= index < size <= MAX_LOG_SIZE:
        raise RootMismatch("the index of an inclusion proof is not below the size of the tree")
    inner = (index ^ (size - 1)).bit_length()
    if len(proof) != inner + (index >> inner).bit_count():
        raise RootMismatch("an inclusion proof has the wrong number of hashes")
    _check_proof(leaf_hash, *proof)
    digest = sha256
    fn, sn, root = index, size - 1, leaf_hash
    for sibling in proof:
        if fn & 1 or fn == sn:
            root = digest(b"\x01" + sibling + root).digest()
            while fn and not fn & 1:
                fn >>= 1
                sn >>= 1
        else:
            root = digest(b"\x01" + root + sibling).digest()
        fn >>= 1
        sn >>= 1
    return root


def verify_inclusion(*, leaf_hash: bytes, index: int, size: int, proof: Sequence[bytes], root: bytes) -> None:
    """Check that a leaf is in a tree (RFC 9162, 2.1.3.2).

    Args:
        leaf_hash: Hash of the leaf.
        index: Index of the leaf from 0.
        size: Number of leaves of the tree.
        proof: The hashes from the leaf upwards.
        root: Root of the tree, from a head that was authenticated.

    Raises:
        RootMismatch: The proof does not lead from the leaf to the root.
    """
    if inclusion_root(leaf_hash=leaf_hash, index=index, size=size, proof=proof) != root:
        raise RootMismatch("an inclusion proof does not lead to the signed root")


def verify_consistency(
    *, first: int, first_root: bytes, second: int, second_root: bytes, proof: Sequence[bytes]
) -> None:
    """Check that one tree is a prefix of another (RFC 9162, 2.1.4.2).

    Args:
        first: Size of the older tree.
        first_root: Root of the older tree.
        second: Size of the newer tree.
        second_root: Root of the newer tree.
        proof: The hashes of RFC 6962, 2.1.2; none when the sizes are equal or the older tree is empty.

    Raises:
        RootMismatch: The proof does not lead to both roots.
    """
    if not 0 <= first <= second <= MAX_LOG_SIZE:
        raise RootMismatch("the sizes of a consistency proof are out of order")
    _check_proof(first_root, second_root, *proof)
    for size, root in ((first, first_root), (second, second_root)):
        if size == 0 and root != EMPTY_ROOT:
            raise RootMismatch("the root of an empty tree is wrong")
    if first in (0, second):
        if proof:
            raise RootMismatch("a consistency proof has hashes where none are needed")
        if first == second and first_root != second_root:
            raise RootMismatch("two trees of one size have different roots")
        return
    if _consistent_roots(first, first_root, second, proof) != (first_root, second_root):
        raise RootMismatch("a consistency proof does not lead to both roots")


def _consistent_roots(first: int, first_root: bytes, second: int, proof: Sequence[bytes]) -> tuple[bytes, bytes]:
    """Both roots that a proof leads to, by the steps of RFC 9162, 2.1.4.2."""
    # 1. An older tree that is one complete subtree needs no seed: its root is it.
    rest = [first_root, *proof] if first & (first - 1) == 0 else list(proof)
    # 2. Go up while the last node of the older tree is a right child.
    fn, sn = first - 1, second - 1
    while fn & 1:
        fn >>= 1
        sn >>= 1
    if not rest:
        raise RootMismatch("a consistency proof is too short")
    older = newer = rest[0]
    # 3. Climb; nodes left of the older edge belong to both trees, others to the newer alone.
    for sibling in rest[1:]:
        if sn == 0:
            raise RootMismatch("a consistency proof is too long")
        if fn & 1 or fn == sn:
            older = hash_children(sibling, older)
            newer = hash_children(sibling, newer)
            while fn and not fn & 1:
                fn >>= 1
                sn >>= 1
        else:
            newer = hash_children(newer, sibling)
        fn >>= 1
        sn >>= 1
    # 4. The climb must end at the top.
    if sn:
        raise RootMismatch("a consistency proof is too short")
    return older, newer


def _path(levels: list[tuple[int, list[bytes]]], index: int) -> list[bytes]:
    path = []
    for first, nodes in levels:
        sibling = (index ^ 1) - first
        if sibling < len(nodes):
            path.append(nodes[sibling])
        index >>= 1
    return path


def _split(start: int, end: int) -> int:
    """Where RFC 6962 splits leaves [start, end): at the largest power of two below their number."""
    return start + (1 << (end - start - 1).bit_length() - 1)


def _span_root(start: int, end: int, node: NodeReader) -> bytes:
    """The root over leaves [start, end), asking only for complete subtrees."""
    roots = []
    while start < end:
        middle = start + (1 << (end - start).bit_length() - 1)
        roots.append(node(start, middle))
        start = middle
    return fold(roots)


def _check_proof(*hashes: bytes) -> None:
    if any(len(value) != HASH_SIZE for value in hashes):
        raise RootMismatch(f"every hash of a proof must be {HASH_SIZE} bytes")
