"""What a batch says by itself: leaf hashes and records, read before the database's turn.

Reading takes as long as storing, and Python does one thing at a time in a process.
So large batches are read in another one (:mod:`registry.readers`).  What crosses
between the two is numbers and bytes in plain tuples, which cost next to nothing to
take apart; whatever does not fit into those, few records at most, is read again here.
"""

from __future__ import annotations

import marshal
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, Final, cast

from elicense.log.tree import HASH_SIZE
from elicense.view.model import ViewRow
from elicense.view.person import PersonIndex
from registry.batch import Batch, SentEntry, leaves_of
from registry.received import PlainFirst, Received, ReceivedRecord, receive

#: Without references to what came before: finding them takes longer than writing twice.
_FORMAT: Final = 2

_ROW: Final = tuple(field.name for field in fields(ViewRow))


@dataclass(frozen=True, slots=True)
class Reading:
    """A batch as far as it can be read without the database.

    Attributes:
        leaves: Leaf hash of each entry.
        received: Its records, but for erased ones.
    """

    leaves: Sequence[bytes]
    received: Received


def read_entries(
    entries: Sequence[SentEntry], *, first_index: int, city: int, epoch: int, persons: PersonIndex
) -> Reading:
    """Hash and parse the entries of a batch.

    Raises:
        Malformed: A salt or a leaf hash has another size than it must.
    """
    leaves = leaves_of(entries)
    records = [
        (index, sent.record, leaf)
        for index, (sent, leaf) in enumerate(zip(entries, leaves, strict=True), first_index)
        if not sent.erased
    ]
    return Reading(leaves, receive(records, city=city, epoch=epoch, persons=persons))


def read_here(batch: Batch, persons: PersonIndex) -> Reading:
    """Read a batch in this process.

    Raises:
        Malformed: As :func:`read_entries`.
    """
    return read_entries(
        batch.entries, first_index=batch.first_index, city=batch.city, epoch=batch.epoch, persons=persons
    )


def question_of(batch: Batch) -> bytes:
    """Return what another process needs to know of a batch."""
    entries = [(record, salt, hashed) for record, salt, hashed in batch.entries]
    return marshal.dumps((batch.city, batch.epoch, batch.first_index, entries), _FORMAT)


def answer_to(question: bytes, persons: PersonIndex) -> bytes:
    """Return what a batch says, in a form for :func:`reading_from`.

    Args:
        question: From :func:`question_of`.
        persons: Computes person and name tags.

    Raises:
        Malformed: As :func:`read_entries`.
    """
    city, epoch, first_index, sent = marshal.loads(question)  # noqa: S302  # from this program's own process
    entries = [SentEntry(*entry) for entry in sent]
    reading = read_entries(entries, first_index=first_index, city=city, epoch=epoch, persons=persons)
    plain = list(reading.received.plain)
    others = [_plain_values(record) for record in reading.received.others]
    return marshal.dumps((b"".join(reading.leaves), plain, others), _FORMAT)


def reading_from(answer: bytes, batch: Batch, persons: PersonIndex) -> Reading:
    """Return what a batch says, as another process has read it.

    Args:
        answer: From :func:`answer_to`.
        batch: The batch that it was asked about.
        persons: Computes person and name tags.
    """
    joined, plain, others = cast(
        "tuple[bytes, list[PlainFirst], list[tuple[Any, ...]]]",
        marshal.loads(answer),  # noqa: S302  # from this program's own process
    )
    leaves = [joined[start : start + HASH_SIZE] for start in range(0, len(joined), HASH_SIZE)]
    return Reading(leaves, Received(plain, [_from_values(values, batch, persons) for values in others]))


def _plain_values(record: ReceivedRecord) -> tuple[Any, ...]:
    """Return a record as numbers and bytes; by its index and leaf hash alone when that does not do."""
    if record.row is None or record.links:
        return record.idx, record.leaf_hash
    row = tuple([getattr(record.row, name) for name in _ROW])
    return (*record[:2], row, *record[3:7])


def _from_values(values: tuple[Any, ...], batch: Batch, persons: PersonIndex) -> ReceivedRecord:
    if len(values) > 2:  # index and leaf hash
        idx, leaf_hash, row, *rest = values
        return ReceivedRecord(idx, leaf_hash, ViewRow(*row), *rest)
    idx, leaf_hash = values
    record = batch.entries[idx - batch.first_index].record
    return receive([(idx, record, leaf_hash)], city=batch.city, epoch=batch.epoch, persons=persons).one_by_one()[0]
