"""What a city sends beside what is held of its log: equal, new, or another history."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from elicense import errors
from elicense.log.checkpoint import Checkpoint
from elicense.log.store import Head
from registry.batch import Batch
from registry.store import RegistryStore

if TYPE_CHECKING:
    from sqlalchemy import Connection


def require_ours(conn: Connection, store: RegistryStore, head: Head, signed: Checkpoint) -> None:
    """Refuse a signed head that says nothing new, and says it otherwise than the entries held.

    Raises:
        LogForked: It has another root.
    """
    if store.logs.root_at(conn, head, signed.size) != signed.root:
        raise errors.LogForked("the city signed another head over the entries held", size=signed.size)


def held_of(conn: Connection, store: RegistryStore, head: Head, batch: Batch, leaves: Sequence[bytes]) -> int:
    """Compare what is held with what was sent; return how many of the sent entries are held already.

    Args:
        conn: The transaction.
        store: The registry's tables.
        head: What is held.
        batch: The batch.
        leaves: Leaf hash of each of its entries.

    Raises:
        SequenceGap: The batch starts beyond what is held, or the city says that it has less.
        LogForked: A held entry differs from the one sent.
    """
    end = batch.first_index + len(leaves)
    if batch.first_index > head.size or max(batch.tip_size, end) < head.size:
        raise errors.SequenceGap(f"the registry holds {head.size} entries; send from there on", expectedIndex=head.size)
    overlap = min(head.size, end) - batch.first_index
    if overlap <= 0:
        return 0
    held = store.logs.leaf_hashes(conn, head.key, batch.first_index, batch.first_index + overlap)
    for offset, (ours, theirs) in enumerate(zip(held, leaves, strict=False)):
        if ours != theirs:
            raise errors.LogForked(
                "a held entry differs from the one sent; the city's log has two histories",
                index=batch.first_index + offset,
            )
    return overlap
