"""Go through what the registry stores, page by page, for what the logs do not know; small things at the end, whole."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from struct import Struct
from typing import TYPE_CHECKING, Final
from uuid import UUID

from elicense.log.check import Finding, position
from elicense.log.check_run import CheckRun, Stage
from elicense.log.model import LogKey
from elicense.sql.scratch import Shelf
from registry.check_state import check_grants
from registry.custody_store import CustodyDecision
from registry.decided import Decided
from registry.license_check import (
    ARRIVAL_DIFFERS,
    BAR_DIFFERS,
    CUSTODY_DIFFERS,
    OFFER_DIFFERS,
    RULING_DIFFERS,
    LicenseCheck,
    report,
)
from registry.link_check import LinkCheck, is_erased
from registry.model import Claim, ClaimState
from registry.refold import Folded
from registry.store import RegistryStore
from registry.told_store import Mark
from registry.transfer_model import Arrival

if TYPE_CHECKING:
    from sqlalchemy import Connection

_PAGE: Final = 500
_KEY: Final = 16
_PLACE: Final = Struct(">iqq")
_DECISION: Final = Struct(">16sq32sqq")


class Sweeps:
    """Compares licences, remembers what it has found of them, and looks for the rest.

    Args:
        run: The run.
        store: The registry's tables.
        check: Compares licences.
        decided: What the registry's log has decided.
        places: Where records of licences lie.

    Attributes:
        links: Compares the links between documents, once every licence has been compared.
    """

    def __init__(
        self, run: CheckRun, store: RegistryStore, *, check: LicenseCheck, decided: Decided, places: Shelf
    ) -> None:
        self._run = run
        self._store = store
        self._check = check
        self._decided = decided
        self._places = places
        #: (person, licence, city) of every licence that the logs hold.
        self._standing = run.scratch.shelf("standing", keys=2, values=1)
        self.links = LinkCheck(run.scratch, store, found=run.found)
        self.stages: dict[str, Stage] = {
            "view": self._view,
            "revisions": self._revisions,
            "claims": self._claims,
            "bans": self._bans,
            "rulings": self._rulings,
            "offers": self._offers,
            "arrivals": self._arrivals,
            "hand-overs": self._handovers,
            "conflicts": self._of_conflicts(decided.conflicts.compare),
            "stored conflicts": self._of_conflicts(decided.conflicts.compare_stored),
            "statements": self._of_conflicts(decided.conflicts.compare_said),
            "stored statements": self._of_conflicts(decided.conflicts.compare_said_stored),
            "custody": self._custody,
            "custody of the log": self._custody_of_log,
        }

    @property
    def licenses(self) -> int:
        """Licences that the logs hold."""
        return len(self._standing)

    def check(self, conn: Connection, licenses: Sequence[bytes]) -> None:
        """Compare licences."""
        folded = self._check.check(conn, licenses)
        self._standing.put((person, license_id, row.city) for (person, license_id), row in folded.rows.items())
        self.links.ask(folded.links)

    def check_decided(self, conn: Connection) -> None:
        """Compare what only the registry's log as a whole says."""
        self._decided.vectors.compare(conn, self._store, self._run.found)
        self._decided.quarantines.compare(conn, self._store, self._run.found)

    def _of_conflicts(
        self, compare: Callable[[Connection, RegistryStore, Callable[[Finding], None], bytes | None], bytes | None]
    ) -> Stage:
        return lambda conn, after: compare(conn, self._store, self._run.found, after)

    # -- pages: each returns where it ended, and None at the end -------------------------------------------------------

    def _view(self, conn: Connection, after: bytes | None) -> bytes | None:
        place = None if after is None else (after[:_KEY], after[_KEY:])
        rows = self._store.view.rows(conn, after=place, limit=_PAGE)
        known = {row[:2] for row in self._standing.of([(row.person_key, row.license_id) for row in rows])}
        strange = [row for row in rows if (row.person_key, row.license_id) not in known]
        # One that has come since it was looked for is there now.
        folded = self._check.fold(conn, [row.license_id for row in strange])
        for row in strange:
            if (row.person_key, row.license_id) not in folded.rows:
                report(self._run.found, row, "the view has a license that no log holds")
        return rows[-1].person_key + rows[-1].license_id if rows else None

    def _revisions(self, conn: Connection, after: bytes | None) -> bytes | None:
        licenses = self._store.view.indexed(conn, after=after or b"", limit=_PAGE)
        return self._unknown(licenses, "the revision index has a license that no log holds")

    def _claims(self, conn: Connection, after: bytes | None) -> bytes | None:
        claims = self._store.claims.page(conn, after=after or b"", limit=_PAGE)
        check_grants(conn, self._store, claims, self._run.found)
        held = [claim for claim in claims if claim.state == ClaimState.HELD]
        known = set(self._standing.of([(claim.person_key, claim.license_id) for claim in held]))
        doubtful = [claim for claim in held if (claim.person_key, claim.license_id, claim.city) not in known]
        folded = self._check.fold(conn, [claim.license_id for claim in doubtful])
        for claim in doubtful:
            if not _rests(claim, folded):
                where = f"claim for license {UUID(bytes=claim.license_id)}"
                self._run.found(Finding(where, "no log holds what it was used for"))
        return claims[-1].person_key if claims else None

    def _bans(self, conn: Connection, after: bytes | None) -> bytes | None:
        """Every bar must rest on a record; only where that was erased may it stand alone."""
        place = None if after is None else (after[:_KEY], after[_KEY:])
        bans = self._store.bans.page(conn, after=place, limit=_PAGE)
        folded = self._check.fold(conn, [ban.license_id for ban in bans])
        for ban in bans:
            key = (ban.person_key, ban.license_id)
            # The bar stays while the law requires it, also when the record that brought it has been erased.
            gone = key not in folded.bans and is_erased(conn, self._store, LogKey(ban.city, ban.epoch), ban.idx)
            if folded.bans.get(key) != ban and not gone:
                self._run.found(Finding(f"license {UUID(bytes=ban.license_id)}", BAR_DIFFERS))
        return bans[-1].person_key + bans[-1].license_id if bans else None

    def _rulings(self, conn: Connection, after: bytes | None) -> bytes | None:
        return self._unknown(self._store.rulings.licenses(conn, after=after or b"", limit=_PAGE), RULING_DIFFERS)

    def _offers(self, conn: Connection, after: bytes | None) -> bytes | None:
        return self._unknown(self._store.transfers.offered(conn, after=after or b"", limit=_PAGE), OFFER_DIFFERS)

    def _unknown(self, licenses: Sequence[bytes], what: str) -> bytes | None:
        """Note licences that no log holds."""
        known = {row[0] for row in self._places.of([(license_id,) for license_id in licenses])}
        for license_id in licenses:
            if license_id not in known:
                self._run.found(Finding(f"license {UUID(bytes=license_id)}", what))
        return licenses[-1] if licenses else None

    def _arrivals(self, conn: Connection, after: bytes | None) -> bytes | None:
        city, epoch, idx = _PLACE.unpack(after or bytes(_PLACE.size))
        last = Arrival(city, epoch, idx, b"", b"", b"")
        arrivals = self._store.transfers.arrivals(conn, limit=_PAGE, after=last)
        known = {row[0] for row in self._places.of([(arrival.license_id,) for arrival in arrivals])}
        for arrival in arrivals:
            if arrival.license_id not in known:
                where = position(LogKey(arrival.city, arrival.epoch), arrival.idx)
                self._run.found(Finding(where, ARRIVAL_DIFFERS))
        return _PLACE.pack(arrivals[-1].city, arrivals[-1].epoch, arrivals[-1].idx) if arrivals else None

    def _handovers(self, conn: Connection, after: bytes | None) -> bytes | None:
        """Licences that moved must be in the logs of cities."""
        licenses: list[bytes] = self._decided.transfers.firsts(after, _PAGE)
        known = {row[0] for row in self._places.of([(license_id,) for license_id in licenses])}
        moved = self._decided.handovers(license_id for license_id in licenses if license_id not in known)
        for handover in moved.departures.values():
            self._check.check_halves(conn, handover, Folded())
        return licenses[-1] if licenses else None

    def _custody(self, conn: Connection, after: bytes | None) -> bytes | None:
        """Whatever is kept of a decision about custody must stand in the registry's log."""
        rows = self._store.custody.page(
            conn, after=None if after is None else CustodyDecision(*_DECISION.unpack(after)), limit=_PAGE
        )
        told = self._decided.custody(row.license_id for row in rows)
        for row in rows:
            if row not in told:
                self._run.found(Finding(f"decision on license {UUID(bytes=row.license_id)}", CUSTODY_DIFFERS))
        return _packed(rows[-1]) if rows else None

    def _custody_of_log(self, conn: Connection, after: bytes | None) -> bytes | None:
        """Every such decision must be kept, as far as the registry says that it has read its log."""
        licenses: list[bytes] = self._decided.transfers.firsts(after, _PAGE)
        marks = {epoch: seq for _, what, epoch, seq in self._store.told.marks(conn) if what == Mark.DECIDED}
        due = [row for row in self._decided.custody(licenses) if row.idx < marks.get(row.epoch, 0)]
        for row in set(due) - self._store.custody.held(conn, due):
            self._run.found(Finding(f"decision on license {UUID(bytes=row.license_id)}", CUSTODY_DIFFERS))
        return licenses[-1] if licenses else None


def _packed(row: CustodyDecision) -> bytes:
    return _DECISION.pack(row.license_id, row.city, row.upon, row.epoch, row.idx)


def _rests(claim: Claim, folded: Folded) -> bool:
    row = folded.rows.get((claim.person_key, claim.license_id))
    return row is not None and row.city == claim.city
