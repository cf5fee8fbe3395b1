"""What a city in quarantine may still send: what the registry has lost, and what explains the head which it signed.

What the registry had cosigned before it was set back it takes again of any city, upon its own receipt
(:mod:`registry.held_before`): that was held when the city was not in quarantine, and others rest on it.

Beyond that the key that signed two histories signs nothing more.  A head that no entries were known to
lead to is explained by entries that do: then nothing was wrong but the order of arrival.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from elicense.errors import StoreCorrupt
from elicense.log.checkpoint import Checkpoint
from elicense.log.model import LogKey
from elicense.log.store import Head
from elicense.log.verifier_key import VerifierKey
from registry.batch import Batch, leaves_of
from registry.held_before import brings_back
from registry.model import City
from registry.quarantine_model import Kind, Quarantine, refusal
from registry.store import RegistryStore

if TYPE_CHECKING:
    from sqlalchemy import Connection


def quarantine_over(conn: Connection, store: RegistryStore, batch: Batch) -> Quarantine | None:
    """Return the quarantine that keeps out what a batch carries; None when nothing does."""
    held = store.quarantines.of(conn, batch.city)
    if held is None or held.epoch != batch.epoch or (held.kind == Kind.UNEXPLAINED and not held.open):
        return None
    # Of an epoch with two histories nothing is taken in any more, also once operators have let the city in again.
    return held


def require_worth_reading(
    conn: Connection,
    store: RegistryStore,
    batch: Batch,
    signed: Checkpoint | None,
    enrolled: City,
    cosigner: VerifierKey,
) -> None:
    """Refuse the batch of a city in quarantine that will not be taken in; nothing but hashes is looked at.

    Args:
        conn: The transaction.
        store: The registry's tables.
        batch: The batch.
        signed: Its head; None for the heartbeat of an empty log.
        enrolled: The open epoch of its city.
        cosigner: Key of the registry's receipts.

    Raises:
        Quarantined: It neither brings back what was lost nor explains the head.
        Malformed: A salt or a leaf hash has another size than it must.
    """
    held = quarantine_over(conn, store, batch)
    if held is None or not held.open:
        return
    head = store.logs.head(conn, LogKey(batch.city, batch.epoch))
    if head is None:
        raise StoreCorrupt("an enrolled city has no log; run fsck", city=batch.city)
    if brings_back(batch, signed, enrolled, held=head.size, cosigner=cosigner):
        return
    if held.kind == Kind.FORK:
        # One proof is enough, and nothing that it sends can take that back.
        raise refusal(held)
    start, missing = head.size - batch.first_index, held.size - head.size
    if missing <= 0:
        return  # taken before, and its end not written yet
    sent = batch.entries[start : start + missing] if start >= 0 else ()
    if len(sent) < missing or head.frontier.append_leaves(leaves_of(sent)).root() != held.root:
        raise refusal(held)


def explained_by(conn: Connection, store: RegistryStore, held: Quarantine, head: Head, fresh: Sequence[bytes]) -> int:
    """Return the size of the unexplained head that a quarantined city explains with its batch.

    Args:
        conn: The transaction.
        store: The registry's tables.
        held: The quarantine.
        head: What is held.
        fresh: Leaf hashes of the entries that are sent and not held yet.

    Raises:
        Quarantined: This does not explain anything.
    """
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
