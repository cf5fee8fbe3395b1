"""Records of an erased licence that never had effect: refused take-overs, and what a city wrote too late.

They stand in no revision index, but the registry has said of each that it has no
effect, and that word names its place.  Once a licence is erased, the first word
to the city that erased it says so for good; whatever is heard of it afterwards is
taken out at once, and its city is told to erase it in its own log.

A licence id is each city's own choice.  So what a city wrote upon a licence that
another city has stays until that one erases it, whatever it says of a licence of its
own with the same id: it may prove that the city broke custody.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Final

from elicense.errors import Malformed
from elicense.log.erased_store import Erased
from elicense.log.model import LogKey, StoredEntry
from elicense.v1 import license_pb2, replication_pb2
from elicense.view.fold import person_key_of, read_record
from elicense.view.model import ViewRow
from elicense.view.person import PersonIndex
from registry.custody_proof import written_upon
from registry.store import RegistryStore

if TYPE_CHECKING:
    from sqlalchemy import Connection

_ERASED: Final = replication_pb2.DISPOSITION_KIND_ERASED
WITHOUT_EFFECT: Final = (
    replication_pb2.DISPOSITION_KIND_NOT_IN_CUSTODY,
    replication_pb2.DISPOSITION_KIND_UNREADABLE,
    replication_pb2.DISPOSITION_KIND_TRANSFER_REFUSED,
)
"""Words about a record that is kept without effect."""
_TAKEN_OVER: Final = license_pb2.LICENSE_EVENT_TRANSFERRED_IN
_ORDER: Final = "Another city, which had custody, has erased the license; this city erases what it has of it."


def tell(
    conn: Connection, store: RegistryStore, license_id: bytes, places: Iterable[tuple[LogKey, int]], *, by_city: int
) -> None:
    """Tell cities to erase what they have of a licence, by one word for each of these records."""
    words: dict[LogKey, list[tuple[int, int, bytes, str]]] = defaultdict(list)
    for key, index in sorted(places):
        words[key].append((index, int(_ERASED), license_id, _ORDER))
    # In the order of cities, so that two writers seldom deadlock over their feeds.
    for key in sorted(words):
        store.feeds.add(conn, key.log, key.epoch, words[key], other_city=by_city)


def sweep(
    conn: Connection,
    store: RegistryStore,
    persons: PersonIndex,
    license_id: bytes,
    *,
    by_city: int,
    of_city: int | None = None,
    among: Collection[tuple[LogKey, int]] | None = None,
) -> list[Erased]:
    """Take out what was written of an erased licence without effect, and tell the cities that wrote it.

    A licence id is each city's own choice: what is about a person who has a licence with that id stays.

    Args:
        conn: The transaction.
        store: The registry's tables.
        persons: Computes person tags.
        license_id: The licence.
        by_city: City that erased it.
        of_city: Only what this city wrote; any with None.
        among: Only these records, where nothing older can be left; any with None.

    Returns:
        The slots that were emptied.
    """
    places = list(among or ())
    if among is None:
        places = [
            (LogKey(word.city, word.epoch), word.idx)
            for word in store.feeds.of_license(conn, license_id, WITHOUT_EFFECT)
            if of_city in (None, word.city)
        ]
    if not places:
        return []
    standing = store.view.of_license(conn, license_id)
    waiting = {(LogKey(each.city, each.epoch), each.idx) for each in store.transfers.arrivals_of(conn, [license_id])}
    found = [
        place
        for place, entry in store.logs.entries_anywhere(conn, places).items()
        if place not in waiting and _may_go(conn, store, persons, place[0], entry, license_id, standing)
    ]
    erased = store.logs.erased.erase(conn, found)
    tell(conn, store, license_id, found, by_city=by_city)
    return erased


def sweep_erased(
    conn: Connection, store: RegistryStore, persons: PersonIndex, heard: Mapping[bytes, Collection[tuple[LogKey, int]]]
) -> list[Erased]:
    """Sweep what has just been heard of licences without effect, of those that were erased before.

    Nothing older is looked at: it was swept when it was heard, and a city could write without end.

    Args:
        conn: The transaction.
        store: The registry's tables.
        persons: Computes person tags.
        heard: Where it lies, by licence.

    Returns:
        The slots that were emptied.
    """
    erased: list[Erased] = []
    for license_id in sorted(heard.keys() - {b""}):
        by_city = store.feeds.told_once(conn, license_id, _ERASED)
        if by_city is not None:
            erased += sweep(conn, store, persons, license_id, by_city=by_city, among=heard[license_id])
    return erased


def _may_go(
    conn: Connection,
    store: RegistryStore,
    persons: PersonIndex,
    key: LogKey,
    entry: StoredEntry,
    license_id: bytes,
    standing: Sequence[ViewRow],
) -> bool:
    """Whether a record is of the licence, of nobody who has one with its id, and not upon one that another city has."""
    if entry.record is None:
        return False
    try:
        message = read_record(entry.record)
    except Malformed:
        return False  # an ERASED entry, which holds nothing of a person
    person = store.view.links.root(conn, person_key_of(message, persons))
    if message.license_id != license_id or any(row.person_key == person for row in standing):
        return False
    elsewhere = any(row.city != key.log for row in standing)
    return not elsewhere or message.event == _TAKEN_OVER or written_upon(conn, store, key, message) is None
