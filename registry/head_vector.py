"""The vector of city heads: once a minute, if anything changed, an entry of the registry's own log.

It binds what the registry cosigned to its own history, and it is what everybody
may see: to callers without more rights a city's log ends at the head in the
latest vector, and the registry's own log at the vector itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from elicense.clock import SECOND_US
from elicense.log.model import REGISTRY_LOG, Head, LogKey
from elicense.trust.spiffe import parse_spiffe_id
from elicense.v1 import log_pb2
from registry.board import Board, Outcome
from registry.model import PublishedHead
from registry.store import RegistryStore

if TYPE_CHECKING:
    from sqlalchemy import Connection

#: Published heads are at least so far apart: a head of its own would tell of one person.
INTERVAL_US: Final = 60 * SECOND_US


@dataclass(frozen=True, slots=True)
class PublishHeads:
    """Command: write the vector of city heads, if one is due."""


@dataclass(frozen=True, slots=True)
class DueVector:
    """A vector to be written.

    Attributes:
        heads: The newest durable head of every city log that has one.
        published: What is public once it is written.
    """

    heads: Sequence[Head]
    published: Sequence[PublishedHead]

    def message(self, trust_domain: str) -> log_pb2.HeadVector:
        """Return it as it stands in the log."""
        heads = [
            log_pb2.LogHead(city=head.key.log, epoch=head.key.epoch, size=head.size, root=head.root)
            for head in self.heads
        ]
        return log_pb2.HeadVector(trust_domain=trust_domain, heads=heads)


def due_vector(
    conn: Connection, store: RegistryStore, *, key: LogKey, next_index: int, now_us: int
) -> DueVector | None:
    """Return the vector that is due, or None: the last one is fresh, or nothing has changed since.

    Args:
        conn: Transaction that will write it; the head of the registry's log is locked.
        store: The registry's tables.
        key: The registry's log.
        next_index: Index that its entry would get.
        now_us: The registry's clock; never earlier than the log's last commit.

    Raises:
        StoreCorrupt: A stored head contradicts itself: it must not be signed for.
    """
    public = {LogKey(head.log, head.epoch): head for head in store.published(conn)}
    last = public.get(key)
    if last is not None and now_us - last.published_us < INTERVAL_US:
        return None
    heads = [head for head in store.logs.heads(conn) if head.key.log != REGISTRY_LOG and head.size]
    moved = any(head.key not in public or public[head.key].size != head.size for head in heads)
    if not moved and next_index == (0 if last is None else last.size):
        return None
    published = [PublishedHead(head.key.log, head.key.epoch, head.size, now_us) for head in heads]
    published.append(PublishedHead(key.log, key.epoch, next_index + 1, now_us))
    return DueVector(heads, published)


def publish(board: Board, vector: DueVector | None, *, actor: str) -> tuple[list[bytes], Outcome]:
    """Return the entry and the outcome for a vector that is due, and note in ``board`` that it is written."""
    # Two that came together are one: the first has not been written yet.
    if vector is None or board.published:
        return [], Outcome()
    board.published = True
    record = board.record(actor)
    record.head_vector.CopyFrom(vector.message(parse_spiffe_id(actor).trust_domain))
    return [record.SerializeToString(deterministic=True)], Outcome(published=vector.published)
