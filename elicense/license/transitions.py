"""Which change a licence may undergo in which state: a table, and what is missing where it may not.

Each row of :data:`TRANSITIONS` names what must hold for one kind of change.  A
change that is refused names everything that does not hold, so that a clerk
sees at once what has to be settled first.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date
from enum import StrEnum
from types import MappingProxyType
from typing import Final

from elicense.errors import IllegalTransition, Violation
from elicense.license.change import in_effect
from elicense.license.eligibility import POINT_LIMIT
from elicense.license.expiry import first_day_without, renewal_opens
from elicense.license.model import License


class Action(StrEnum):
    """A kind of change."""

    UPDATE = "update"
    RENEW = "renew"
    SET_STATUS = "set status"
    WITHDRAW_CLASS = "withdraw a class"
    ADD_CLASS = "add a class"
    RECORD_POINTS = "record points"
    EXAM = "pass the exam"
    CANCEL = "cancel"
    CANCEL_VOID = "cancel what is void"
    CORRECT = "correct"
    CHANGE_IDENTITY = "change the identity document"
    OFFER = "offer to another city"
    WITHDRAW_OFFER = "withdraw the offer"
    TAKE_OVER = "take over from another city"


@dataclass(frozen=True, slots=True)
class Need:
    """Something that must hold before a change.

    Attributes:
        reason: Stable reason of the violation.
        field: Field of the licence that shows it.
        advice: What to do about it.
        holds: Whether it holds on a day.
    """

    reason: str
    field: str
    advice: str
    holds: Callable[[License, date], bool]


def _carries_none(codes: str) -> Callable[[License, date], bool]:
    """Whatever their dates: such a letter is final."""
    return lambda license_, _: not any(letter.letter in codes for letter in license_.status_letters)


def _none_in_effect(codes: str) -> Callable[[License, date], bool]:
    return lambda license_, on: not in_effect(license_.status_letters, on) & set(codes)


def _in_validity(license_: License, on: date) -> bool:
    first = first_day_without(license_.validity, license_.status_letters)
    return (first is None or on < first) and not in_effect(license_.status_letters, on) & {"M", "R"}


def _window_open(license_: License, on: date) -> bool:
    opens = renewal_opens(license_.validity)
    return opens is None or on >= opens


_LETTERS: Final = "license.status_letters"

NOT_CANCELLED: Final = Need(
    "LICENSE_CANCELLED", _LETTERS, "Issue a new licence: a cancelled one stays cancelled.", _carries_none("G")
)
NOT_REVOKED: Final = Need(
    "LICENSE_REVOKED",
    _LETTERS,
    "Correct the record if it is wrong: a revoked or annulled licence is at its end.",
    _carries_none("EF"),
)
NOT_WITHHELD: Final = Need(
    "LICENSE_WITHHELD",
    _LETTERS,
    "Wait until the licence is given back: it is suspended, retained or locked (D, J, K, L, U).",
    _none_in_effect("DJKLU"),
)
SETTLED: Final = Need(
    "CASES_OPEN", _LETTERS, "Settle the open violations and accidents first (H, I).", _none_in_effect("HI")
)
REVIEWED: Final = Need("REVIEW_OVERDUE", _LETTERS, "Have the review passed first (S).", _none_in_effect("S"))
BELOW_LIMIT: Final = Need(
    "POINTS_REACHED",
    "license.points",
    "Record the passed exam first: twelve points are reached (B).",
    lambda license_, on: license_.points < POINT_LIMIT and "B" not in in_effect(license_.status_letters, on),
)
AT_LIMIT: Final = Need(
    "POINTS_NOT_REACHED",
    "license.points",
    "Leave the points to the end of their cycle: the exam clears them only once twelve are reached.",
    lambda license_, on: not BELOW_LIMIT.holds(license_, on),
)
IN_VALIDITY: Final = Need(
    "LICENSE_OVERDUE", "license.validity", "Renew the licence first: its validity is over.", _in_validity
)
HAS_END: Final = Need(
    "LICENSE_LONG_TERM",
    "license.validity",
    "Leave a long-term licence as it is: it needs no renewal.",
    lambda license_, _: license_.validity.until_date is not None,
)
WINDOW_OPEN: Final = Need(
    "RENEWAL_TOO_EARLY",
    "license.validity",
    "Come back within the last ninety days of the validity.",
    _window_open,
)
NOT_OFFERED: Final = Need(
    "TRANSFER_OPEN",
    "license.offered_to_city",
    "Withdraw the offer first, or leave it to the new city: while custody is offered a licence is only restricted.",
    lambda license_, _: not license_.offered_to_city,
)
OFFERED: Final = Need(
    "NO_TRANSFER_OPEN",
    "license.offered_to_city",
    "Read the licence again: it is not offered to another city.",
    lambda license_, _: bool(license_.offered_to_city),
)
#: What keeps a licence from moving: whoever withheld it, or has a case open, must find it where it was.
_MOVABLE: Final = (NOT_CANCELLED, NOT_REVOKED, NOT_WITHHELD, SETTLED)

TRANSITIONS: Mapping[Action, tuple[Need, ...]] = MappingProxyType(
    {
        Action.UPDATE: (NOT_CANCELLED, NOT_REVOKED, NOT_OFFERED),
        Action.RENEW: (
            NOT_CANCELLED, NOT_REVOKED, NOT_WITHHELD, SETTLED, REVIEWED, BELOW_LIMIT, HAS_END, WINDOW_OPEN,
            NOT_OFFERED,
        ),
        Action.SET_STATUS: (NOT_CANCELLED,),
        Action.WITHDRAW_CLASS: (NOT_CANCELLED, NOT_REVOKED),
        Action.ADD_CLASS: (
            NOT_CANCELLED, NOT_REVOKED, NOT_WITHHELD, SETTLED, REVIEWED, BELOW_LIMIT, IN_VALIDITY, NOT_OFFERED,
        ),
        Action.RECORD_POINTS: (NOT_CANCELLED, NOT_REVOKED),
        Action.EXAM: (NOT_CANCELLED, NOT_REVOKED, AT_LIMIT, NOT_OFFERED),
        Action.CANCEL: (NOT_CANCELLED, NOT_REVOKED, NOT_WITHHELD, SETTLED),
        # Nothing else may be done to a void licence, so whatever withholds it can not be settled first.
        Action.CANCEL_VOID: (NOT_CANCELLED, NOT_REVOKED),
        Action.CORRECT: (NOT_CANCELLED, NOT_OFFERED),
        Action.CHANGE_IDENTITY: (NOT_CANCELLED, NOT_OFFERED),
        Action.OFFER: (*_MOVABLE, NOT_OFFERED),
        Action.WITHDRAW_OFFER: (OFFERED,),
        Action.TAKE_OVER: (*_MOVABLE, OFFERED),
    }
)  # fmt: skip
"""What must hold for each kind of change; the whole law of transitions."""


def missing(action: Action, license_: License, on: date) -> tuple[Violation, ...]:
    """Return what keeps a licence from a kind of change on a day; none means that it is legal."""
    return tuple(
        Violation(need.field, need.reason, need.advice) for need in TRANSITIONS[action] if not need.holds(license_, on)
    )


def require(violations: tuple[Violation, ...]) -> None:
    """Refuse a change from which something is missing.

    Raises:
        IllegalTransition: There are violations.
    """
    if violations:
        raise IllegalTransition("the licence cannot change in this way; see what is missing", violations=violations)
