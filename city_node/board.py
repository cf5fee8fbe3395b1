"""What is known while one commit of the city's log is decided."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence, Set
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from city_node.commands import (
    ApplyRules,
    ChangeLicense,
    Command,
    EraseLicense,
    EraseOnOrder,
    IssueLicenses,
    NewLicense,
    TakeOverLicense,
)
from city_node.first_revision import FirstRevisions
from city_node.holding import refusals
from city_node.removal import Place, awaits_receipt, entries_of
from city_node.revisions import (
    Wrong,
)
from city_node.store import CityStore, Request
from elicense.clock import china_date
from elicense.errors import (
    Error,
    LicenseExists,
)
from elicense.license.field_change import FieldCorrection
from elicense.log.model import Head, LogKey, StoredEntry
from elicense.view.model import ViewRow

if TYPE_CHECKING:
    from sqlalchemy import Connection


@dataclass(slots=True)
class Board:
    """What is known while one commit is decided; grows with each command."""

    key: LogKey
    next_index: int
    now_us: int
    firsts: FirstRevisions
    requests: dict[bytes, Request]
    taken: dict[bytes, Error]
    rows: dict[bytes, ViewRow]
    entries: dict[tuple[int, int], StoredEntry]
    wrong: dict[bytes, Wrong]
    arriving: set[bytes]
    unheld: set[bytes]
    changed: set[bytes] = field(default_factory=set)
    given: set[bytes] = field(default_factory=set)

    def refusal(self, person_key: bytes) -> Error | None:
        """Return why a person may have no licence here; None when they may."""
        if person_key in self.given:
            return LicenseExists("this person holds a license in this city already")
        return self.taken.get(person_key)


@dataclass(frozen=True, slots=True)
class _Asked:
    """The commands of a commit, by kind."""

    issued: Sequence[NewLicense]
    changes: Sequence[ChangeLicense]
    ruled: Set[tuple[bytes, bytes]]
    moves: Sequence[TakeOverLicense]
    orders: Sequence[EraseOnOrder]
    erasures: Sequence[EraseLicense | EraseOnOrder]

    @classmethod
    def of(cls, commands: Sequence[Command]) -> _Asked:
        return cls(
            issued=[item for command in commands if isinstance(command, IssueLicenses) for item in command.items],
            changes=[command for command in commands if isinstance(command, ChangeLicense)],
            ruled={each for command in commands if isinstance(command, ApplyRules) for each in command.licenses},
            moves=[command for command in commands if isinstance(command, TakeOverLicense)],
            orders=[command for command in commands if isinstance(command, EraseOnOrder)],
            erasures=[command for command in commands if isinstance(command, EraseLicense | EraseOnOrder)],
        )

    def request_ids(self) -> list[bytes]:
        """Return the keys of all requests."""
        ids = [item.draft.request_id for item in self.issued]
        return ids + [each.request_id for each in (*self.changes, *self.moves, *self.erasures)]

    def persons(self) -> set[bytes]:
        """Return who must be free in this city."""
        keys = {item.draft.person_key for item in self.issued} | {move.latest.person_key for move in self.moves}
        return keys | {change.new_key for change in self.changes if change.grant is not None}

    def named(self) -> set[bytes]:
        """Return the licences that are named by id."""
        ids = {each.license_id for each in (*self.changes, *self.erasures)}
        return ids | {move.latest.license_id for move in self.moves}


class BoardReader:
    """Reads what a commit needs to know.

    Args:
        store: The city's tables.
        clock: UTC microseconds.
    """

    def __init__(self, *, store: CityStore, clock: Callable[[], int]) -> None:
        self._store = store
        self._clock = clock

    def read(self, conn: Connection, head: Head, commands: Sequence[Command]) -> Board:
        """Return what is known before the first of these commands is decided."""
        city, asked = head.key.log, _Asked.of(commands)
        rows = self._rows(conn, city, asked)
        # Record times never go back, whatever the clock does.
        now_us = max(self._clock(), head.recorded_us)
        wrong = {change.request_id: self._wrong(conn, change) for change in asked.changes}
        return Board(
            key=head.key,
            next_index=head.size,
            now_us=now_us,
            firsts=FirstRevisions(head.key, now_us),
            requests=self._store.requests(conn, asked.request_ids()),
            taken=self._refusals(conn, asked.persons(), city, now_us),
            rows=rows,
            entries=self._entries(conn, city, rows, asked.orders),
            wrong={request_id: found for request_id, found in wrong.items() if found is not None},
            arriving={
                move.latest.license_id
                for move in asked.moves
                if self._store.hand_overs.arriving(conn, move.latest.license_id)
            },
            unheld={
                order.license_id
                for order in asked.orders
                if awaits_receipt(conn, self._store, self._ordered(conn, city, order))
            },
        )

    def _rows(self, conn: Connection, city: int, asked: _Asked) -> dict[bytes, ViewRow]:
        """Return the licences that are named, by id."""
        view = self._store.view
        named = [row for each in asked.named() if (row := view.by_license(conn, each)) is not None]
        if asked.ruled:
            for held in view.by_person(conn, {person_key for person_key, _ in asked.ruled}).values():
                named += [row for row in held if row.city == city and (row.person_key, row.license_id) in asked.ruled]
        return {row.license_id: row for row in named}

    def _entries(
        self, conn: Connection, city: int, rows: Mapping[bytes, ViewRow], orders: Sequence[EraseOnOrder]
    ) -> dict[tuple[int, int], StoredEntry]:
        """Return the latest records of this city's licences, and what is to be erased, by epoch and index."""
        wanted: dict[int, list[int]] = {}
        for row in rows.values():
            if row.city == city:
                wanted.setdefault(row.epoch, []).append(row.idx)
        for order in orders:
            wanted.setdefault(order.epoch, []).append(order.idx)
        return {
            (epoch, index): entry
            for epoch, indices in wanted.items()
            for index, entry in self._store.logs.entries_at(conn, LogKey(city, epoch), indices).items()
        }

    def _ordered(self, conn: Connection, city: int, order: EraseOnOrder) -> Collection[Place]:
        """Return where whatever lies that an order takes out."""
        slot = LogKey(city, order.epoch), order.idx
        return entries_of(conn, self._store, city, order.license_id, slot).keys()

    def _refusals(self, conn: Connection, keys: set[bytes], city: int, now_us: int) -> dict[bytes, Error]:
        if not keys:
            return {}
        return refusals(self._store.view.by_document(conn, keys), china_date(now_us), city=city)

    def _wrong(self, conn: Connection, command: ChangeLicense) -> Wrong | None:
        """Return the revision that a correction puts right."""
        if not isinstance(command.change, FieldCorrection):
            return None
        number = command.change.revision
        found = self._store.view.revisions(conn, command.license_id, after=number - 1, limit=1)
        if not found or found[0].revision != number:
            return None
        place = LogKey(found[0].city, found[0].epoch)
        entry = self._store.logs.entries_at(conn, place, [found[0].idx]).get(found[0].idx)
        return None if entry is None else Wrong(found[0], entry.leaf_hash)
