"""Conflicts as the registry's log tells them, and what is stored of them: in a file, however many there are."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

from elicense.clock import from_timestamp
from elicense.log.check import Finding
from elicense.log.model import LogKey
from elicense.sql.scratch import Scratch
from elicense.v1 import log_pb2
from registry.conflict_model import Conflict, ConflictState, Statement
from registry.store import RegistryStore

if TYPE_CHECKING:
    from sqlalchemy import Connection

_PAGE: Final = 500
_KEY: Final = 16
_FIELDS: Final = tuple(Conflict.__dataclass_fields__)
_SAID: Final = tuple(name for name in Statement.__dataclass_fields__ if name not in ("conflict_id", "seq"))
_DIFFERS: Final = "it differs from the registry's log"


class ConflictCheck:
    """Folds decisions about conflicts in log order, and compares; to fold one twice changes nothing.

    Args:
        scratch: The file of the run.
    """

    def __init__(self, scratch: Scratch) -> None:
        self._conflicts = scratch.shelf("conflict", keys=1, values=len(_FIELDS))
        self._of_person = scratch.shelf("conflict_of_person", keys=2)
        self._said = scratch.shelf("statement", keys=3, values=len(_SAID))

    # -- the fold; each tells whether the decision makes sense ---------------------------------------------------------

    def opened(self, record: log_pb2.RegistryRecord, key: LogKey, index: int) -> bool:
        """Note a conflict."""
        opened = record.conflict_opened
        conflict = Conflict(
            person_key=opened.person_tag,
            license_id=opened.license_id,
            city=opened.position.city,
            epoch=opened.position.epoch,
            idx=opened.position.index,
            entry_hash=opened.entry_hash,
            held_license=opened.held_license_id,
            held_city=opened.held_by_city,
            opened_us=from_timestamp(record.record_time),
            deadline_us=from_timestamp(opened.deadline_time),
            registry_epoch=key.epoch,
            registry_index=index,
            state=int(ConflictState.OPEN),
        )
        self._put(conflict)
        self._of_person.put([(conflict.person_key, conflict.license_id)])
        return True

    def barred(self, license_id: bytes) -> None:
        """Note a bar: a licence that won, but did not count yet, does not stand, and neither does the other."""
        for conflict in self._of([license_id]):
            self._put(replace(conflict, state=int(ConflictState.SETTLED), standing_license=b""))

    def stated(self, record: log_pb2.RegistryRecord, key: LogKey, index: int) -> bool:
        """Note what a city said."""
        stated = record.conflict_stated
        stated_us = from_timestamp(record.record_time)
        said = (stated.city, stated.license_id, int(stated.position), stated.grounds, stated.clerk, stated_us)
        self._said.put([(stated.conflict_id, key.epoch, index, *said)])
        return bool(self._of([stated.conflict_id]))

    def resolved(self, record: log_pb2.RegistryRecord) -> bool:
        """Note which licence stands."""
        resolved = record.conflict_resolved
        for conflict in self._of([resolved.conflict_id]):
            won = resolved.standing_license_id == conflict.license_id
            self._put(
                replace(
                    conflict,
                    state=int(ConflictState.DECIDED if won else ConflictState.SETTLED),
                    standing_license=resolved.standing_license_id,
                    void_license=resolved.void_license_id,
                    ending=int(resolved.end),
                    basis=resolved.basis,
                    decided_us=from_timestamp(record.record_time),
                )
            )
            if won:
                self._go_on_against(conflict)
            return True
        return False

    def settled(self, conflict_id: bytes) -> bool:
        """Note the end of a conflict."""
        held = self._of([conflict_id])
        for conflict in held:
            self._put(replace(conflict, state=int(ConflictState.SETTLED)))
        return bool(held)

    def _go_on_against(self, winner: Conflict) -> None:
        """Have the person's other conflicts go on against the winner."""
        rows: list[Any] = self._of_person.of([(winner.person_key,)])
        for other in self._of(license_id for _, license_id in rows):
            if other.state == ConflictState.OPEN:
                self._put(replace(other, held_license=winner.license_id, held_city=winner.city))

    def _of(self, ids: Iterable[bytes]) -> list[Conflict]:
        rows: list[Any] = self._conflicts.of([(license_id,) for license_id in ids])
        return [Conflict(*row[1:]) for row in rows]

    def _put(self, conflict: Conflict) -> None:
        self._conflicts.put([(conflict.license_id, *conflict.as_dict().values())])

    def pages(self, conn: Connection, store: RegistryStore, limit: int) -> Iterator[list[Conflict]]:
        """Yield every conflict as it stands, under the tag that its person is known by."""
        after: bytes | None = None
        while ids := self._conflicts.firsts(after, limit):
            yield self._told(conn, store, ids)
            after = ids[-1]

    def _told(self, conn: Connection, store: RegistryStore, ids: Iterable[bytes]) -> list[Conflict]:
        held = self._of(ids)
        roots = store.view.links.of(conn, {each.person_key for each in held})
        return [replace(each, person_key=roots.get(each.person_key, each.person_key)) for each in held]

    # -- pages: each returns where it ended, and None at the end -------------------------------------------------------

    def compare(
        self, conn: Connection, store: RegistryStore, found: Callable[[Finding], None], after: bytes | None
    ) -> bytes | None:
        """Compare some conflicts of the log with what is stored."""
        ids: list[bytes] = self._conflicts.firsts(after, _PAGE)
        told = set(self._told(conn, store, ids))
        # Whether a city has stored a word is the one thing that the log does not tell.
        stored = {replace(each, notice_city=0, notice_seq=0) for each in store.conflicts.by_id(conn, ids)}
        for license_id in sorted({each.license_id for each in told ^ stored}):
            found(Finding(f"conflict {UUID(bytes=license_id)}", _DIFFERS))
        return ids[-1] if ids else None

    def compare_stored(
        self, conn: Connection, store: RegistryStore, found: Callable[[Finding], None], after: bytes | None
    ) -> bytes | None:
        """Look for stored conflicts that the log does not tell, and for the words that they wait for."""
        place = None if after is None else (after[:_KEY], after[_KEY:])
        stored = store.conflicts.all_page(conn, after=place, limit=_PAGE)
        told = {each.license_id for each in self._of(each.license_id for each in stored)}
        cities = {city.city for city in store.cities(conn)}
        for each in stored:
            where = f"conflict {UUID(bytes=each.license_id)}"
            if each.license_id not in told:
                found(Finding(where, _DIFFERS))
            if not _is_told(conn, store, each, cities):
                found(Finding(where, "the word that it waits for is not in the city's feed"))
        return stored[-1].person_key + stored[-1].license_id if stored else None

    def compare_said(
        self, conn: Connection, store: RegistryStore, found: Callable[[Finding], None], after: bytes | None
    ) -> bytes | None:
        """Compare what cities said in some conflicts with what is stored."""
        ids: list[bytes] = self._said.firsts(after, _PAGE)
        _report_said(found, self._statements(ids), store.conflicts.statements(conn, ids))
        return ids[-1] if ids else None

    def compare_said_stored(
        self, conn: Connection, store: RegistryStore, found: Callable[[Finding], None], after: bytes | None
    ) -> bytes | None:
        """Look for stored statements that the log does not tell."""
        ids = store.conflicts.stated(conn, after=after or b"", limit=_PAGE)
        _report_said(found, self._statements(ids), store.conflicts.statements(conn, ids))
        return ids[-1] if ids else None

    def _statements(self, ids: Sequence[bytes]) -> dict[bytes, list[Statement]]:
        told: defaultdict[bytes, list[Statement]] = defaultdict(list)
        rows: list[Any] = self._said.of([(license_id,) for license_id in ids])
        for conflict_id, _, _, *said in rows:
            told[conflict_id].append(Statement(conflict_id, len(told[conflict_id]) + 1, *said))
        return told


def _report_said(
    found: Callable[[Finding], None], told: dict[bytes, list[Statement]], stored: dict[bytes, list[Statement]]
) -> None:
    for conflict_id in sorted(told.keys() | stored.keys()):
        if told.get(conflict_id) != stored.get(conflict_id):
            found(Finding(f"conflict {UUID(bytes=conflict_id)}", _DIFFERS))


def _is_told(conn: Connection, store: RegistryStore, conflict: Conflict, cities: set[int]) -> bool:
    """Whether the word that a decided conflict waits for is in the feed of a city, and about the void licence."""
    if conflict.notice_seq < 0 or conflict.notice_city not in {0, *cities}:
        return False
    if not conflict.notice_seq:
        return True
    words = store.feeds.after(conn, conflict.notice_city, after=conflict.notice_seq - 1, limit=1)
    return any((word.seq, word.license_id) == (conflict.notice_seq, conflict.void_license) for word in words)
