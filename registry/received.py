"""What a city's records say by themselves, worked out before any is folded: pure rules, no I/O.

Batches are read side by side and folded one after the other, so whatever needs no
look at the view is done here.  Most of what a registry ever takes in is a licence's
first revision that asks for nothing but its person.  Those are told apart: they
are plain tuples, in the order in which they will be stored, and no object is made
for one unless its person turns out not to be free.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final, NamedTuple

from elicense.clock import from_timestamp
from elicense.errors import Malformed
from elicense.v1 import license_pb2
from elicense.view.erasure import read_erasure
from elicense.view.fold import flags_of, person_key_of, read_with_standing, row_values
from elicense.view.model import RowValues, ViewRow
from elicense.view.opening import read_opening
from elicense.view.person import PersonIndex
from registry.links import AskedLink, asked_by

_ISSUED: Final = int(license_pb2.LICENSE_EVENT_ISSUED)
FIRST_EVENTS: Final = frozenset({_ISSUED})
"""Events of a licence's first revision."""

PlainFirst = tuple[RowValues, int]
"""A first revision that asks for nothing but its person: its row, and from when it counts."""


class ReceivedRecord(NamedTuple):
    """One record of a batch, as far as it could be read; a tuple, because thousands come at once.

    Attributes:
        idx: Index in the city's log.
        leaf_hash: Leaf hash, recomputed.
        row: The licence's row as this record alone would make it; None when it can not be read.
        effective_us: From when the record counts.
        previous_entry_hash: Leaf hash of the revision before it, as it says.
        provisional: Whether it was issued without a grant.
        offered_to: City that the licence is offered to; 0 for none.
        links: Links between documents that it asks for.
        erasure: The record, when it erases a licence; there is no ``row`` then.
    """

    idx: int
    leaf_hash: bytes
    row: ViewRow | None = None
    effective_us: int = 0
    previous_entry_hash: bytes = b""
    provisional: bool = False
    offered_to: int = 0
    links: Sequence[AskedLink] = ()
    erasure: license_pb2.LicenseRecord | None = None

    @property
    def person_key(self) -> bytes:
        """Tag of the person; empty when the record can not be read."""
        return b"" if self.row is None else self.row.person_key

    def of_person(self, person_key: bytes) -> ReceivedRecord:
        """Return the record under the tag that its person is known by."""
        return self._replace(row=self.row and replace(self.row, person_key=person_key))


@dataclass(frozen=True, slots=True)
class Received:
    """The records of a batch, but for the openings of epochs, which are about no licence.

    Attributes:
        plain: First revisions that ask for nothing but their person, in the order of persons; nothing
            else in the batch is about one of these persons.
        others: All else, in the order of the log.
    """

    plain: Sequence[PlainFirst]
    others: Sequence[ReceivedRecord]

    def persons(self) -> list[bytes]:
        """Return the tag of whoever each is about, as it names them."""
        return [row[0] for row, _ in self.plain] + [record.person_key for record in self.others]

    def behind(self, index: int) -> Received:
        """Return the records from an index on."""
        return Received(
            [first for first in self.plain if first[0][4] >= index],
            [record for record in self.others if record.idx >= index],
        )

    def recorded_us(self) -> int | None:
        """Return when the latest of them was recorded; None where no record could be read."""
        recorded = [row[11] for row, _ in self.plain]
        recorded += [record.row.recorded_us for record in self.others if record.row is not None]
        return max(recorded, default=None)

    def one_by_one(self) -> list[ReceivedRecord]:
        """Return every record by itself, in the order of the log."""
        return sorted([*map(as_received, self.plain), *self.others], key=lambda record: record.idx)


def as_received(first: PlainFirst) -> ReceivedRecord:
    """Return a plain first revision as any other record."""
    row = ViewRow(*first[0])
    return ReceivedRecord(row.idx, row.entry_hash, row, first[1])


def receive(records: Iterable[tuple[int, bytes, bytes]], *, city: int, epoch: int, persons: PersonIndex) -> Received:
    """Read a batch of (index, record, leaf hash).

    A record of another log counts as unreadable; the opening of an epoch is left out.
    """
    plain: list[PlainFirst] = []
    others: list[ReceivedRecord] = []
    for index, record, leaf_hash in records:
        try:
            message, standing = read_with_standing(record)
        except Malformed:
            erasure = read_erasure(record)
            if erasure is not None and (erasure.city, erasure.epoch) == (city, epoch):
                others.append(ReceivedRecord(index, leaf_hash, erasure=erasure))
            elif read_opening(record) is None:
                others.append(ReceivedRecord(index, leaf_hash))
            continue
        if message.city != city or message.epoch != epoch:
            others.append(ReceivedRecord(index, leaf_hash))
            continue
        flags = flags_of(message)
        row = row_values(message, standing, index, leaf_hash, flags, persons, person_key_of(message, persons))
        effective_us = from_timestamp(message.effective_time)
        if not flags and message.event == _ISSUED and message.revision == 1 and _asks_nothing(message):
            plain.append((row, effective_us))
        else:
            others.append(_received(message, ViewRow(*row), effective_us, persons))
    return _apart(plain, others)


def _asks_nothing(message: license_pb2.LicenseRecord) -> bool:
    return not message.provisional and not message.earlier_documents and not message.previous_entry_hash


def _received(
    message: license_pb2.LicenseRecord, row: ViewRow, effective_us: int, persons: PersonIndex
) -> ReceivedRecord:
    return ReceivedRecord(
        row.idx,
        row.entry_hash,
        row,
        effective_us,
        message.previous_entry_hash,
        message.provisional,
        message.license.offered_to_city,
        asked_by(message, persons, index=row.idx) or (),
    )


def _apart(plain: list[PlainFirst], others: list[ReceivedRecord]) -> Received:
    """Leave only those plain whom nothing else in the batch can concern."""
    # A link may lead from any document to any other.
    linked = any(record.links for record in others)
    persons = Counter([row[0] for row, _ in plain])
    if others or len(persons) < len(plain):
        persons.update([record.person_key for record in others])
        others += [as_received(first) for first in plain if linked or persons[first[0][0]] > 1]
        others.sort(key=lambda record: record.idx)
        plain = [] if linked else [first for first in plain if persons[first[0][0]] == 1]
    plain.sort()
    return Received(plain, others)
