"""Who may issue to a person: what a city asks, what the registry answers, and the rules between.

Pure rules, no I/O.  A *claim* ties a person to a city.  It starts as a lease,
granted before the city issues, and becomes a hold once a record uses it.  A
lease that nobody used lapses, but time alone proves nothing: only a registry
that holds the city's log beyond the end of the lease knows that no record uses
it, and only then another city may have the person.  A hold ends when the record
of a cancellation arrives: from then on the claim is *released*, and whoever asks
next gets the person.

Whoever is barred from applying anew gets no claim from any city.  Once the bar is
over, the revoked licence still holds its claim, but not against the next one, as
soon as no record that takes the revocation back can be on its way any more.
"""

from __future__ import annotations

from collections.abc import Container, Mapping
from dataclasses import dataclass
from datetime import date
from enum import Enum
from typing import Final, NamedTuple

from registry.model import LAPSE_MARGIN_US, CityState, Claim, ClaimState, Pending

#: Grants in one entry of the registry's log.
CLAIMS_PER_ENTRY: Final = 256


class WantedClaim(NamedTuple):
    """A person that a city wants to issue to; a tuple, because an import claims thousands.

    Attributes:
        person_key: Keyed tag of the person.
        license_id: Licence that the city is about to issue, 16 UUID bytes.
        request_id: Idempotency key of the issuing request, 16 UUID bytes.
    """

    person_key: bytes
    license_id: bytes
    request_id: bytes


@dataclass(frozen=True, slots=True)
class GrantClaims:
    """Command: grant persons to a city.

    Attributes:
        city: Division code of the city.
        actor: SPIFFE ID of the caller.
        wanted: The persons, in the order in which they are answered.
    """

    city: int
    actor: str
    wanted: tuple[WantedClaim, ...]


@dataclass(frozen=True, slots=True)
class DecidePending:
    """Command: decide which waiting licences count.

    Attributes:
        pending: The licences; those that are decided already are passed over.
    """

    pending: tuple[Pending, ...]


class Granted(NamedTuple):
    """The person is the city's until the lease ends, or for good once a record uses the grant; a tuple, as the above.

    Attributes:
        license_id: Licence to issue: the one asked for, or that of the live grant.
        epoch: Epoch of the registry log with the grant.
        idx: Index of the granting entry.
        entry_hash: Its leaf hash.
        lease_end_us: Until when the grant may be used.
    """

    license_id: bytes
    epoch: int
    idx: int
    entry_hash: bytes
    lease_end_us: int


@dataclass(frozen=True, slots=True)
class HeldBy:
    """The person is not free.

    Attributes:
        city: Who holds the person; may be the asking city, which then has a licence of the person.
    """

    city: int


@dataclass(frozen=True, slots=True)
class Barred:
    """The person may not apply anew yet.

    Attributes:
        city: City that recorded the bar.
        until: Last day of the bar; None for life.
    """

    city: int
    until: date | None


ClaimOutcome = Granted | HeldBy | Barred


class Standing(Enum):
    """What a claim means to a city that wants the person."""

    FREE = "nobody holds the person, or no longer"
    LIVE = "the city's own lease runs"
    RENEW = "the city's own lease is over or nearly so"
    LAPSED = "another city's lease, proved unused"
    OVER = "held by a licence at its end, whose bar from applying anew is over"
    HELD = "held, or leased to another city that may still use it"


def standing_of(
    claim: Claim | None,
    *,
    city: int,
    now_us: int,
    lease_us: int,
    states: Mapping[int, CityState],
    waiting: Container[int] = (),
    ended: Container[bytes] = (),
) -> Standing:
    """Return what ``claim`` means to ``city``.

    Args:
        claim: The person's claim, if there is one.
        city: Who asks.
        now_us: The registry's clock.
        lease_us: How long leases run; one with less than half of it left is renewed.
        states: What the registry holds of each city.
        waiting: Cities of which a licence of the person waits for a decision.
        ended: Licences of the person that are at their end and stand in nobody's way.
    """
    if claim is None or claim.state == ClaimState.RELEASED:
        return Standing.FREE
    if claim.state != ClaimState.LEASED:
        return Standing.OVER if claim.license_id in ended else Standing.HELD
    if claim.city == city:
        return Standing.LIVE if claim.lease_end_us - now_us > lease_us // 2 else Standing.RENEW
    unused = proved_unused(claim, states.get(claim.city), now_us=now_us, waiting=claim.city in waiting)
    return Standing.LAPSED if unused else Standing.HELD


def proved_unused(claim: Claim, state: CityState | None, *, now_us: int, waiting: bool = False) -> bool:
    """Whether no record of the leasing city can use the lease any more.

    A city never commits a record after the end of the lease that it cites, so
    it is enough to hold its log to its tip as of a later time.  A licence of the
    same person that waits for a decision is a use that is not settled yet.

    Args:
        claim: The lease.
        state: What the registry holds of the leasing city, if it was heard.
        now_us: The registry's clock.
        waiting: Whether a licence of that city for the person waits for a decision.
    """
    if waiting:
        return False
    if claim.lease_end_us >= now_us or state is None or state.next_index < state.tip_size:
        return False
    return state.as_of_us > claim.lease_end_us + LAPSE_MARGIN_US


class Ruling(Enum):
    """What becomes of a licence that was issued without a grant."""

    CONFIRMED = "it counts nationwide"
    CONFLICT = "another licence of the person counts"
    VOID = "the person may not apply anew"
    WAITS = "another city may still use its lease, or take back in time what ended its licence"


def ruling_on(
    pending: Pending,
    claim: Claim | None,
    *,
    now_us: int,
    states: Mapping[int, CityState],
    waiting: Container[int] = (),
    ended: Container[bytes] = (),
    ending: Container[bytes] = (),
    barred: bool = False,
) -> Ruling:
    """Return what becomes of a waiting licence, given who holds its person.

    Args:
        pending: The licence.
        claim: The person's claim, if there is one.
        now_us: The registry's clock.
        states: What the registry holds of each city.
        waiting: Cities of which a licence of the person waits for a decision.
        ended: Licences of the person that are at their end and stand in nobody's way.
        ending: Licences of the person whose bar is over, ended for certain or not.
        barred: Whether it was issued against a bar from applying anew that another licence of the person brings.
    """
    if barred:
        return Ruling.VOID
    if claim is None or claim.state == ClaimState.RELEASED:
        return Ruling.CONFIRMED
    if claim.state == ClaimState.HELD and claim.license_id in ended:
        return Ruling.CONFIRMED
    if claim.state == ClaimState.HELD and claim.license_id in ending and claim.license_id != pending.license_id:
        return Ruling.WAITS
    if claim.city == pending.city:
        if claim.state == ClaimState.LEASED or claim.license_id == pending.license_id:
            return Ruling.CONFIRMED
        return Ruling.CONFLICT
    if claim.state != ClaimState.LEASED:
        return Ruling.CONFLICT
    if proved_unused(claim, states.get(claim.city), now_us=now_us, waiting=claim.city in waiting):
        return Ruling.CONFIRMED
    return Ruling.WAITS
