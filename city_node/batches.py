"""What the next call to the registry carries: whole commits of the city's log, and the head that ends them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple

from city_node.store import CityStore
from elicense.clock import from_timestamp
from elicense.errors import Malformed
from elicense.log.model import CheckpointRow, LogKey, StoredEntry
from elicense.sql.database import Database
from elicense.v1 import log_pb2, replication_pb2
from elicense.view.fold import read_record

if TYPE_CHECKING:
    from sqlalchemy import Connection

MAX_ENTRIES: Final = 2_048
#: Records and salts of one call; the wire allows 4 MiB with everything around them.
MAX_BYTES: Final = 3 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Batch:
    """A part of the log that one call carries.

    Attributes:
        entries: Entries in log order; none for a heartbeat.
        checkpoint: Signed head after the last of them; empty while the log is empty.
        size: Size of that head.
        oldest_us: When the first entry was recorded; 0 for a heartbeat.
        held_before: Shows that the registry has held them; None where it has given no receipt for them.
    """

    entries: Sequence[log_pb2.LogEntry]
    checkpoint: bytes
    size: int
    oldest_us: int
    held_before: replication_pb2.HeldBefore | None = None


class _Read(NamedTuple):
    end: CheckpointRow | None
    oldest_us: int
    messages: list[log_pb2.LogEntry]
    held_before: replication_pb2.HeldBefore | None


class BatchReader:
    """Cuts a log into batches that end where a commit ended.

    Args:
        database: The city's database.
        store: Its tables.
        sign: Signs a durable head of a log, given its size and root; needed when its note is not stored yet.
        max_entries: Most entries of a batch.
        max_bytes: Most bytes of its records and salts.
    """

    def __init__(
        self,
        *,
        database: Database,
        store: CityStore,
        sign: Callable[[LogKey, int, bytes], bytes],
        max_entries: int = MAX_ENTRIES,
        max_bytes: int = MAX_BYTES,
    ) -> None:
        self._database = database
        self._logs = store.logs
        self._sign = sign
        self._max_entries = max_entries
        self._max_bytes = max_bytes

    async def read(self, key: LogKey, start: int, *, wanted: int = 0) -> Batch:
        """Return the batch of a log that starts at index ``start``; a heartbeat when nothing follows.

        Args:
            key: Which log.
            start: Index of its first entry.
            wanted: Most entries, where one commit has no more; 0 for as many as a call carries.

        Raises:
            StoreUnavailable: The database is away.
        """

        # Messages are made on the reader's thread: a full batch has thousands.
        def read(conn: Connection) -> _Read:
            receipt = self._logs.commits.latest_cosigned(conn, key)
            # What the registry has lost goes by itself: it takes that also where it takes nothing more of this log.
            lost = 0 if receipt is None else max(0, receipt[0] - start)
            end, entries = self._read(conn, key, start, wanted, lost or self._max_entries)
            oldest_us = _recorded_us(entries[0], end) if entries and end is not None else 0
            shown = None
            if end is not None and receipt is not None and start < receipt[0]:
                shown = self._held_before(conn, key, end.size, receipt)
            return _Read(end, oldest_us, [_to_message(entry) for entry in entries], shown)

        end, oldest_us, messages, shown = await self._database.read(read)
        if end is None:
            return Batch((), b"", start, 0)
        # The note of the last commit is stored with the next one. The same head
        # signed again gives the same bytes, so whoever needs it earlier signs it.
        note = self._sign(key, end.size, end.root) if end.note is None else end.note
        return Batch(messages, note, end.size, oldest_us, shown)

    async def size(self, key: LogKey) -> int:
        """Return how many entries a log has, 0 when it was never created.

        Raises:
            StoreUnavailable: The database is away.
        """
        head = await self._database.read(lambda conn: self._logs.head(conn, key))
        return 0 if head is None else head.size

    def _read(
        self, conn: Connection, key: LogKey, start: int, wanted: int, most: int
    ) -> tuple[CheckpointRow | None, list[StoredEntry]]:
        most = min(most, self._max_entries)
        end = self._logs.commits.batch_end(conn, key, start, min(wanted or most, most))
        if end is None:
            # One commit that has more than was wanted.  Or one that goes beyond the receipt: a refill knows only where
            # the registry's batches ended, and one that was cut short may be followed by a receipt from between.
            end = self._logs.commits.of(conn, key, start)
        if end is None:
            return self._logs.commits.at(conn, key, start), []
        entries = self._logs.entries(conn, key, start, end.size - start, max_bytes=self._max_bytes)
        if start + len(entries) == end.size:
            return end, entries
        # Too many bytes: fewer commits, or the one commit that is too large alone.
        shorter = self._logs.commits.batch_end(conn, key, start, len(entries))
        if shorter is not None:
            return shorter, entries[: shorter.size - start]
        return end, self._logs.entries(conn, key, start, end.size - start)

    def _held_before(
        self, conn: Connection, key: LogKey, size: int, receipt: tuple[int, bytes]
    ) -> replication_pb2.HeldBefore:
        """Return what shows which entries the registry has held; erased ones are among them."""
        first, second = sorted((receipt[0], size))
        hashes = self._logs.consistency_proof(conn, key, first, second)
        return replication_pb2.HeldBefore(receipt=receipt[1], hashes=hashes)


def _to_message(entry: StoredEntry) -> log_pb2.LogEntry:
    if entry.record is None or entry.salt is None:
        return log_pb2.LogEntry(leaf_hash=entry.leaf_hash)
    return log_pb2.LogEntry(record=entry.record, salt=entry.salt)


def _recorded_us(entry: StoredEntry, end: CheckpointRow) -> int:
    try:
        return end.recorded_us if entry.record is None else from_timestamp(read_record(entry.record).record_time)
    except Malformed:
        return end.recorded_us
