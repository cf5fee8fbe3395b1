"""Deciding who has custody: pure rules over a take-over and the licence that it is about.

A city takes over with a record of its own, which cites the latest revision of
the city in custody.  The first of that record and any other revision that
reaches the registry decides: if the licence has moved on, the take-over comes
to nothing and custody stays.  The registry decides in its own log, so the view
depends on logs alone.

After a hand-over nothing counts that the old city writes of the licence.  A city
writes nothing upon its take-over before it has the registry's word; where it did,
this registry was set back and has lost that word, so what follows the take-over
counts with it.  For the same reason a take-over waits as long as what it cites may
still come.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date
from enum import Enum
from typing import TYPE_CHECKING, Final

from elicense.clock import SECOND_US, from_timestamp
from elicense.errors import Malformed
from elicense.license.codec import decode_record
from elicense.license.transitions import Action, missing
from elicense.license.verdict import ViewFlags
from elicense.v1 import license_pb2, log_pb2
from elicense.view.custody import hands_over
from elicense.view.model import Revision, ViewRow
from registry.model import CityState, Claim, ClaimState
from registry.transfer_model import Arrival

if TYPE_CHECKING:
    from registry.follow_ups import FollowUp
    from registry.national import NationalChange

CLOCK_SKEW_US: Final = 600 * SECOND_US
"""How far the clocks of a city and of the registry may be apart."""

_DOUBTFUL: Final = int(ViewFlags.PROVISIONAL | ViewFlags.CONFLICT | ViewFlags.UNKNOWN_EVENT | ViewFlags.VOID)


class Refusal(Enum):
    """Why a take-over comes to nothing; the value is what the city is told."""

    UNKNOWN_LICENSE = "There is no such license of this person; check what was taken over."
    IN_CUSTODY = "The city has custody already; there is nothing to do."
    CANCELLED = "The license was cancelled before the take-over arrived; the holder may apply anew."
    DOUBTFUL = "The license does not count nationwide for certain; have that settled, then accept again."
    NOT_OFFERED = "The license is not, or no longer, offered to the city; ask the other city for a new offer."
    SUPERSEDED = "The other city has changed the license since; read the offer and accept it again."
    BLOCKED = "A status letter keeps the license where it is; have it lifted there, then accept again."
    ALTERED = "A take-over changes nothing but the office that keeps the license; accept again without other changes."

    @property
    def number(self) -> int:
        """Its number in the registry's log."""
        return log_pb2.TransferRefusal.Value(f"TRANSFER_REFUSAL_{self.name}")


@dataclass(frozen=True, slots=True)
class TransferDecision:
    """One take-over decided.

    Attributes:
        arrival: The take-over.
        refusal: Why it came to nothing; None when custody moves.
        before: The licence as it stood; None when there is none.
        after: The licence in the new city's custody; None when refused.
        revision: Its entry of the revision index; None when refused.
        changes: What follows from the records that rest on it, by epoch of the new city's log.
        other_city: The city that had it, where ``before`` can not tell because all is erased; else 0.
    """

    arrival: Arrival
    refusal: Refusal | None
    before: ViewRow | None
    after: ViewRow | None = None
    revision: Revision | None = None
    changes: Sequence[tuple[int, NationalChange]] = ()
    other_city: int = 0


@dataclass(slots=True)
class TransferBoard:
    """What is known while take-overs of one commit are decided; rows change with each.

    Attributes:
        open: Take-overs that are not decided yet.
        rows: Licences as they stand, by person and id.
        records: Records by position: the take-overs, the latest ones of their licences, and what rests on
            take-overs.
        undecided: Take-overs of the same licences that wait, those of other commands too.
        early: Take-overs that rest on what the registry does not hold yet.
        follow_ups: What rests on take-overs.
    """

    open: set[Arrival] = field(default_factory=set)
    rows: dict[tuple[bytes, bytes], ViewRow] = field(default_factory=dict)
    records: dict[tuple[int, int, int], bytes] = field(default_factory=dict)
    undecided: set[Arrival] = field(default_factory=set)
    early: set[Arrival] = field(default_factory=set)
    follow_ups: dict[Arrival, list[FollowUp]] = field(default_factory=dict)


def is_early(arrival: license_pb2.LicenseRecord, *, held: int, state: CityState | None, now_us: int) -> bool:
    """Whether a take-over cites a record that is not here, and may come: a registry that was set back is sent it again.

    Args:
        arrival: The record of the take-over.
        held: Entries that are held of the epoch that it cites.
        state: What the city in custody said last; None when it is not enrolled, or was never heard.
        now_us: Now.
    """
    written_us = from_timestamp(arrival.record_time)
    if state is None or arrival.taken_over_from.index < held or written_us > now_us + CLOCK_SKEW_US:
        return False
    # Once it was heard after that, and has nothing more to send, there is no such record.
    is_whole = state.epoch >= arrival.taken_over_from.epoch and state.next_index >= state.tip_size
    return not is_whole or state.received_us <= written_us + CLOCK_SKEW_US


def refusal_of(
    arrival: license_pb2.LicenseRecord,
    row: ViewRow | None,
    latest: bytes,
    claim: Claim | None,
    *,
    contested: bool,
    on: date,
) -> Refusal | None:
    """Return why a take-over comes to nothing; None when custody moves.

    Args:
        arrival: The record of the take-over.
        row: The licence of the person as it stands; None when there is none.
        latest: The latest record of the city in custody.
        claim: Who holds the person.
        contested: Whether a conflict over the licence is not settled yet.
        on: The day in China on which the take-over was written.
    """
    if row is None:
        return Refusal.UNKNOWN_LICENSE
    if row.city == arrival.city:
        return Refusal.IN_CUSTODY
    if row.flags & ViewFlags.CANCELLED:
        return Refusal.CANCELLED
    held = None if claim is None else (claim.city, claim.license_id, claim.state)
    if contested or row.flags & _DOUBTFUL or held != (row.city, row.license_id, ClaimState.HELD):
        return Refusal.DOUBTFUL
    try:
        license_ = decode_record(latest).license
    except Malformed:
        return Refusal.DOUBTFUL
    if license_ is None or license_.offered_to_city != arrival.city:
        return Refusal.NOT_OFFERED
    source = arrival.taken_over_from
    cited = (source.city, source.epoch, source.index, arrival.previous_entry_hash, arrival.revision - 1)
    if cited != (row.city, row.epoch, row.idx, row.entry_hash, row.revision):
        return Refusal.SUPERSEDED
    if missing(Action.TAKE_OVER, license_, on):
        return Refusal.BLOCKED
    return None if hands_over(license_pb2.LicenseRecord.FromString(latest), arrival) else Refusal.ALTERED
