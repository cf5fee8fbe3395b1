"""Parts of a log on their way from one store to another: entries, and the signed heads among them.

A page begins and ends where commits or batches did, so whoever takes it in can
check every head in it against the entries, and holds a signed log after each.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

from elicense.errors import Malformed, RootMismatch
from elicense.log.checkpoint import open_checkpoint
from elicense.log.entry import leaf_hash
from elicense.log.model import NewEntry
from elicense.log.request_queue import BYTES_PER_COMMIT, ENTRIES_PER_COMMIT
from elicense.log.tree import HASH_SIZE

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from elicense.log.model import CheckpointRow, LogKey, StoredEntry
    from elicense.log.store import LogStore
    from elicense.log.tree import CompactRange
    from elicense.log.verifier_key import VerifierKey
    from elicense.v1 import log_pb2, recovery_pb2

#: Signed heads in one page; with their signatures they would else take more room than the entries.
HEADS_PER_PAGE: Final = 256


@dataclass(frozen=True, slots=True)
class Page:
    """A part of a log, as it is stored.

    Attributes:
        entries: Entries in order.
        heads: Where commits or batches ended among them, in order; the last one follows the last entry.
    """

    entries: Sequence[StoredEntry]
    heads: Sequence[CheckpointRow]


@dataclass(frozen=True, slots=True)
class Part:
    """A commit or batch to append.

    Attributes:
        entries: Its entries.
        head: The signed head after them.
    """

    entries: Sequence[NewEntry]
    head: recovery_pb2.SignedHead


class SentPage(Protocol):
    """A page as it comes over the wire."""

    @property
    def entries(self) -> Sequence[log_pb2.LogEntry]:
        """Entries in order."""

    @property
    def heads(self) -> Sequence[recovery_pb2.SignedHead]:
        """Signed heads among them, in order."""


def read_page(conn: Connection, logs: LogStore, key: LogKey, first_index: int) -> Page:
    """Return the entries from ``first_index`` on, as far as one answer goes; none at the end of the log."""
    entries = logs.entries(conn, key, first_index, ENTRIES_PER_COMMIT, max_bytes=BYTES_PER_COMMIT)
    rows = logs.commits.between(conn, key, first_index, first_index + len(entries))
    heads = [rows[size] for size in sorted(rows)][:HEADS_PER_PAGE]
    if not heads:
        return Page([], [])
    return Page(entries[: heads[-1].size - first_index], heads)


def parts_of(page: SentPage, start: int) -> list[Part]:
    """Cut a page that begins at index ``start`` where commits or batches ended.

    Raises:
        Malformed: Its heads do not fit its entries, or an entry is not one.
    """
    entries = [_entry(entry) for entry in page.entries]
    parts, begin = [], start
    for head in page.heads:
        if not begin < head.size <= start + len(entries):
            break
        parts.append(Part(entries[begin - start : head.size - start], head))
        begin = head.size
    if begin != start + len(entries) or len(parts) != len(page.heads):
        raise Malformed("the heads do not fit the entries that were sent with them")
    return parts


def check_part(part: Part, before: CompactRange, *, origin: str, key: VerifierKey) -> CompactRange:
    """Check that a part leads from the tree ``before`` it to its head, and that the log signed that; return its tree.

    Raises:
        CheckpointInvalid: The head is not one of this log.
        SignatureInvalid: The log did not sign it.
        RootMismatch: The entries do not lead to it.
    """
    signed = open_checkpoint(part.head.note, origin=origin, key=key)
    tree = before.append_leaves([entry.leaf_hash for entry in part.entries])
    if (signed.size, signed.root) != (before.size + len(part.entries), tree.root()):
        raise RootMismatch("what was sent does not lead to the head that was signed", size=signed.size)
    return tree


def _entry(entry: log_pb2.LogEntry) -> NewEntry:
    if not entry.leaf_hash or entry.salt or entry.record:
        return NewEntry(entry.record, entry.salt, leaf_hash(entry.salt, entry.record))
    if len(entry.leaf_hash) != HASH_SIZE:
        raise Malformed(f"the leaf hash of an erased slot must be {HASH_SIZE} bytes")
    return NewEntry(None, None, entry.leaf_hash)
