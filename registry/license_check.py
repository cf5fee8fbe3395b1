"""Compare some licences, and whatever is stored of each, with what the logs say of them."""

from __future__ import annotations

from collections.abc import Callable, Container, Sequence
from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

from elicense.license.verdict import ViewFlags
from elicense.log.check import Finding, position
from elicense.log.model import LogKey
from elicense.sql.scratch import Shelf
from elicense.view.model import ViewRow
from elicense.view.person import PersonIndex
from registry.decided import Decided, LicenseKey
from registry.link_check import is_erased
from registry.model import ClaimState, Pending
from registry.postponed import ended_by_postponed
from registry.refold import Folded, places_of, refold
from registry.store import RegistryStore
from registry.taken_up import in_balance
from registry.transfer_model import Handover, Position

if TYPE_CHECKING:
    from sqlalchemy import Connection

RULED: Final = int(ViewFlags.CONFLICT | ViewFlags.VOID)
"""Flags that decisions give."""

_NOT_COUNTING: Final = int(ViewFlags.PROVISIONAL) | RULED
_CANCELLED: Final = int(ViewFlags.CANCELLED)


class LicenseCheck:
    """Folds and compares; what it holds in memory is of the licences given, however many there are.

    Args:
        store: The registry's tables.
        persons: Computes person and name tags.
        decided: What the registry's log has decided, up to the transaction of each call.
        places: Where records of licences lie: (licence, city, epoch, index), up to the transaction of each call.
        found: Called with each finding.
    """

    def __init__(
        self,
        store: RegistryStore,
        *,
        persons: PersonIndex,
        decided: Decided,
        places: Shelf,
        found: Callable[[Finding], None],
    ) -> None:
        self._store = store
        self._persons = persons
        self._decided = decided
        self._places = places
        self._found = found

    def fold(self, conn: Connection, licenses: Sequence[bytes]) -> Folded:
        """Return what the logs make of these licences."""
        places = places_of(self._places.of([(license_id,) for license_id in licenses]))
        return refold(conn, self._store, places, persons=self._persons, handovers=self._decided.handovers(licenses))

    def check(self, conn: Connection, licenses: Sequence[bytes]) -> Folded:
        """Compare what is stored of these licences, and return what the logs make of them."""
        folded = self.fold(conn, licenses)
        stored = self._stored(conn, folded)
        waiting = self._waiting(conn, folded)
        again = {(p.person_key, p.license_id) for place, p in waiting.items() if place in folded.restored}
        taken_up = in_balance(folded.arrivals, folded.offers)
        ended = ended_by_postponed(conn, self._store, licenses)
        for key, row in folded.rows.items():
            held = stored.get(key)
            flags = self._flags(folded, key, waiting.keys(), again=key in again)
            if (*key, row.city) in taken_up:
                flags |= int(ViewFlags.TAKEN_UP)
            if held is not None and (row.license_id, row.city) in ended:
                # It is at its end, if the city may erase it by what is known now.
                flags |= held.flags & _CANCELLED
            expected = replace(row, flags=flags)
            if held is None:
                self._report(expected, "the view lacks the license")
            elif held != expected:
                self._report(expected, f"the view differs in {', '.join(_differences(held, expected))}")
        self._compare_revisions(conn, licenses, folded)
        self._compare_claims(conn, folded, stored, ended)
        self._compare_bans(conn, folded)
        self._compare_rulings(conn, licenses, folded)
        self._compare_custody(conn, licenses, folded)
        return folded

    def _stored(self, conn: Connection, folded: Folded) -> dict[LicenseKey, ViewRow]:
        by_person = self._store.view.by_person(conn, {person for person, _ in folded.rows})
        return {(row.person_key, row.license_id): row for rows in by_person.values() for row in rows}

    def _waiting(self, conn: Connection, folded: Folded) -> dict[Position, Pending]:
        places = {(each.city, each.epoch, each.idx) for each in folded.firsts.values()} | folded.restored
        return {(each.city, each.epoch, each.idx): each for each in self._store.pending_at(conn, places)}

    def _flags(self, folded: Folded, key: LicenseKey, waiting: Container[Position], *, again: bool) -> int:
        """Return the flags that the logs give a licence; ``again`` if it waits though it counted before."""
        row = folded.rows[key]
        flags = ViewFlags(row.flags) & ~ViewFlags.PROVISIONAL
        first = folded.firsts.get(key)
        if first is None:
            self._report(row, "no log holds the first revision of the license")
            return int(flags)
        if again:
            return int(flags | ViewFlags.PROVISIONAL)
        ruled = self._decided.flags(row.license_id, folded.tags_of(row.person_key))
        if ruled is not None:
            return int(flags | ruled)
        if (first.city, first.epoch, first.idx) in waiting:
            return int(flags | ViewFlags.PROVISIONAL)
        if not self._granted(folded, key):
            self._report(row, "the license counts, but the registry's log neither grants nor confirms it")
        return int(flags)

    def _granted(self, folded: Folded, key: LicenseKey) -> bool:
        city = folded.firsts[key].city
        return bool(self._decided.grants.of([(tag, city) for tag in folded.tags_of(key[0])]))

    def _counts(self, folded: Folded, key: LicenseKey) -> bool:
        """Whether a licence was ever let count."""
        if key not in folded.firsts:
            return False
        tags = folded.tags_of(key[0])
        return self._granted(folded, key) or bool(self._decided.confirmed.of([(key[1], tag) for tag in tags]))

    def _compare_revisions(self, conn: Connection, licenses: Sequence[bytes], folded: Folded) -> None:
        history = self._store.view.history(conn, licenses)
        # When a record arrived is the one thing that no log tells.
        held = {replace(revision, received_us=0) for revisions in history.values() for revision in revisions}
        for revision in folded.revisions ^ held:
            where = position(LogKey(revision.city, revision.epoch), revision.idx)
            self._found(Finding(where, "the revision index differs from the logs"))

    def _compare_claims(
        self,
        conn: Connection,
        folded: Folded,
        stored: dict[LicenseKey, ViewRow],
        ended: Container[tuple[bytes, int]],
    ) -> None:
        """Every licence that counts must hold its person, and no cancelled one may."""
        claims = self._store.claims.of(conn, {person for person, _ in folded.rows})
        for key, row in folded.rows.items():
            held = stored.get(key)
            if held is None or held.flags & _NOT_COUNTING or not self._counts(folded, key):
                continue
            if (row.license_id, row.city) in ended:
                continue
            claim = claims.get(row.person_key)
            holder = None if claim is None else (claim.city, claim.license_id, claim.state)
            holds = holder == (row.city, row.license_id, ClaimState.HELD)
            if row.flags & ViewFlags.CANCELLED and holds:
                self._report(row, "the license is cancelled, but still holds the person")
            elif not row.flags & (ViewFlags.CANCELLED | ViewFlags.REVOKED) and not holds:
                self._report(row, "the license counts, but its city does not hold the person")

    def _compare_bans(self, conn: Connection, folded: Folded) -> None:
        """Every bar that a record brings must be stored as it says."""
        by_person = self._store.bans.of(conn, {person for person, _ in folded.bans})
        stored = {(ban.person_key, ban.license_id): ban for bans in by_person.values() for ban in bans}
        for place, ban in folded.bans.items():
            if stored.get(place) != ban:
                self._found(Finding(f"license {UUID(bytes=place[1])}", BAR_DIFFERS))

    def _compare_rulings(self, conn: Connection, licenses: Sequence[bytes], folded: Folded) -> None:
        """What is answered about the past must rest on the registry's log as well."""
        stored = {
            (ruling.license_id, ruling.person_key, ruling.decided_us, ruling.after & RULED)
            for rulings in self._store.rulings.of(conn, licenses).values()
            for ruling in rulings
        }
        rows: list[Any] = self._decided.rulings.of([(license_id,) for license_id in licenses])
        told = {(of, folded.tags.get(tag, tag), decided_us, flags) for of, tag, decided_us, flags in rows}
        # What was erased has no past that could be asked about.
        for license_id, *_ in stored ^ {each for each in told if (each[1], each[0]) in folded.rows}:
            self._found(Finding(f"license {UUID(bytes=license_id)}", RULING_DIFFERS))

    def _compare_custody(self, conn: Connection, licenses: Sequence[bytes], folded: Folded) -> None:
        """Compare take-overs that wait, open offers, and where custody has moved."""
        arrivals = set(self._store.transfers.arrivals_of(conn, licenses))
        for arrival in arrivals ^ folded.arrivals:
            where = (arrival.city, arrival.epoch, arrival.idx)
            self._say(where, ARRIVAL_DIFFERS)
        offers = set(self._store.transfers.offers_of(conn, licenses))
        for offer in offers ^ folded.offers:
            self._found(Finding(f"license {UUID(bytes=offer.license_id)}", OFFER_DIFFERS))
        handovers = self._decided.handovers(licenses)
        for license_id in licenses:
            for handover in handovers.of(license_id):
                self.check_halves(conn, handover, folded)

    def check_halves(self, conn: Connection, handover: Handover, folded: Folded) -> None:
        """Both cities' logs must hold the records by which custody moved, or did before those were erased."""
        source = handover.source or handover.arrival
        for half in ((handover.arrival, True), (source, False)):
            city, epoch, index = half[0]
            if half not in folded.halves and not is_erased(conn, self._store, LogKey(city, epoch), index):
                self._say(half[0], "the registry's log moves custody by a record that the city's log does not hold")

    def _say(self, where: Position, what: str) -> None:
        city, epoch, index = where
        self._found(Finding(position(LogKey(city, epoch), index), what))

    def _report(self, row: ViewRow, what: str) -> None:
        report(self._found, row, what)


BAR_DIFFERS: Final = "the bar from applying anew differs from the logs"
ARRIVAL_DIFFERS: Final = "the take-over waits in the table or in the logs, not in both"
RULING_DIFFERS: Final = "the rulings on it differ from the registry's log"
CUSTODY_DIFFERS: Final = "what is kept of a decision about its custody differs from the registry's log"
OFFER_DIFFERS: Final = "what is offered of it differs from the logs"


def report(found: Callable[[Finding], None], row: ViewRow, what: str) -> None:
    """Note what is wrong with a licence."""
    where = f"license {UUID(bytes=row.license_id)} ({position(LogKey(row.city, row.epoch), row.idx)})"
    found(Finding(where, what))


def _differences(row: ViewRow, expected: ViewRow) -> list[str]:
    return [f.name for f in fields(ViewRow) if getattr(row, f.name) != getattr(expected, f.name)]
