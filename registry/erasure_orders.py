"""Which erasures a city may cite as ordered by another, and which wait for the order that they cite.

A city that obeys has not cancelled the licence itself.  That it may be erased rests on
the other city's own ERASED entry alone, so that entry must be held: else a city could
empty a licence of its own that is in force by naming a city that knows nothing of it.
Where that entry comes later (a registry that was set back is sent the logs in whatever
order) what cites it is judged again.  Each ERASED entry that arrived is named by a word
in its city's feed, or waits in the table of what is postponed, so none is searched for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from elicense.log.model import LogKey
from elicense.v1 import license_pb2, replication_pb2
from elicense.view.erasure import read_erasure
from registry.store import RegistryStore

if TYPE_CHECKING:
    from sqlalchemy import Connection

    ErasedEntry = tuple[LogKey, int, license_pb2.LicenseRecord]
    """Log, index and record of an ERASED entry."""

_NOT_IN_CUSTODY: Final = replication_pb2.DISPOSITION_KIND_NOT_IN_CUSTODY
_UNREADABLE: Final = replication_pb2.DISPOSITION_KIND_UNREADABLE
_ERASED: Final = replication_pb2.DISPOSITION_KIND_ERASED


def is_ordered(conn: Connection, store: RegistryStore, erasure: license_pb2.LicenseRecord) -> bool:
    """Whether the city that an ERASED entry obeys has erased the licence by an order of its own that is held."""
    city, license_id = erasure.erases.ordered_by_city, erasure.license_id
    if not city or city == erasure.city:
        return False
    known = _named(conn, store, city, license_id, (_ERASED, _NOT_IN_CUSTODY))
    return any(not message.erases.ordered_by_city for _, _, message in known)


def refused_before(conn: Connection, store: RegistryStore, city: int, license_id: bytes) -> list[ErasedEntry]:
    """Return the ERASED entries of a city that arrived before it had custody of the licence, or before there was any.

    Only a registry that was set back gets them in this order: the city's log comes again at once, and the
    hand-over is given back.
    """
    return _named(conn, store, city, license_id, (_ERASED, _NOT_IN_CUSTODY))


def waiting_for(
    conn: Connection, store: RegistryStore, city: int, license_id: bytes, *, obeying: int
) -> list[ErasedEntry]:
    """Return the ERASED entries of another city, which has the licence, that obey an order and arrived before it."""
    known = _named(conn, store, obeying, license_id, (_UNREADABLE,))
    return [each for each in known if each[2].erases.ordered_by_city == city]


def has_erased(conn: Connection, store: RegistryStore, city: int, license_id: bytes) -> bool:
    """Whether an ERASED entry of a city about a licence is held: whatever else it wrote of it comes as empty slots."""
    return bool(_named(conn, store, city, license_id, (_ERASED, _NOT_IN_CUSTODY, _UNREADABLE)))


def _named(
    conn: Connection, store: RegistryStore, city: int, license_id: bytes, kinds: tuple[int, ...]
) -> list[ErasedEntry]:
    places = [
        (LogKey(word.city, word.epoch), word.idx)
        for word in store.feeds.of_license(conn, license_id, kinds, city=city)
        # An order to a city names the one that gave it; here it is told of an entry of its own.
        if not word.other_city
    ]
    places += [
        (LogKey(each.city, each.epoch), each.idx)
        for each in store.postponed.of_license(conn, [license_id])
        if each.city == city
    ]
    found = sorted(store.logs.entries_anywhere(conn, places).items(), key=lambda item: item[0])
    return [
        (key, index, message)
        for (key, index), entry in found
        if (message := read_erasure(entry.record)) is not None and message.license_id == license_id
    ]
