"""What is read and done about conflicts: lists, both sides' evidence, statements and decisions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from elicense.errors import ConflictNotFound
from elicense.log.model import LogKey, StoredEntry
from elicense.sql.database import Database
from elicense.v1 import license_pb2
from registry.conflict_commands import DecideConflict, StatePosition
from registry.conflict_model import Conflict, Statement
from registry.replication import DecisionLog
from registry.store import RegistryStore

if TYPE_CHECKING:
    from sqlalchemy import Connection


@dataclass(frozen=True, slots=True)
class Side:
    """One of the two licences, with what proves it.

    Attributes:
        city: City that has it now.
        license_id: The licence.
        place: Log of its first record.
        idx: Index of that record.
        entry_hash: Its leaf hash.
        recorded_us: When the city wrote it.
        provisional: Whether it was issued without a grant.
        checkpoint: Cosigned head over it; empty where no proof was asked for, or none can be given yet.
        hashes: Inclusion path to that head.
        entry: The record with its salt, where the reader may see it.
    """

    city: int
    license_id: bytes
    place: LogKey
    idx: int
    entry_hash: bytes
    recorded_us: int
    provisional: bool
    checkpoint: bytes = b""
    hashes: tuple[bytes, ...] = ()
    entry: StoredEntry | None = None


@dataclass(frozen=True, slots=True)
class Shown:
    """A conflict as it is shown.

    Attributes:
        conflict: The conflict.
        counting: The licence that counts until it is decided; None when its records are gone.
        waiting: The licence without effect.
        statements: What the cities said; empty in lists.
        overdue: Whether it is open past its deadline.
    """

    conflict: Conflict
    counting: Side | None
    waiting: Side | None
    statements: Sequence[Statement]
    overdue: bool


@dataclass(frozen=True, slots=True)
class Inbox:
    """A page of conflicts.

    Attributes:
        conflicts: Overdue ones first, then by deadline.
        open: How many are open in all.
        overdue: How many of these are overdue.
    """

    conflicts: Sequence[Shown]
    open: int
    overdue: int


class Conflicts:
    """Reads conflicts and passes on what cities and operators say.

    Args:
        database: The registry's database.
        store: Its tables.
        log: Writes to the registry's log.
        on_change: Called when the view may have changed.
        clock: UTC microseconds.
    """

    def __init__(
        self,
        *,
        database: Database,
        store: RegistryStore,
        log: DecisionLog,
        on_change: Callable[[], None],
        clock: Callable[[], int],
    ) -> None:
        self._database = database
        self._store = store
        self._log = log
        self._on_change = on_change
        self._clock = clock

    async def inbox(self, city: int | None, *, settled: bool, limit: int) -> Inbox:
        """Return a city's conflicts, or all with None, without evidence."""
        now_us = self._clock()

        def read(conn: Connection) -> Inbox:
            conflicts = self._store.conflicts
            page = conflicts.page(conn, city=city, settled=settled, now_us=now_us, limit=limit)
            is_open, overdue, _ = conflicts.counts(conn, city=city, now_us=now_us)
            shown = [self._shown(conn, conflict, None, now_us=now_us, evidence=False) for conflict in page]
            return Inbox(shown, is_open, overdue)

        return await self._database.read(read)

    async def read(self, conflict_id: bytes, city: int | None) -> Shown:
        """Return one conflict with evidence, for a city that is a side of it, or for an operator with None.

        Raises:
            ConflictNotFound: There is none, or the city is no side of it.
        """
        now_us = self._clock()

        def read(conn: Connection) -> Shown:
            for conflict in self._store.conflicts.by_id(conn, [conflict_id]):
                shown = self._shown(conn, conflict, city, now_us=now_us, evidence=True)
                sides = {side.city for side in (shown.counting, shown.waiting) if side is not None}
                if city is None or city in sides | {conflict.city, conflict.held_city}:
                    return shown
            raise ConflictNotFound("there is no such conflict")

        return await self._database.read(read)

    async def state(self, command: StatePosition) -> Shown:
        """Note what a city says; see :func:`registry.conflicts.state_position` for what it raises."""
        await self._log.speak(command)
        self._on_change()
        return await self.read(command.conflict_id, command.city)

    async def decide(self, command: DecideConflict) -> Shown:
        """Note an operator's decision; see :func:`registry.conflicts.decide_conflict` for what it raises."""
        await self._log.speak(command)
        self._on_change()
        return await self.read(command.conflict_id, None)

    def _shown(self, conn: Connection, conflict: Conflict, city: int | None, *, now_us: int, evidence: bool) -> Shown:
        statements = self._store.conflicts.statements(conn, [conflict.license_id]) if evidence else {}
        return Shown(
            conflict,
            self._side(conn, conflict, conflict.held_license, city, evidence=evidence),
            self._side(conn, conflict, conflict.license_id, city, evidence=evidence),
            statements.get(conflict.license_id, ()),
            conflict.overdue(now_us),
        )

    def _side(
        self, conn: Connection, conflict: Conflict, license_id: bytes, reader: int | None, *, evidence: bool
    ) -> Side | None:
        person_key = conflict.person_key
        # A licence id is a city's own choice, so another person's licence may bear the same.
        own = [
            r for r in self._store.view.history(conn, [license_id]).get(license_id, []) if r.person_key == person_key
        ]
        if not own:
            return None
        # The record that led to the conflict, else the first: a licence that was restored waits for a later one.
        cause = (conflict.city, conflict.epoch, conflict.idx) if license_id == conflict.license_id else None
        led = [each for each in own if (each.city, each.epoch, each.idx) == cause]
        revision = min(led or own, key=lambda each: (each.revision, each.epoch, each.idx))
        place = LogKey(revision.city, revision.epoch)
        entry = self._store.logs.entries_at(conn, place, [revision.idx]).get(revision.idx)
        if entry is None:
            return None
        rows = self._store.view.by_person(conn, [person_key]).get(person_key, [])
        now = next((row for row in rows if row.license_id == license_id), None)
        owner = revision.city if now is None else now.city
        cosigned = self._store.logs.commits.latest_cosigned(conn, place) if evidence else None
        checkpoint = b""
        hashes: tuple[bytes, ...] = ()
        if cosigned is not None and cosigned[0] > revision.idx:
            size, checkpoint = cosigned
            hashes = tuple(self._store.logs.inclusion_proof(conn, place, revision.idx, size))
        return Side(
            city=owner,
            license_id=license_id,
            place=place,
            idx=revision.idx,
            entry_hash=entry.leaf_hash,
            recorded_us=revision.recorded_us,
            provisional=_provisional(entry),
            checkpoint=checkpoint,
            hashes=hashes,
            # Its own record holds nothing new to a city; the other's holds a person's data.
            entry=entry if evidence and reader is not None and reader == owner else None,
        )


def _provisional(entry: StoredEntry) -> bool:
    return entry.record is not None and license_pb2.LicenseRecord.FromString(entry.record).provisional
