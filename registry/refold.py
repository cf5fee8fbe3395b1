"""Fold some licences again, from all that the logs hold of them.

A licence's latest record gives its row; its first record says where whatever
lets it count must have been decided; and it is in the custody of the city that
took it over last, by the decisions of the registry's log.  What a licence comes
to depends on no other licence, so some can be folded without the rest.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from elicense.log.model import LogKey
from elicense.view.model import Revision, ViewRow
from elicense.view.person import PersonIndex
from registry.bans import PersonBan
from registry.decided import LicenseKey
from registry.links import AskedLink
from registry.model import Pending
from registry.national import NationalFold
from registry.received import receive
from registry.store import RegistryStore
from registry.transfer_model import Arrival, Handovers, OpenOffer, Position

if TYPE_CHECKING:
    from sqlalchemy import Connection


@dataclass(slots=True)
class Folded:
    """What licences come to.

    Attributes:
        rows: Their rows, by person and licence; flags are those of the records alone.
        firsts: Their first records.
        restored: Where a revocation was taken back.
        revisions: Their entries of the revision index, without when they arrived.
        bans: Bars that they bring.
        links: Links that their records ask for.
        arrivals: Take-overs that nothing has decided.
        offers: Open offers.
        halves: Positions at which custody came (True) or went.
        tags: Every later tag of these persons, and the one that each is known by.
    """

    rows: dict[LicenseKey, ViewRow] = field(default_factory=dict)
    firsts: dict[LicenseKey, Pending] = field(default_factory=dict)
    restored: set[Position] = field(default_factory=set)
    revisions: set[Revision] = field(default_factory=set)
    bans: dict[LicenseKey, PersonBan] = field(default_factory=dict)
    links: list[AskedLink] = field(default_factory=list)
    arrivals: set[Arrival] = field(default_factory=set)
    offers: set[OpenOffer] = field(default_factory=set)
    halves: set[tuple[Position, bool]] = field(default_factory=set)
    tags: dict[bytes, bytes] = field(default_factory=dict)

    def tags_of(self, person_key: bytes) -> set[bytes]:
        """Return every tag of whoever is known by ``person_key``."""
        return {person_key, *(tag for tag, first in self.tags.items() if first == person_key)}


def refold(
    conn: Connection,
    store: RegistryStore,
    places: Iterable[tuple[LogKey, int]],
    *,
    persons: PersonIndex,
    handovers: Handovers,
) -> Folded:
    """Fold the licences whose records lie at ``places``, every one of them, as the logs are in this transaction."""
    entries = store.logs.entries_anywhere(conn, places)
    by_city: defaultdict[int, list[tuple[LogKey, int]]] = defaultdict(list)
    for key, index in sorted(entries):
        by_city[key.log].append((key, index))
    folded = Folded()
    for city, held in sorted(by_city.items()):
        # Without claims every first record waits; whether it counts is told by the registry's log.
        fold = NationalFold(rows={}, claims={}, received_us=0, handovers=handovers)
        for key, index in held:
            entry = entries[key, index]
            if entry.record is not None:
                record = (index, entry.record, entry.leaf_hash)
                for received in receive([record], city=city, epoch=key.epoch, persons=persons).one_by_one():
                    fold.apply(received)
        _take(folded, fold)
    _unite(conn, store, folded)
    return folded


def _take(folded: Folded, fold: NationalFold) -> None:
    """Add what one city's records came to."""
    change = fold.change
    restored = set(change.restored)
    folded.restored.update((each.city, each.epoch, each.idx) for each in restored)
    # Without claims a licence that was taken over and restored since seems to wait as well.
    folded.firsts.update({(each.person_key, each.license_id): each for each in change.pending if each not in restored})
    folded.revisions.update(change.revisions)
    folded.links += change.links
    folded.arrivals.update(change.arrivals)
    folded.halves |= fold.custody.halves()
    for row in change.rows.values():
        if not fold.custody.is_away(row.license_id, row.city):
            folded.rows[row.person_key, row.license_id] = row
    folded.offers.update(
        offer
        for license_id, offer in change.offers.items()
        if offer is not None and not fold.custody.is_away(license_id, offer.from_city)
    )
    folded.bans.update({place: ban for place, ban in change.bans.items() if ban is not None})


def _unite(conn: Connection, store: RegistryStore, folded: Folded) -> None:
    """Put everything under the tags that persons are known by; the links themselves are checked elsewhere."""
    held = {person for person, _ in folded.rows} | {person for person, _ in folded.bans}
    held |= {person for person, _ in folded.firsts}
    held |= {each.person_key for each in folded.revisions}
    held |= {each.person_key for each in folded.arrivals} | {each.person_key for each in folded.offers}
    links = store.view.links.of(conn, held)
    roots = {links.get(person, person) for person in held}
    folded.tags = store.view.links.leading_to(conn, roots)

    def root(person: bytes) -> bytes:
        return links.get(person, person)

    if not links:
        return
    folded.rows = {(root(p), of): replace(row, person_key=root(p)) for (p, of), row in folded.rows.items()}
    folded.firsts = {(root(p), of): first for (p, of), first in folded.firsts.items()}
    folded.bans = {(root(p), of): replace(ban, person_key=root(p)) for (p, of), ban in folded.bans.items()}
    folded.revisions = {replace(each, person_key=root(each.person_key)) for each in folded.revisions}
    folded.arrivals = {replace(each, person_key=root(each.person_key)) for each in folded.arrivals}
    folded.offers = {replace(each, person_key=root(each.person_key)) for each in folded.offers}


def places_of(rows: Sequence[tuple[int | str | bytes, ...]]) -> list[tuple[LogKey, int]]:
    """Return positions out of rows of (licence, city, epoch, index)."""
    return [(LogKey(int(city), int(epoch)), int(index)) for _, city, epoch, index in rows]
