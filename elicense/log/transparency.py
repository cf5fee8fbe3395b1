"""What a node shows of its logs: signed heads, proofs, leaf hashes.

A proof costs a few tiles, however large the log is.  To callers who may not see
the newest head a log ends at its *published* head: neither a later head nor a
proof or leaf hash beyond it is given out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

from elicense.errors import Malformed, NotFound
from elicense.log.model import CheckpointRow, LogKey, StoredEntry

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from elicense.log.model import Head
    from elicense.log.store import LogStore
    from elicense.sql.database import Database

#: Leaf hashes in one answer, when the caller does not say how many.
USUAL_PAGE: Final = 1_024
#: Most leaf hashes in one answer: half a mebibyte.
MAX_PAGE: Final = 16_384


@dataclass(frozen=True, slots=True)
class ShownLog:
    """A log that a node shows.

    Attributes:
        key: Which log.
        origin: Origin of its heads.
        verifier_key: Key that signs them, in C2SP vkey form.
    """

    key: LogKey
    origin: str
    verifier_key: str


@dataclass(frozen=True, slots=True)
class ShownEntry:
    """An entry that is opened to everybody, with its proof.

    Attributes:
        key: Which log.
        entry: The entry.
        hashes: Path from the leaf to the root.
        checkpoint: Signed note with the head that it leads to.
    """

    key: LogKey
    entry: StoredEntry
    hashes: Sequence[bytes]
    checkpoint: bytes


class Showing(Protocol):
    """What the two kinds of node do differently; every method reads in the caller's transaction."""

    def logs(self, conn: Connection) -> list[ShownLog]:
        """Return every log that is shown, in order."""

    def published(self, conn: Connection, key: LogKey) -> int:
        """Return how many entries of a log everybody may see."""

    def seal(self, key: LogKey, row: CheckpointRow) -> bytes:
        """Return the note of a durable head; signed now where none is stored."""

    def vector(self, conn: Connection) -> tuple[LogKey, int] | None:
        """Return where the latest vector of city heads stands, or None."""


class Transparency:
    """Reads what the transparency service gives out.

    Args:
        database: Where the logs are.
        store: Their tables.
        showing: What this node shows.
    """

    def __init__(self, *, database: Database, store: LogStore, showing: Showing) -> None:
        self._database = database
        self._store = store
        self._showing = showing

    async def logs(self) -> list[ShownLog]:
        """Return every log that is shown.

        Raises:
            StoreUnavailable: The database is away; so for every method here.
        """
        return await self._database.read(self._showing.logs)

    async def checkpoint(self, key: LogKey, *, size: int | None, latest: bool) -> bytes:
        """Return the signed head of a log.

        Args:
            key: Which log.
            size: Size of the head that is wanted; None for the newest.
            latest: Whether the caller sees the log as it stands.

        Raises:
            NotFound: There is no such log, or no such head for this caller.
        """

        def read(conn: Connection) -> bytes:
            shown = self._shown(conn, key, latest=latest)
            wanted = shown if size is None else size
            # Whoever sees published heads alone gets none of those between them.
            row = self._store.commits.at(conn, key, wanted) if wanted == shown or latest else None
            if row is None:
                raise NotFound("the log has no such head, or not yet for you; leave the size out for the newest")
            return self._showing.seal(key, row)

        return await self._database.read(read)

    async def inclusion(self, key: LogKey, index: int, size: int, *, latest: bool) -> tuple[bytes, list[bytes]]:
        """Return an entry's leaf hash and its path to the root over the first ``size`` entries.

        Raises:
            NotFound: There is no such log.
            Malformed: The caller does not see so much of it, or the index is not below the size.
        """

        def read(conn: Connection) -> tuple[bytes, list[bytes]]:
            self._require(conn, key, size, latest=latest)
            hashes = self._store.inclusion_proof(conn, key, index, size)
            return self._store.leaf_hashes(conn, key, index, index + 1)[0], hashes

        return await self._database.read(read)

    async def consistency(self, key: LogKey, first: int, second: int, *, latest: bool) -> list[bytes]:
        """Return the proof that the first ``first`` entries begin the first ``second`` ones.

        Raises:
            NotFound: There is no such log.
            Malformed: The caller does not see so much of it, or the sizes are out of order.
        """

        def read(conn: Connection) -> list[bytes]:
            self._require(conn, key, second, latest=latest)
            return self._store.consistency_proof(conn, key, first, second)

        return await self._database.read(read)

    async def leaf_hashes(self, key: LogKey, first: int, count: int, *, latest: bool) -> list[bytes]:
        """Return up to ``count`` leaf hashes from index ``first`` on; none at the end of what the caller sees.

        Raises:
            NotFound: There is no such log.
        """

        def read(conn: Connection) -> list[bytes]:
            stop = min(first + min(count or USUAL_PAGE, MAX_PAGE), self._shown(conn, key, latest=latest))
            return self._store.leaf_hashes(conn, key, first, stop)

        return await self._database.read(read)

    async def vector(self) -> ShownEntry:
        """Return the latest vector of city heads.

        Raises:
            NotFound: There is none.
        """

        def read(conn: Connection) -> ShownEntry:
            where = self._showing.vector(conn)
            if where is None:
                raise NotFound("there is no vector of city heads yet")
            key, index = where
            entry = self._store.entries_at(conn, key, [index])[index]
            # The head of the commit that wrote it: whoever may see the vector may see that.
            row = self._store.commits.of(conn, key, index)
            if row is None:
                raise NotFound("there is no vector of city heads yet")
            return ShownEntry(
                key, entry, self._store.inclusion_proof(conn, key, index, row.size), self._showing.seal(key, row)
            )

        return await self._database.read(read)

    def _head(self, conn: Connection, key: LogKey) -> Head:
        head = self._store.head(conn, key)
        if head is None:
            raise NotFound("there is no such log here; list those that there are", city=key.log, epoch=key.epoch)
        return head

    def _shown(self, conn: Connection, key: LogKey, *, latest: bool) -> int:
        size = self._head(conn, key).size
        return size if latest else min(size, self._showing.published(conn, key))

    def _require(self, conn: Connection, key: LogKey, size: int, *, latest: bool) -> None:
        if size > self._shown(conn, key, latest=latest):
            raise Malformed("the log is not that large, or not yet for you; ask for its checkpoint", size=size)
