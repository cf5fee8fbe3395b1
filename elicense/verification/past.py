"""From a licence as it was to a verdict about that moment: pure.

The same rules as for now, judged on that day in China.  A moment up to which the
city's records are not complete is never answered with VALID.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING

from elicense.clock import CHINA, SECOND_US, china_date, to_timestamp
from elicense.license.model import Standing
from elicense.license.verdict import (
    NO_MATCH,
    NOT_ISSUED_YET,
    NOT_RECORDED,
    Finding,
    Outcome,
    apply_freshness,
    assess,
)
from elicense.v1 import verification_pb2 as pb
from elicense.verification.answer import CityFreshness, as_message, rank_of
from elicense.verification.moment import MAX_AHEAD_US, Moment

if TYPE_CHECKING:
    from elicense.view.history import PastState
    from elicense.view.model import ViewRow


@dataclass(frozen=True, slots=True)
class PastLicense:
    """A licence of the person asked about, as it was.

    Attributes:
        row: Its row of the view now.
        state: What it was.
        standing: Its standing then; None before it took effect, or when the record was erased.
        entry_hash: Leaf hash of the record in force; empty before the first.
        from_the_start: Whether the records that are held begin with its issue.
        pending_at_first: Whether it was issued without the registry's grant.
        row_then: What the row would have been then; None when nothing was in force, or nothing is left of it.
    """

    row: ViewRow
    state: PastState
    standing: Standing | None
    entry_hash: bytes
    from_the_start: bool
    pending_at_first: bool
    row_then: ViewRow | None = None


def speaking(licenses: Sequence[PastLicense]) -> PastLicense | None:
    """Return the licence that spoke for the person then: in force, undoubted, the latest."""
    known = [past for past in licenses if past.state.first is not None]

    def rank(past: PastLicense) -> tuple[bool, int, int]:
        revision = past.state.revision
        since_us = 0 if revision is None else revision.effective_us
        return revision is None, rank_of(past.state.flags), -since_us

    return min(known, key=rank, default=None)


def verdict_then(past: PastLicense | None, moment: Moment, *, freshness: CityFreshness, now_us: int) -> pb.Verdict:
    """Judge a licence at a past moment.

    Args:
        past: The licence that spoke for the person; None when none was known, or the name does not match.
        moment: The moment asked about.
        freshness: How current the city in custody is here now.
        now_us: Verdict time.
    """
    if past is None:
        return _dated(as_message(NO_MATCH, now_us=now_us), moment)
    # Beyond what the city's records are known to cover there is no certainty: no age is allowed.
    # Completeness far ahead of the clock is a clock that is wrong, and worth nothing.
    complete_us = freshness.as_of_us if freshness.as_of_us <= now_us + MAX_AHEAD_US else 0
    finding, last_known = apply_freshness(
        _finding(past, moment), as_of_us=min(complete_us, moment.at_us), now_us=moment.at_us, limit_us=0
    )
    finding = replace(finding, summary=f"{_when(moment)}: {finding.summary}")
    answered = as_message(finding, now_us=now_us, last_known=last_known, city=past.row.city, freshness=freshness)
    return _dated(answered, moment)


def _finding(past: PastLicense, moment: Moment) -> Finding:
    if past.state.revision is None:
        return NOT_ISSUED_YET if past.from_the_start else NOT_RECORDED
    if past.standing is None:
        return NOT_RECORDED
    finding = assess(past.standing, past.state.flags, china_date(moment.at_us))
    # A standing without anything in it is what is left of an erased licence.
    return NOT_RECORDED if finding.outcome is Outcome.INVALID and past.standing.validity is None else finding


def _when(moment: Moment) -> str:
    """Return the moment in words, in China time."""
    text = f"On {_china(moment.at_us)} (China time)"
    return text if moment.known_us is None else f"{text}, as known on {_china(moment.known_us)}"


def _china(us: int) -> str:
    return datetime.fromtimestamp(us // SECOND_US, CHINA).strftime("%Y-%m-%d %H:%M:%S")


def _dated(message: pb.Verdict, moment: Moment) -> pb.Verdict:
    message.at_time.CopyFrom(to_timestamp(moment.at_us))
    if moment.known_us is not None:
        message.as_known_time.CopyFrom(to_timestamp(moment.known_us))
    return message
