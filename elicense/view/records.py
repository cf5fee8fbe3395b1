"""Reading the records behind rows of the view: by position, in one query for all who wait."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from elicense.errors import StoreCorrupt
from elicense.log.model import LogKey, StoredEntry
from elicense.log.store import LogStore
from elicense.rpc.coalesce import Coalescer
from elicense.sql.database import Database
from elicense.view.model import ViewRow

if TYPE_CHECKING:
    from sqlalchemy import Connection


@dataclass(frozen=True, slots=True)
class Proof:
    """That an entry is in a log.

    Attributes:
        checkpoint: Cosigned head of the log.
        hashes: From leaf to root.
    """

    checkpoint: bytes
    hashes: tuple[bytes, ...]


class RecordReader:
    """Reads the latest records of licences.

    Args:
        database: Where the logs are.
        logs: Their tables.
    """

    def __init__(self, *, database: Database, logs: LogStore) -> None:
        self._database = database
        self._logs = logs
        self._reads: Coalescer[tuple[ViewRow, ...], list[StoredEntry]] = Coalescer(self._read)

    async def close(self) -> None:
        """Wait for running reads."""
        await self._reads.close()

    async def latest(self, rows: Sequence[ViewRow]) -> list[StoredEntry]:
        """Return the entry with the latest record of each licence, in order.

        Raises:
            StoreCorrupt: An entry is not where the view says.
            StoreUnavailable: The database is away.
        """
        return await self._reads.submit(tuple(rows))

    async def proof(self, row: ViewRow) -> Proof | None:
        """Return the proof of a licence's latest record; None while no cosigned head is above it."""
        key = LogKey(row.city, row.epoch)

        def read(conn: Connection) -> Proof | None:
            cosigned = self._logs.commits.latest_cosigned(conn, key)
            if cosigned is None or cosigned[0] <= row.idx:
                return None
            size, checkpoint = cosigned
            return Proof(checkpoint, tuple(self._logs.inclusion_proof(conn, key, row.idx, size)))

        return await self._database.read(read)

    async def _read(self, asked: list[tuple[ViewRow, ...]]) -> Sequence[list[StoredEntry] | StoreCorrupt]:
        places = {(LogKey(row.city, row.epoch), row.idx) for rows in asked for row in rows}
        found = await self._database.read(lambda conn: self._logs.entries_anywhere(conn, places))
        return [_checked(rows, found) for rows in asked]


def _checked(rows: Sequence[ViewRow], found: dict[tuple[LogKey, int], StoredEntry]) -> list[StoredEntry] | StoreCorrupt:
    entries = []
    for row in rows:
        entry = found.get((LogKey(row.city, row.epoch), row.idx))
        if entry is None or entry.leaf_hash != row.entry_hash:
            return StoreCorrupt("the latest record of a license is not where the view says; run fsck")
        entries.append(entry)
    return entries
