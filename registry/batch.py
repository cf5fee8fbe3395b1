"""A city's call and its answer, as values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from elicense.errors import Malformed
from elicense.log.entry import leaf_hash, leaf_hashes
from elicense.log.tree import HASH_SIZE
from registry.model import NotedDisposition


class SentEntry(NamedTuple):
    """An entry as a city sent it; a tuple, because thousands come at once.

    Attributes:
        record: Record bytes; empty in an erased slot.
        salt: 32 bytes; empty in an erased slot.
        hashed: Leaf hash of an erased slot, 32 bytes; of any other it is computed.
    """

    record: bytes
    salt: bytes
    hashed: bytes = b""

    @property
    def erased(self) -> bool:
        """Whether record and salt are gone for good and only the leaf hash is left."""
        return bool(self.hashed) and not self.salt and not self.record

    def leaf_hash(self) -> bytes:
        """Return the leaf hash: recomputed, or that of the erased slot.

        Raises:
            Malformed: Salt or leaf hash has another size than it must.
        """
        if not self.erased:
            return leaf_hash(self.salt, self.record)
        if len(self.hashed) != HASH_SIZE:
            raise Malformed(f"the leaf hash of an erased slot must be {HASH_SIZE} bytes")
        return self.hashed


def leaves_of(entries: Sequence[SentEntry]) -> list[bytes]:
    """Return the leaf hash of each entry.

    Raises:
        Malformed: As :meth:`SentEntry.leaf_hash`.
    """
    if any(entry.hashed for entry in entries):
        return [entry.leaf_hash() for entry in entries]
    return leaf_hashes((salt, record) for record, salt, _ in entries)


@dataclass(frozen=True, slots=True)
class HeldBefore:
    """What a city shows of what the registry held before.

    Attributes:
        receipt: The registry's receipt.
        hashes: Consistency proof between its head and that of the batch, from the smaller to the greater.
    """

    receipt: bytes
    hashes: Sequence[bytes]


@dataclass(frozen=True, slots=True)
class Batch:
    """A call of a city, as values.

    Attributes:
        city: Division code from the client certificate.
        epoch: Epoch of the log.
        first_index: Index of the first entry.
        entries: Entries in log order; empty for a heartbeat.
        checkpoint: Signed note after the last entry.
        tip_size: Size of the city's log.
        city_us: Up to when those ``tip_size`` entries are complete, by the city's clock.
        left_us: What the registry's clock showed when the call was made, or less; None if the city could not tell.
        dispositions_after: Last number of the feed that the city has.
        told: Notes in which it signs what it knows.
        held_before: Shows what the registry has held; None for a city that has nothing to show.
    """

    city: int
    epoch: int
    first_index: int
    entries: Sequence[SentEntry]
    checkpoint: bytes
    tip_size: int
    city_us: int
    left_us: int | None
    dispositions_after: int
    told: Sequence[bytes] = ()
    held_before: HeldBefore | None = None

    def said_us(self, now_us: int) -> int:
        """Return when the city said all this, by the registry's clock: never later than it did.

        What the city recorded while the call was under way is not in it.  Its own
        clock can not tell, if that is fast.
        """
        return now_us if self.left_us is None else min(now_us, self.left_us)


@dataclass(frozen=True, slots=True)
class Taken:
    """The answer to a batch.

    Attributes:
        next_index: Index expected next.
        receipt: Cosigned checkpoint of what is held; empty while nothing is.
        dispositions: What follows in the city's feed.
        now_us: The registry's clock.
        undecided: True when licences now wait for a decision.
        explained: Size of the head that the batch explained, of a quarantined city; else 0.
        as_of_us: Up to when the city's records are complete now; 0 when that is not known.
        unsigned: Numbers of the feed of which the city has to sign that it knows them.
        lacking: True while the registry may lack decisions that it made.
        seconds: How long the transaction took, without the wait for its turn.
    """

    next_index: int
    receipt: bytes
    dispositions: Sequence[NotedDisposition]
    now_us: int
    undecided: bool
    explained: int = 0
    as_of_us: int = 0
    unsigned: Sequence[int] = ()
    lacking: bool = False
    seconds: float = 0.0
