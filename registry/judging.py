"""What a city's head that does not fit means: evidence of two histories, something unexplained, or our own damage.

Before it accuses anybody, the registry derives its own head again.  It asks the
tree it stored, not the row it compared with, and proves the entry in dispute; if
that fails, the damage is its own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from elicense.errors import Error, StoreCorrupt
from elicense.log.checkpoint import Checkpoint
from elicense.log.entry import leaf_hash
from elicense.log.merkle import consistency_proof, hash_children, root_over, verify_inclusion
from elicense.log.model import Head
from elicense.log.store import LogStore
from elicense.log.tree import subtree_root
from elicense.verification.head_evidence import HeadEvidence, NoteStatement
from registry.batch import Batch, leaves_of

if TYPE_CHECKING:
    from sqlalchemy import Connection


@dataclass(frozen=True, slots=True)
class Judgement:
    """What a head came to.

    Attributes:
        signed: The head that the city signed.
        evidence: That it has two histories; None when that is not proved.
    """

    signed: Checkpoint
    evidence: HeadEvidence | None


@dataclass(frozen=True, slots=True)
class Unexplained:
    """A head that a city signed and that nobody could compute.

    Attributes:
        size: Its size.
        root: Its root.
        note: The signed note.
    """

    size: int
    root: bytes
    note: bytes


def judge(
    conn: Connection,
    logs: LogStore,
    head: Head,
    batch: Batch,
    signed: Checkpoint,
    unexplained: Unexplained | None = None,
) -> Judgement | None:
    """Return what a refused batch proves; None when its head is held here as well, and only its entries do not fit.

    Args:
        conn: Transaction in which the log is read.
        logs: Its tables.
        head: What is held.
        batch: What was sent; its checkpoint is signed by the city.
        signed: That checkpoint.
        unexplained: Why the city is in quarantine already.

    Raises:
        StoreCorrupt: The registry's own log can not be derived again: nobody is accused.
    """
    leaves = leaves_of(batch.entries)
    _require_sound(conn, logs, head, batch.first_index, leaves)
    theirs, ours = NoteStatement(batch.checkpoint), NoteStatement(head.note or b"")
    if signed.size <= head.size:
        # What is held has entries, and so a note.
        root = logs.root_at(conn, head, signed.size)
        if root == signed.root:
            return None
        if signed.size == head.size:
            return Judgement(signed, HeadEvidence(ours, theirs))
        proof = logs.consistency_proof(conn, head.key, signed.size, head.size)
        return Judgement(signed, HeadEvidence(theirs, ours, root, tuple(proof)))
    # Their tree: what is held before the batch, and the batch.  When it leads to
    # their head, it also gives the root that this head has at our size.
    node = _joined(lambda start, end: logs.node(conn, head.key, start, end), batch.first_index, leaves)
    if root_over(signed.size, node) != signed.root:
        return Judgement(signed, None)
    root = root_over(head.size, node)
    if root != head.root:
        proof = consistency_proof(head.size, signed.size, node)
        return Judgement(signed, HeadEvidence(ours, theirs, root, tuple(proof)))
    # This head is sound: then the one that was not explained is of another history.
    if unexplained is None or unexplained.size > signed.size:
        return Judgement(signed, None)
    root = root_over(unexplained.size, node)
    if root == unexplained.root:
        return Judgement(signed, None)
    other = NoteStatement(unexplained.note)
    if unexplained.size == signed.size:
        return Judgement(signed, HeadEvidence(other, theirs))
    proof = consistency_proof(unexplained.size, signed.size, node)
    return Judgement(signed, HeadEvidence(other, theirs, root, tuple(proof)))


def _require_sound(conn: Connection, logs: LogStore, head: Head, first_index: int, leaves: Sequence[bytes]) -> None:
    """Derive the held head again, and prove the first entry in dispute.

    Raises:
        StoreCorrupt: Something stored contradicts itself.
    """
    if root_over(head.size, lambda start, end: logs.node(conn, head.key, start, end)) != head.root:
        raise StoreCorrupt("the stored tree does not lead to the held head; run fsck", city=head.key.log)
    stop = min(first_index + len(leaves), head.size)
    held = logs.leaf_hashes(conn, head.key, first_index, stop)
    disputed = next((i for i, leaf in enumerate(held, first_index) if leaf != leaves[i - first_index]), None)
    if disputed is None:
        return
    entry = logs.entries_at(conn, head.key, [disputed])[disputed]
    try:
        if entry.record is not None and leaf_hash(entry.salt or b"", entry.record) != entry.leaf_hash:
            raise StoreCorrupt("a stored record does not give its leaf hash; run fsck", index=disputed)
        verify_inclusion(
            leaf_hash=entry.leaf_hash,
            index=disputed,
            size=head.size,
            proof=logs.inclusion_proof(conn, head.key, disputed, head.size),
            root=head.root,
        )
    except StoreCorrupt:
        raise
    except Error as error:
        raise StoreCorrupt("a stored entry is not in the held tree; run fsck", index=disputed) from error


def _joined(
    held: Callable[[int, int], bytes], first_index: int, leaves: Sequence[bytes]
) -> Callable[[int, int], bytes]:
    """Return a reader of complete subtrees of the tree that goes on with ``leaves`` at ``first_index``."""

    def node(start: int, end: int) -> bytes:
        if end <= first_index:
            return held(start, end)
        if start >= first_index:
            return subtree_root(leaves[start - first_index : end - first_index])
        middle = (start + end) // 2
        return hash_children(node(start, middle), node(middle, end))

    return node
