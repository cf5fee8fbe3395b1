"""Fold the logs again and compare the national view with what comes out.

The view is a function of the city logs and the registry's log: a licence's
latest record gives its row; its first record counts because the registry's log
grants its person to the city, or confirms it, or does not count because that
log opened a conflict; and it is in the custody of the city that took it over
last, by the decisions of that log.  What is not decided yet must stand in the
tables of what waits.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from dataclasses import fields, replace
from typing import TYPE_CHECKING, Final
from uuid import UUID

from elicense.license.verdict import ViewFlags
from elicense.log.check import Finding, position
from elicense.log.model import LogKey, StoredEntry
from elicense.view.model import Revision, ViewRow
from elicense.view.person import PersonIndex
from registry.bans import PersonBan
from registry.custody_check import CustodyCheck
from registry.decided import Decided
from registry.link_check import LinkCheck, is_erased
from registry.links import AskedLink
from registry.model import ClaimState, Pending
from registry.national import NationalFold, receive
from registry.store import RegistryStore

if TYPE_CHECKING:
    from sqlalchemy import Connection

_PAGE: Final = 1_000
_MAX_REVISIONS: Final = 1_000_000

_Position = tuple[int, int, int]


class Refold:
    """Builds the national view from logs, city by city, and compares.

    Args:
        conn: Transaction in which everything is read.
        store: The registry's tables.
        persons: Computes person and name tags.
        found: Called with each finding.
    """

    def __init__(
        self, conn: Connection, store: RegistryStore, *, persons: PersonIndex, found: Callable[[Finding], None]
    ) -> None:
        self._conn = conn
        self._store = store
        self._persons = persons
        self._found = found
        self._expected: dict[tuple[bytes, bytes], ViewRow] = {}
        self._first: dict[tuple[bytes, bytes], _Position] = {}
        self._restored: set[_Position] = set()
        self._revisions: dict[bytes, list[Revision]] = {}
        self._bans: dict[tuple[bytes, bytes], PersonBan] = {}
        self._links: list[AskedLink] = []
        self._custody = CustodyCheck(conn, store.transfers, found=found)
        self._fold: tuple[int, NationalFold] | None = None
        self.decided = Decided()

    def read_city(self, key: LogKey, chunks: Iterator[Sequence[StoredEntry]]) -> None:
        """Fold one epoch of a city's log; the registry's log and the epochs before must have been read before."""
        fold = self._fold_of(key.log)
        for chunk in chunks:
            held = [(e.index, e.record, e.leaf_hash) for e in chunk if e.record is not None]
            for received in receive(held, city=key.log, epoch=key.epoch, persons=self._persons):
                fold.apply(received)

    def _fold_of(self, city: int) -> NationalFold:
        if self._fold is not None and self._fold[0] == city:
            return self._fold[1]
        self._take()
        # Without claims every first record waits; whether it counts is told by the registry's log.
        fold = NationalFold(rows={}, claims={}, persons=self._persons, received_us=0, handovers=self.decided.handovers)
        self._fold = city, fold
        return fold

    def _take(self) -> None:
        """Take what the log of a city came to, once all its epochs are read."""
        if self._fold is None:
            return
        fold, self._fold = self._fold[1], None
        restored = set(fold.change.restored)
        self._restored.update((each.city, each.epoch, each.idx) for each in restored)
        for pending in fold.change.pending:
            # Without claims a licence that was taken over and restored since seems to wait as well.
            if pending not in restored:
                where = (pending.city, pending.epoch, pending.idx)
                self._first[pending.person_key, pending.license_id] = where
        for revision in fold.change.revisions:
            self._revisions.setdefault(revision.license_id, []).append(revision)
        self._links += fold.change.links
        away = self._custody.take(fold)
        for row in fold.change.rows.values():
            if row.license_id not in away:
                self._expected[row.person_key, row.license_id] = row
        self._bans.update({place: ban for place, ban in fold.change.bans.items() if ban is not None})

    def compare(self) -> int:
        """Compare with the stored view and return the number of licences."""
        self._take()
        self._unite()
        waiting = {(p.city, p.epoch, p.idx): p for p in self._waiting()}
        stored = {(row.person_key, row.license_id): row for row in self._store.view.all_rows(self._conn)}
        again = {(p.person_key, p.license_id) for place, p in waiting.items() if place in self._restored}
        in_balance = self._custody.in_balance()
        for key, folded in self._expected.items():
            row = stored.pop(key, None)
            flags = self._flags(key, folded, waiting, again)
            if (*key, folded.city) in in_balance:
                flags |= int(ViewFlags.TAKEN_UP)
            expected = replace(folded, flags=flags)
            if row is None:
                self._report(expected, "the view lacks the license")
            elif row != expected:
                self._report(expected, f"the view differs in {', '.join(_differences(row, expected))}")
        for row in stored.values():
            self._report(row, "the view has a license that no log holds")
        self._compare_revisions()
        self._compare_claims()
        self._compare_bans()
        self._compare_rulings()
        self._compare_conflicts()
        self.decided.vectors.compare(self._conn, self._store, self._found)
        self._custody.compare(self.decided.handovers)
        self.decided.quarantines.compare(self._conn, self._store, self._found)
        return len(self._expected)

    def _unite(self) -> None:
        """Have every person known under one tag, as the records say that were granted the later document."""
        check = LinkCheck(self._conn, self._store, self._links, found=self._found)
        check.compare()
        self._rekey(check.roots.root)

    def _rekey(self, root: Callable[[bytes], bytes]) -> None:
        """Put everything under the tags that persons are known by."""
        self._expected = {(root(p), of): replace(r, person_key=root(p)) for (p, of), r in self._expected.items()}
        self._first = {(root(p), of): where for (p, of), where in self._first.items()}
        self._bans = {(root(p), of): replace(b, person_key=root(p)) for (p, of), b in self._bans.items()}
        self._revisions = {
            of: [replace(each, person_key=root(each.person_key)) for each in held]
            for of, held in self._revisions.items()
        }
        self._custody.rekey(root)
        decided = self.decided
        decided.granted = {(root(p), city) for p, city in decided.granted}
        decided.rulings = {((root(p), of), us): flags for ((p, of), us), flags in decided.rulings.items()}
        decided.conflicts = {
            of: replace(each, person_key=root(each.person_key)) for of, each in decided.conflicts.items()
        }
        decided.ruled = {(root(p), of): flags for (p, of), flags in decided.ruled.items()}
        decided.confirmed = {(root(p), of) for p, of in decided.confirmed}

    def _flags(
        self,
        key: tuple[bytes, bytes],
        row: ViewRow,
        waiting: Mapping[_Position, Pending],
        again: Container[tuple[bytes, bytes]],
    ) -> int:
        """Return the flags that the logs give a licence; one of ``again`` waits though it counted before."""
        flags = ViewFlags(row.flags) & ~ViewFlags.PROVISIONAL
        first = self._first.get(key)
        if first is None:
            self._report(row, "no log holds the first revision of the license")
            return int(flags)
        if key in again:
            return int(flags | ViewFlags.PROVISIONAL)
        if key in self.decided.ruled:
            return int(flags | self.decided.ruled[key])
        if first in waiting:
            return int(flags | ViewFlags.PROVISIONAL)
        if (key[0], first[0]) not in self.decided.granted:
            self._report(row, "the license counts, but the registry's log neither grants nor confirms it")
        return int(flags)

    def _waiting(self) -> Iterator[Pending]:
        after: Pending | None = None
        while page := self._store.pending(self._conn, limit=_PAGE, after=after):
            yield from page
            after = page[-1]

    def _compare_revisions(self) -> None:
        for license_id, expected in self._revisions.items():
            stored = self._store.view.revisions(self._conn, license_id, after=0, limit=_MAX_REVISIONS)
            # When a record arrived is the one thing that no log tells.
            held = {replace(revision, received_us=0) for revision in stored}
            for revision in set(expected) ^ held:
                where = position(LogKey(revision.city, revision.epoch), revision.idx)
                self._found(Finding(where, "the revision index differs from the logs"))

    def _compare_claims(self) -> None:
        """Every licence that counts must hold its person, and no cancelled one may."""
        counting = [
            row
            for key, row in self._expected.items()
            if (first := self._first.get(key)) is not None
            and (key in self.decided.confirmed or (key[0], first[0]) in self.decided.granted)
        ]
        for start in range(0, len(counting), _PAGE):
            rows = counting[start : start + _PAGE]
            claims = self._store.claims(self._conn, {row.person_key for row in rows})
            for row in rows:
                claim = claims.get(row.person_key)
                stored = [r for r in self._stored(row) if not r.flags & _NOT_COUNTING]
                holder = None if claim is None else (claim.city, claim.license_id, claim.state)
                holds = holder == (row.city, row.license_id, ClaimState.HELD)
                if stored and row.flags & ViewFlags.CANCELLED and holds:
                    self._report(row, "the license is cancelled, but still holds the person")
                elif stored and not row.flags & (ViewFlags.CANCELLED | ViewFlags.REVOKED) and not holds:
                    self._report(row, "the license counts, but its city does not hold the person")

        self._compare_holds()

    def _compare_holds(self) -> None:
        """Every hold must rest on a licence that its city's log holds."""
        for person_key, city, license_id in self._store.held_claims(self._conn):
            row = self._expected.get((person_key, license_id))
            if row is None or row.city != city:
                self._found(Finding(f"claim for license {UUID(bytes=license_id)}", "no log holds what it was used for"))

    def _compare_bans(self) -> None:
        """Every bar must rest on a record; only where that was erased may it stand alone."""
        stored = {(ban.person_key, ban.license_id): ban for ban in self._store.bans.all(self._conn)}
        for place in stored.keys() | self._bans.keys():
            held = stored.get(place)
            gone = held is not None and is_erased(self._conn, self._store, LogKey(held.city, held.epoch), held.idx)
            # The bar stays while the law requires it, also when the record that brought it has been erased.
            if held == self._bans.get(place) or (gone and place not in self._bans):
                continue
            where = f"license {UUID(bytes=place[1])}"
            self._found(Finding(where, "the bar from applying anew differs from the logs"))

    def _compare_rulings(self) -> None:
        """What is answered about the past must rest on the registry's log as well."""
        stored = {
            ((ruling.person_key, ruling.license_id), ruling.decided_us, ruling.after & _RULED)
            for ruling in self._store.rulings.all(self._conn)
        }
        # What was erased has no past that could be asked about.
        expected = {(*ruling, flags) for ruling, flags in self.decided.rulings.items() if ruling[0] in self._expected}
        for (_, license_id), _, _ in stored ^ expected:
            self._found(
                Finding(f"license {UUID(bytes=license_id)}", "the rulings on it differ from the registry's log")
            )

    def _compare_conflicts(self) -> None:
        """Conflicts, and what cities said in them, must be those of the registry's log."""
        # Whether a city has stored a word is the one thing that the log does not tell.
        conflicts = {replace(each, notice_city=0, notice_seq=0) for each in self._store.conflicts.all(self._conn)}
        statements = set(self._store.conflicts.all_statements(self._conn))
        differing = {each.license_id for each in conflicts ^ set(self.decided.conflicts.values())}
        differing |= {each.conflict_id for each in statements ^ set(self.decided.statements)}
        for conflict_id in sorted(differing):
            self._found(Finding(f"conflict {UUID(bytes=conflict_id)}", "it differs from the registry's log"))

    def _stored(self, row: ViewRow) -> list[ViewRow]:
        rows = self._store.view.by_person(self._conn, [row.person_key]).get(row.person_key, [])
        return [held for held in rows if held.license_id == row.license_id]

    def _report(self, row: ViewRow, what: str) -> None:
        where = f"license {UUID(bytes=row.license_id)} ({position(LogKey(row.city, row.epoch), row.idx)})"
        self._found(Finding(where, what))


_RULED: Final = int(ViewFlags.CONFLICT | ViewFlags.VOID)
_NOT_COUNTING: Final = int(ViewFlags.PROVISIONAL) | _RULED


def _differences(row: ViewRow, expected: ViewRow) -> list[str]:
    return [f.name for f in fields(ViewRow) if getattr(row, f.name) != getattr(expected, f.name)]
