"""Which moment a question is about, and whose knowledge it asks for: the two axes of time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from elicense.clock import SECOND_US, from_timestamp
from elicense.errors import Malformed, Violation
from elicense.v1 import verification_pb2 as pb

MAX_AHEAD_US: Final = 10 * 60 * SECOND_US
"""How far ahead of this node's clock a moment may lie: a caller's clock may run fast.

Nothing is VALID at a moment up to which no city is complete, so this lets nobody ask the future.
"""


@dataclass(frozen=True, slots=True)
class Moment:
    """A past moment.

    Attributes:
        at_us: The moment that the answer is about, UTC microseconds.
        known_us: Whose knowledge counts: what the node held then; None for all that it holds now.
    """

    at_us: int
    known_us: int | None = None


@dataclass(frozen=True, slots=True)
class Wish:
    """How a question is to be answered.

    Attributes:
        moment: The past moment that it is about; None for now.
        sign: Whether evidence goes with the answer.
    """

    moment: Moment | None = None
    sign: bool = False


PLAIN: Final = Wish()
"""A question about now, answered without evidence."""

SIGNED: Final = Wish(sign=True)
"""A question about now, answered with evidence."""


def read_wish(request: pb.VerifyLicenseRequest | pb.BatchVerifyLicensesRequest, now_us: int) -> Wish:
    """Return how a request is to be answered.

    Raises:
        Malformed: A moment lies in the future, or the two contradict each other; all faults are named.
    """
    asked, known = request.HasField("at_time"), request.HasField("as_known_time")
    if not asked and not known:
        return SIGNED if request.sign else PLAIN
    at_us = from_timestamp(request.at_time) if asked else 0
    known_us = from_timestamp(request.as_known_time) if known else None
    violations = []
    if asked and not 0 < at_us <= now_us + MAX_AHEAD_US:
        violations.append(Violation("at_time", "NOT_PAST", "name a moment since 1970 that is not in the future"))
    if known_us is not None:
        if not asked:
            violations.append(Violation("at_time", "REQUIRED", "say which moment the knowledge is about"))
        elif known_us < at_us:
            text = "what was known before a moment says nothing of it; name at_time or a later moment"
            violations.append(Violation("as_known_time", "BEFORE_AT_TIME", text))
        if known_us > now_us + MAX_AHEAD_US:
            violations.append(Violation("as_known_time", "NOT_PAST", "name a moment that is not in the future"))
    if violations:
        raise Malformed("the moments asked for can not be answered", violations=violations)
    return Wish(Moment(at_us, known_us) if asked else None, request.sign)
