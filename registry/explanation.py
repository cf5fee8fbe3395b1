"""What a city in quarantine may still send: the entries that explain the head which it signed.

The key that signed two histories signs nothing more.  A head that no entries were known to
lead to is explained by entries that do: then nothing was wrong but the order of arrival.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from elicense.errors import StoreCorrupt
from elicense.log.model import LogKey
from elicense.log.store import Head
from registry.batch import Batch, leaves_of
from registry.quarantine_model import Kind, refusal
from registry.store import RegistryStore

if TYPE_CHECKING:
    from sqlalchemy import Connection


def require_explanation(conn: Connection, store: RegistryStore, batch: Batch) -> None:
    """Refuse the batch of a city in quarantine over an unexplained head; nothing but hashes is looked at.

    Raises:
        Quarantined: It does not explain it.
        Malformed: A salt or a leaf hash has another size than it must.
    """
    held = store.quarantines.of(conn, batch.city)
    if held is None or not held.open or (held.epoch, held.kind) != (batch.epoch, Kind.UNEXPLAINED):
        return
    head = store.logs.head(conn, LogKey(batch.city, batch.epoch))
    if head is None:
        raise StoreCorrupt("an enrolled city has no log; run fsck", city=batch.city)
    start, missing = head.size - batch.first_index, held.size - head.size
    if missing <= 0:
        return  # taken before, and its end not written yet
    sent = batch.entries[start : start + missing] if start >= 0 else ()
    if len(sent) < missing or head.frontier.append_leaves(leaves_of(sent)).root() != held.root:
        raise refusal(held)


def explained_by(conn: Connection, store: RegistryStore, head: Head, batch: Batch, fresh: Sequence[bytes]) -> int:
    """Return the size of the unexplained head that a quarantined city explains with its batch; 0 for none.

    Args:
        conn: The transaction.
        store: The registry's tables.
        head: What is held.
        batch: The batch.
        fresh: Leaf hashes of its entries that are not held yet.

    Raises:
        Quarantined: The city is in quarantine, and this does not explain anything.
    """
    held = store.quarantines.of(conn, batch.city)
    if held is None or held.epoch != batch.epoch or (held.kind == Kind.UNEXPLAINED and not held.open):
        return 0
    if not held.open:
        # The key that signed two histories signs nothing more.
        raise refusal(held)
    if held.kind == Kind.UNEXPLAINED:
        sent = held.size - head.size
        if 0 < sent <= len(fresh):
            root = head.frontier.append_leaves(fresh[:sent]).root()
        else:
            # Taken before, and its end not written yet.
            root = store.logs.root_at(conn, head, held.size) if sent <= 0 else b""
        if root == held.root:
            return held.size
    raise refusal(held)
