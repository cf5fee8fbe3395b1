"""What a city wrote upon a take-over before the registry has decided it.

A city changes nothing of a licence that it takes over before it has the registry's
word.  Where it has gone on all the same the word was lost here: the database was
set back, and the cities send again what they had written upon it.  So a decision
takes in what follows the take-over in the same log, or says that it has no effect.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from elicense.log.model import LogKey, StoredEntry
from elicense.log.request_queue import BYTES_PER_COMMIT
from elicense.v1 import license_pb2
from elicense.view.person import PersonIndex
from registry.received import ReceivedRecord, receive
from registry.store import RegistryStore
from registry.transfer_model import Arrival

if TYPE_CHECKING:
    from sqlalchemy import Connection

_PAGE: Final = 1_000


@dataclass(frozen=True, slots=True)
class FollowUp:
    """A record of the new city that rests on its take-over.

    Attributes:
        epoch: Epoch of its log.
        received: The record.
        record: Its bytes.
    """

    epoch: int
    received: ReceivedRecord
    record: bytes


def follow_ups(
    conn: Connection, store: RegistryStore, arrival: Arrival, *, epoch: int, persons: PersonIndex
) -> list[FollowUp]:
    """Return what rests on a take-over in the same city's log, in order, up to the next take-over.

    Args:
        conn: A transaction.
        store: The registry's tables.
        arrival: The take-over.
        epoch: The city's open epoch.
        persons: Computes person tags.
    """
    found: list[FollowUp] = []
    latest = arrival.entry_hash
    for key, entry in _behind(conn, store, arrival, epoch):
        # Whoever parsed everything would take long over a busy city's log.
        if entry.record is None or arrival.license_id not in entry.record:
            continue
        record = [(entry.index, entry.record, entry.leaf_hash)]
        for received in receive(record, city=key.log, epoch=key.epoch, persons=persons).one_by_one():
            if received.row is None or received.row.license_id != arrival.license_id:
                continue
            if received.row.event == license_pb2.LICENSE_EVENT_TRANSFERRED_IN:
                return found
            if received.previous_entry_hash == latest:
                latest = received.leaf_hash
                found.append(FollowUp(key.epoch, received.of_person(arrival.person_key), entry.record))
    return found


def _behind(
    conn: Connection, store: RegistryStore, arrival: Arrival, last: int
) -> Iterator[tuple[LogKey, StoredEntry]]:
    """Return every entry of the city that follows a take-over."""
    start = arrival.idx + 1
    for epoch in range(arrival.epoch, last + 1):
        key = LogKey(arrival.city, epoch)
        while page := store.logs.entries(conn, key, start, _PAGE, max_bytes=BYTES_PER_COMMIT):
            yield from ((key, entry) for entry in page)
            start = page[-1].index + 1
        start = 0
