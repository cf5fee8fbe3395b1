"""Marking licences over which a take-over is in the balance, so that nobody is told that they are valid meanwhile.

The city that a licence is offered to has written that it takes it over.  Until the
registry has decided that, nobody can say whose records count: a registry that was
set back has lost its word, and the new city may have suspended the licence since.
A take-over of what is not offered to its city marks nothing: it comes to nothing,
and no city may make another's licence uncertain.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

from elicense.license.verdict import ViewFlags
from registry.store import RegistryStore
from registry.transfer_model import Arrival, OpenOffer

if TYPE_CHECKING:
    from sqlalchemy import Connection

_TAKEN_UP: Final = int(ViewFlags.TAKEN_UP)


def in_balance(arrivals: Iterable[Arrival], offers: Iterable[OpenOffer]) -> set[tuple[bytes, bytes, int]]:
    """Return the licences that the city they are offered to takes over: (person, licence, city in custody)."""
    waiting = {(arrival.person_key, arrival.license_id, arrival.city) for arrival in arrivals}
    return {
        (offer.person_key, offer.license_id, offer.from_city)
        for offer in offers
        if (offer.person_key, offer.license_id, offer.to_city) in waiting
    }


def mark_taken_up(conn: Connection, store: RegistryStore, license_ids: Iterable[bytes]) -> None:
    """Give and take the mark as the tables of hand-overs say, in the transaction that changed them."""
    wanted = sorted(set(license_ids))
    if not wanted:
        return
    # Locked, so that whoever decides one just now comes first, or takes the mark away again.
    marked = in_balance(store.transfers.arrivals_of(conn, wanted, lock=True), store.transfers.offers_of(conn, wanted))
    flags = []
    for license_id in wanted:
        for row in store.view.of_license(conn, license_id):
            taken_up = _TAKEN_UP if (row.person_key, row.license_id, row.city) in marked else 0
            if row.flags & _TAKEN_UP != taken_up:
                flags.append((row.person_key, row.license_id, row.flags & ~_TAKEN_UP | taken_up))
    store.view.set_flags(conn, flags)
