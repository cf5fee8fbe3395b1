"""A city's call and its answer, as values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from registry.model import NotedDisposition


@dataclass(frozen=True, slots=True)
class SentEntry:
    """An entry as a city sent it.

    Attributes:
        record: Record bytes.
        salt: 32 bytes.
    """

    record: bytes
    salt: bytes


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
        city_us: Up to when those ``tip_size`` entries are complete.
        dispositions_after: Last number of the feed that the city has.
    """

    city: int
    epoch: int
    first_index: int
    entries: Sequence[SentEntry]
    checkpoint: bytes
    tip_size: int
    city_us: int
    dispositions_after: int


@dataclass(frozen=True, slots=True)
class Taken:
    """The answer to a batch.

    Attributes:
        next_index: Index expected next.
        receipt: Cosigned checkpoint of what is held; empty while nothing is.
        dispositions: What follows in the city's feed.
        now_us: The registry's clock.
        undecided: True when licences now wait for a decision.
    """

    next_index: int
    receipt: bytes
    dispositions: Sequence[NotedDisposition]
    now_us: int
    undecided: bool
