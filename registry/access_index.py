"""The index of looks by subject, built outside the answer path, and the alarms that come of it."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Final

import structlog

from elicense.access.alarms import AccessAlarms, Alarm
from elicense.access.entry import DAY_US, RecordedAccess, split_subjects
from elicense.access.recorder import AccessRecorder
from elicense.clock import SECOND_US
from elicense.errors import Aborted, Error
from elicense.rpc.telemetry import describe_exception
from elicense.sql.database import Database
from elicense.trust.roles import MAX_SEALING_US
from registry.access_store import AccessIndexStore, Source, SubjectLook

if TYPE_CHECKING:
    from sqlalchemy import Connection

INDEX_SECONDS: Final = 1.0
"""How often new looks are looked for."""

QUIET_US: Final = 2 * SECOND_US
"""How old the registry's word on its own looks may become while there are no new ones."""

LOOKS_PER_ROUND: Final = 256
"""Looks that one transaction indexes; a batch look has up to a thousand subjects."""

SUBJECT_LOOKS_PER_DAY: Final = 200
"""Looks at one person within a day that alarm, by whomever they were."""

SEALED_LOOKS_PER_DAY: Final = 50
"""Sealed looks of one verifier in a day that alarm."""

_log = structlog.stdlib.get_logger(__name__)


class AccessIndex:
    """Indexes the looks of every node; start it with :meth:`start`.

    Args:
        database: The registry's access log.
        store: Its tables.
        recorder: Writes this process's looks into this log; None for a process that has a file of its own.
        alarms: Told of what is out of the ordinary.
        clock: UTC microseconds.
        leads: Whether this process indexes; each notes how far its own looks have come.
        period_s: Seconds between two rounds.
    """

    def __init__(
        self,
        *,
        database: Database,
        store: AccessIndexStore,
        recorder: AccessRecorder | None,
        alarms: AccessAlarms,
        clock: Callable[[], int],
        leads: Callable[[], bool],
        period_s: float = INDEX_SECONDS,
    ) -> None:
        self._database = database
        self._store = store
        self._recorder = recorder
        self._alarms = alarms
        self._clock = clock
        self._leads = leads
        self._period_s = period_s
        self._stop = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin."""
        self._task = asyncio.create_task(self._run(), name="access-index")

    async def close(self) -> None:
        """End after the round that is running."""
        self._stop.set()
        if self._task is not None:
            await self._task

    async def catch_up(self) -> None:
        """Index everything that is held by now, unless another process does.

        Raises:
            StoreUnavailable: The access log can not be reached.
        """
        if self._recorder is not None:
            await self._take_own(self._recorder)
        if not self._leads():
            return
        for source in await self._database.read(self._store.sources):
            held = source
            while held.indexed != held.held or held.indexed_complete_us != held.complete_us:
                held = await self._index(held)

    async def _run(self) -> None:
        while not self._stop.is_set():
            try:
                await self.catch_up()
            except Error as error:
                _log.warning("access_index_waits", reason=error.reason, detail=error.message)
            except Exception as error:  # a bug must not end the index for good, in silence
                _log.error("access_index_failed", **describe_exception(error))
            try:
                async with asyncio.timeout(self._period_s):
                    await self._stop.wait()
            except TimeoutError:
                continue

    async def _take_own(self, recorder: AccessRecorder) -> None:
        """Note how far the registry's own looks have come; cities say so themselves."""
        # The time is read before the rows.
        complete_us = recorder.complete_until()

        def write(conn: Connection) -> None:
            source = self._store.source(conn, recorder.node, 0)
            last = self._store.looks.last(conn, source.node)
            if last == source.held and complete_us - source.complete_us < QUIET_US:
                return
            moved = replace(source, day=last.day, sequence=last.sequence, complete_us=complete_us)
            self._store.advance(conn, source, moved)

        await self._database.write(write)

    async def _index(self, source: Source) -> Source:
        looks = await self._database.read(
            lambda conn: self._store.looks.after(conn, source.node, source.indexed, LOOKS_PER_ROUND)
        )
        looks = [look for look in looks if look.position <= source.held]
        last = looks[-1].position if len(looks) == LOOKS_PER_ROUND else source.held
        moved = replace(source, indexed_day=last.day, indexed_sequence=last.sequence)
        if last == source.held:
            moved = replace(moved, indexed_complete_us=source.complete_us)
        sounded: list[tuple[Alarm, int]] = []

        def write(conn: Connection) -> None:
            sounded.clear()
            self._store.advance(conn, source, moved)
            sounded.extend(self._seal_alarms(conn, looks))
            self._store.add_subjects(conn, [row for look in looks for row in _rows(look)])
            sounded.extend(self._subject_alarms(conn, looks))

        try:
            await self._database.write(write)
        except Aborted:
            # More looks arrived, or another process is at it: go on from what stands there now.
            return await self._database.write(lambda conn: self._store.source(conn, source.node, source.city))
        for alarm, count in sounded:
            self._alarms.sound(alarm, node=source.node, count=count)
        return moved

    def _subject_alarms(self, conn: Connection, looks: Sequence[RecordedAccess]) -> list[tuple[Alarm, int]]:
        added = Counter(subject for look in looks for subject in split_subjects(look.entry.subjects))
        counts = self._store.counts_since(conn, added, self._clock() - DAY_US)
        # Once, when the line is crossed; not again with every further look.
        return [
            (Alarm.SUBJECT_LOOKED_AT_OFTEN, count)
            for subject, count in counts.items()
            if count > SUBJECT_LOOKS_PER_DAY >= count - added[subject]
        ]

    def _seal_alarms(self, conn: Connection, looks: Sequence[RecordedAccess]) -> list[tuple[Alarm, int]]:
        sealed = [look for look in looks if look.entry.sealed_until_us]
        found = []
        by_caller = Counter((look.entry.caller, look.position.day) for look in sealed)
        for (caller, day), added in sorted(by_caller.items()):
            count = self._store.count_sealed(conn, caller, day, added)
            if count > SEALED_LOOKS_PER_DAY >= count - added:
                found.append((Alarm.SEALED_TOO_OFTEN, count))
        for look in sealed:
            for subject in split_subjects(look.entry.subjects):
                began = self._store.sealed_before(conn, subject, look.entry.at_us)
                if began is not None and look.entry.sealed_until_us - began > MAX_SEALING_US:
                    found.append((Alarm.SEALING_EXTENDED, 1))
        return found


def _rows(look: RecordedAccess) -> list[SubjectLook]:
    entry = look.entry
    return [
        SubjectLook(
            subject, entry.at_us, look.node, look.position.sequence, place, look.position.day, entry.sealed_until_us
        )
        for place, subject in enumerate(split_subjects(entry.subjects))
    ]
