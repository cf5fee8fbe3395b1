"""Records looks durably before they are answered; looks that wait together share one commit."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from elicense.access.entry import AccessEntry, AccessPosition, RecordedAccess
from elicense.access.store import AccessStore
from elicense.rpc.coalesce import Coalescer
from elicense.sql.database import CommitUnknown

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy import Connection

    from elicense.sql.database import Database

MAX_LOOKS_PER_COMMIT: Final = 1024
"""Looks in one commit: one flush to disk bears many, and none waits long for the others' rows."""

MAX_WAITING_LOOKS: Final = 8192

_DAY_US: Final = 86_400 * 1_000_000


class AccessRecorder:
    """Appends looks to the access log of one process.

    Args:
        database: Database of the access log; not that of the licences.
        store: Its queries.
        node: Name of this process, unique among all that share the database.
        clock: UTC microseconds.
    """

    def __init__(self, *, database: Database, store: AccessStore, node: str, clock: Callable[[], int]) -> None:
        self._database = database
        self._store = store
        self._node = node
        self._clock = clock
        # None: not known, to be read from the table with the next write.
        self._last: AccessPosition | None = None
        self._looks: Coalescer[AccessEntry, RecordedAccess] = Coalescer(
            self._commit, lanes=1, max_batch=MAX_LOOKS_PER_COMMIT, max_waiting=MAX_WAITING_LOOKS
        )

    async def record(self, entry: AccessEntry) -> RecordedAccess:
        """Return the look as it stands in the log, durable; only then may it be answered.

        Raises:
            StoreFull: There is no room for it; it must not be answered.
            StoreUnavailable: The log can not be reached; it must not be answered.
            QueueFull: Too many looks wait.
            ShuttingDown: The recorder has been closed.
        """
        return await self._looks.submit(entry)

    async def close(self) -> None:
        """Refuse further looks and wait for those that were accepted."""
        await self._looks.close()

    async def _commit(self, entries: list[AccessEntry]) -> list[RecordedAccess]:
        today = self._clock() // _DAY_US

        def write(connection: Connection) -> list[RecordedAccess]:
            last = self._last if self._last is not None else self._store.last(connection, self._node)
            # Days never fall, even if the clock does: the last row then has the highest number.
            day = max(today, last.day)
            looks = [
                RecordedAccess(self._node, AccessPosition(day, sequence), entry)
                for sequence, entry in enumerate(entries, start=last.sequence + 1)
            ]
            self._store.append(connection, looks)
            return looks

        try:
            looks = await self._database.write(write)
        except CommitUnknown:
            looks = await self._settle(write)
        except BaseException:
            self._last = None
            raise
        self._last = looks[-1].position
        return looks

    async def _settle(self, write: Callable[[Connection], list[RecordedAccess]]) -> list[RecordedAccess]:
        """Write again after a commit whose fate is not known.

        If it did happen, the looks stand in the log twice under different numbers:
        a look too many is harmless, one too few is not.
        """
        self._last = None
        try:
            return await self._database.write(write)
        except BaseException:
            self._last = None
            raise
