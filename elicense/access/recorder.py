"""Records looks durably before they are answered; looks that wait together share one commit.

When the log's disk is full nobody gets an unrecorded answer: looks of officials go
to the reserve, all others are refused.  What lies in the reserve moves into the
log, under the log's next numbers, as soon as there is room.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from itertools import islice
from typing import TYPE_CHECKING, Final, NamedTuple

from elicense.access.alarms import Alarm
from elicense.access.entry import DAY_US, AccessEntry, AccessPosition, RecordedAccess
from elicense.access.store import AccessStore
from elicense.errors import Error, StoreFull
from elicense.rpc.coalesce import Coalescer, while_more_come
from elicense.sql.database import CommitUnknown
from elicense.trust.roles import OFFICIAL_VERIFIERS

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy import Connection

    from elicense.access.alarms import AccessAlarms
    from elicense.access.reserve import AccessReserve
    from elicense.sql.database import Database

MAX_LOOKS_PER_COMMIT: Final = 1024
"""Looks, or groups of looks, in one commit: one flush to disk bears many, and none waits long for the others' rows."""

MAX_WAITING_LOOKS: Final = 8192

_OFFICIALS: Final = frozenset(role.value for role in OFFICIAL_VERIFIERS)

_Group = Sequence[AccessEntry]


class _Kept(NamedTuple):
    """What became of a group: where its first look stands in the log, or for each why it is not kept at all."""

    position: AccessPosition | None = None
    refused: Sequence[Error | None] = ()


class AccessRecorder:
    """Appends looks to the access log of one process.

    Args:
        database: Database of the access log; not that of the licences.
        store: Its queries.
        node: Name of this process, unique among all that share the database.
        clock: UTC microseconds.
        reserve: Where looks of officials go when the log is full; None for nowhere.
        alarms: Told when the reserve is spent.
    """

    def __init__(
        self,
        *,
        database: Database,
        store: AccessStore,
        node: str,
        clock: Callable[[], int],
        reserve: AccessReserve | None = None,
        alarms: AccessAlarms | None = None,
    ) -> None:
        self._database = database
        self._store = store
        self._node = node
        self._clock = clock
        self._reserve = reserve
        self._alarms = alarms
        # None: not known, to be read from the table with the next write.
        self._last: AccessPosition | None = None
        self._floor = 0
        # When the looks were asked that are not in the log yet.
        self._pending: dict[object, int] = {}
        self._looks: Coalescer[_Group, _Kept] = Coalescer(
            self._commit,
            lanes=1,
            max_batch=MAX_LOOKS_PER_COMMIT,
            max_waiting=MAX_WAITING_LOOKS,
            pause=while_more_come(MAX_LOOKS_PER_COMMIT),
        )

    @property
    def node(self) -> str:
        """Name of this process in the log."""
        return self._node

    async def record(self, entry: AccessEntry) -> RecordedAccess | None:
        """Return the look as it stands in the log, durable; only then may it be answered.

        None means that it lies in the reserve, as durable, and has no number yet.

        Raises:
            StoreFull: There is no room for it; it must not be answered.
            StoreUnavailable: The log can not be reached; it must not be answered.
            QueueFull: Too many looks wait.
            ShuttingDown: The recorder has been closed.
        """
        kept = await self._submit((entry,))
        if kept.position is not None:
            return RecordedAccess(self._node, kept.position, entry)
        if (refused := kept.refused[0]) is not None:
            raise refused
        return None

    async def record_all(self, entries: Sequence[AccessEntry]) -> Sequence[Error | None]:
        """Return once looks are durable, and for each why it is not and must not be answered.

        Args:
            entries: At least one look, all of the same ``at_us``.

        Raises:
            StoreUnavailable: The log can not be reached; none of them must be answered.
            QueueFull: Too many looks wait.
            ShuttingDown: The recorder has been closed.
        """
        return (await self._submit(entries)).refused or [None] * len(entries)

    async def _submit(self, entries: Sequence[AccessEntry]) -> _Kept:
        waiting = object()
        self._pending[waiting] = entries[0].at_us
        try:
            return await self._looks.submit(entries)
        finally:
            del self._pending[waiting]

    async def drain(self) -> None:
        """Move what lies in the reserve into the log, if there is room by now.

        Raises:
            StoreUnavailable: The log can not be reached.
        """
        if self._reserve is not None and self._reserve.held:
            await self._looks.submit(())

    def go_on_after(self, position: AccessPosition) -> None:
        """Give no number up to that of ``position`` any more: another node holds looks under those."""
        self._floor = max(self._floor, position.sequence)

    def complete_until(self) -> int:
        """Return a time (UTC microseconds) before which every look that was asked is in the log's table.

        Looks must be handed to :meth:`record` in the same step in which their
        ``at_us`` is read from the clock.
        """
        held = self._reserve.held if self._reserve is not None else ()
        return min([self._clock(), *self._pending.values(), *(entry.at_us for entry in held)])

    async def close(self) -> None:
        """Refuse further looks and wait for those that were accepted."""
        await self._looks.close()

    async def _commit(self, groups: list[_Group]) -> Sequence[_Kept]:
        wanted = [entry for group in groups for entry in group]
        kept: list[_Kept] = []
        try:
            # A group of nobody asks for nothing but the move of what lies in the reserve.
            await self._move()
            if not wanted:
                return [_Kept()] * len(groups)
            position = await self._write(wanted)
        except StoreFull as error:
            refused = iter(await self._spend(wanted, error))
            return [_Kept(refused=list(islice(refused, len(group)))) for group in groups]
        for group in groups:
            kept.append(_Kept(position))
            position = AccessPosition(position.day, position.sequence + len(group))
        return kept

    async def _move(self) -> None:
        """Move the reserve's looks into the log; a crash in between leaves them in both, which is harmless."""
        if self._reserve is not None and self._reserve.held:
            await self._write(self._reserve.held)
            await asyncio.to_thread(self._reserve.clear)

    async def _spend(self, entries: Sequence[AccessEntry], error: StoreFull) -> Sequence[Error | None]:
        official = [entry for entry in entries if entry.role in _OFFICIALS]
        full: StoreFull | None = error
        if official and self._reserve is not None:
            untouched = not self._reserve.held
            try:
                await asyncio.to_thread(self._reserve.add, official)
                full = None
            except StoreFull as spent:
                full = spent
            if self._alarms is not None and untouched:
                self._alarms.sound(Alarm.RESERVE_SPENT, looks=len(self._reserve.held))
        return [full if entry.role in _OFFICIALS else error for entry in entries]

    async def _write(self, entries: Sequence[AccessEntry]) -> AccessPosition:
        """Append looks and return the position of the first; the others stand behind it."""
        today = self._clock() // DAY_US

        def write(connection: Connection) -> AccessPosition:
            last = self._last if self._last is not None else self._store.last(connection, self._node)
            # Days never fall, even if the clock does: the last row then has the highest number.
            first = AccessPosition(max(today, last.day), max(last.sequence, self._floor) + 1)
            self._store.append_own(connection, self._node, first, entries)
            return first

        try:
            first = await self._database.write(write)
        except CommitUnknown:
            first = await self._settle(write)
        except BaseException:
            self._last = None
            raise
        self._last = AccessPosition(first.day, first.sequence + len(entries) - 1)
        return first

    async def _settle(self, write: Callable[[Connection], AccessPosition]) -> AccessPosition:
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
