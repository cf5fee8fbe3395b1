"""Compare what is stored of hand-overs with what the logs say of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Final
from uuid import UUID

from elicense.log.check import Finding, position
from elicense.log.model import LogKey
from registry.handovers import Arrival, Handovers, OpenOffer, Position
from registry.national import NationalFold
from registry.taken_up import in_balance
from registry.transfer_store import TransferStore

if TYPE_CHECKING:
    from sqlalchemy import Connection

_PAGE: Final = 1_000


class CustodyCheck:
    """Gathers custody out of every city's log, and compares.

    Args:
        conn: Transaction in which everything is read.
        store: Tables of hand-overs.
        found: Called with each finding.
    """

    def __init__(self, conn: Connection, store: TransferStore, *, found: Callable[[Finding], None]) -> None:
        self._conn = conn
        self._store = store
        self._found = found
        self._arrivals: set[Arrival] = set()
        self._offers: set[OpenOffer] = set()
        self._halves: set[tuple[Position, bool]] = set()

    def take(self, fold: NationalFold) -> set[bytes]:
        """Take what a whole city's log came to, and return the licences that have moved away from it."""
        away = {row.license_id for row in fold.change.rows.values() if fold.custody.is_away(row.license_id)}
        self._arrivals.update(fold.change.arrivals)
        self._halves |= fold.custody.halves()
        self._offers.update(
            offer for license_id, offer in fold.change.offers.items() if offer is not None and license_id not in away
        )
        return away

    def rekey(self, root: Callable[[bytes], bytes]) -> None:
        """Put everything under the tags that persons are known by."""
        self._arrivals = {replace(each, person_key=root(each.person_key)) for each in self._arrivals}
        self._offers = {replace(each, person_key=root(each.person_key)) for each in self._offers}

    def in_balance(self) -> set[tuple[bytes, bytes, int]]:
        """Return the licences over which a take-over is in the balance: (person, licence, city in custody)."""
        return in_balance(self._arrivals, self._offers)

    def compare(self, handovers: Handovers) -> None:
        """Compare once every log has been read."""
        for handover in handovers.departures.values():
            source = handover.source or handover.arrival
            for where, came in ((handover.arrival, True), (source, False)):
                if (where, came) not in self._halves:
                    self._say(where, "the registry's log moves custody by a record that the city's log does not hold")
        waiting = self._waiting()
        for arrival in waiting ^ self._arrivals:
            where = (arrival.city, arrival.epoch, arrival.idx)
            self._say(where, "the take-over waits in the table or in the logs, not in both")
        stored = set(self._store.all_offers(self._conn))
        for offer in stored ^ self._offers:
            self._found(
                Finding(f"license {UUID(bytes=offer.license_id)}", "what is offered of it differs from the logs")
            )

    def _waiting(self) -> set[Arrival]:
        waiting: set[Arrival] = set()
        after: Arrival | None = None
        while page := self._store.arrivals(self._conn, limit=_PAGE, after=after):
            waiting.update(page)
            after = page[-1]
        return waiting

    def _say(self, where: Position, what: str) -> None:
        city, epoch, index = where
        self._found(Finding(position(LogKey(city, epoch), index), what))
