"""Values of the registry's tables."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import IntEnum
from typing import Final

from elicense.sql.row import Row

#: A city may be this far behind or ahead of the registry (see ``ingest.MAX_CLOCK_SKEW_US``).
LAPSE_MARGIN_US: Final = 10 * 60 * 1_000_000


@dataclass(frozen=True, slots=True)
class City(Row):
    """One epoch of an enrolled city.

    Attributes:
        city: Division code.
        epoch: Log epoch, from 1; the highest is open.
        log_key: Verification key of that epoch's log, in C2SP vkey form.
        enrolled_us: When it was enrolled.
    """

    city: int
    epoch: int
    log_key: str
    enrolled_us: int


@dataclass(frozen=True, slots=True)
class CityState(Row):
    """What the registry holds of a city, and how fresh it is.

    Attributes:
        city: Division code.
        epoch: Open epoch.
        next_index: Entries held.
        tip_size: Entries that the city said it has.
        city_clock_us: The city's clock when it said so.
        received_us: The registry's clock then, or less.
        as_of_us: Up to when the city's records are known to be complete; 0 when that was never known.
        awaited_size: Tip with which more will be known.
        awaited_us: Up to when everything is known as soon as that tip is held.
    """

    city: int
    epoch: int
    next_index: int
    tip_size: int
    city_clock_us: int
    received_us: int
    as_of_us: int
    awaited_size: int
    awaited_us: int


def state_heard(
    before: CityState | None,
    *,
    city: int,
    epoch: int,
    next_index: int,
    tip_size: int,
    city_clock_us: int,
    received_us: int,
) -> CityState:
    """Return the state of a city that says how long its log is, and how fresh that makes it.

    What a city states at a moment is complete up to that moment, by the earlier of both clocks, once all of it is
    held.  Of a city that is ahead, one such statement is awaited at a time: it moves on however long the city stays
    ahead, and never by what a record says of its own time, which is the city's clock alone.

    Args:
        before: The state until now; None when the city was never heard.
        city: Division code.
        epoch: Open epoch.
        next_index: Entries held now.
        tip_size: Entries that the city says it has.
        city_clock_us: The city's clock when it said so.
        received_us: The registry's clock then, or less.
    """
    said_us = min(city_clock_us, received_us)
    as_of_us, awaited = 0, (tip_size, said_us)
    if before is not None:
        as_of_us = before.as_of_us
        if before.epoch == epoch and before.awaited_size > next_index:
            awaited = before.awaited_size, before.awaited_us
        elif before.epoch == epoch:
            as_of_us = before.awaited_us
    if next_index >= tip_size:
        as_of_us, awaited = said_us, (tip_size, said_us)
    return CityState(city, epoch, next_index, tip_size, city_clock_us, received_us, as_of_us, *awaited)


def no_fresher(before: CityState | None, heard: CityState) -> CityState:
    """Return the state of a city of which something was heard that makes it no fresher than it was before.

    It counts as ahead, and what is awaited tells nothing new when it comes.
    """
    as_of_us, more = 0 if before is None else before.as_of_us, heard.next_index + 1
    return replace(
        heard,
        tip_size=max(heard.tip_size, more),
        as_of_us=as_of_us,
        awaited_size=max(heard.awaited_size, more),
        awaited_us=as_of_us,
    )


class ClaimState(IntEnum):
    """How firmly a city holds a person."""

    LEASED = 1
    HELD = 2
    RELEASED = 3
    """No longer: the licence was cancelled, and whoever asks next may have the person."""


@dataclass(frozen=True, slots=True)
class Claim(Row):
    """A person held by a city.

    Attributes:
        person_key: Keyed tag of the person.
        city: Division code of the holding city.
        license_id: Licence for which the person was claimed.
        request_id: Idempotency key of the issuing request.
        state: :class:`ClaimState`; leased until a record uses it.
        lease_end_us: When an unused lease lapses.
        registry_epoch: Epoch of the registry log with the grant; 0 when confirmed by a record alone.
        registry_index: Index of the granting entry.
    """

    person_key: bytes
    city: int
    license_id: bytes
    request_id: str
    state: int
    lease_end_us: int
    registry_epoch: int
    registry_index: int


@dataclass(frozen=True, slots=True)
class NotedDisposition(Row):
    """The registry's stored word on one record, numbered in its city's feed.

    Attributes:
        city: City whose log holds the record.
        seq: Number in the city's feed, from 1 without gaps.
        epoch: Epoch of the record.
        idx: Its index.
        kind: ``DispositionKind`` number.
        license_id: Licence, or empty.
        detail: One sentence without personal data.
        other_city: The other city of a hand-over; 0, or None in a row of old, where there is none.
    """

    city: int
    seq: int
    epoch: int
    idx: int
    kind: int
    license_id: bytes
    detail: str
    other_city: int | None


@dataclass(frozen=True, slots=True)
class Pending(Row):
    """A licence that waits for the registry's decision.

    Attributes:
        city: City whose log holds its first record.
        epoch: Epoch of that record.
        idx: Its index.
        entry_hash: Its leaf hash.
        license_id: The licence.
        person_key: Keyed tag of the person.
    """

    city: int
    epoch: int
    idx: int
    entry_hash: bytes
    license_id: bytes
    person_key: bytes


@dataclass(frozen=True, slots=True)
class PublishedHead(Row):
    """How far a log is public.

    Attributes:
        log: Division code of its city; 0 is the registry's own log.
        epoch: Epoch of the log.
        size: Entries that everybody may see.
        published_us: When they became public.
    """

    log: int
    epoch: int
    size: int
    published_us: int
