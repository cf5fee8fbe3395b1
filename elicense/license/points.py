"""Points for violations: twelve-month cycles from the day of first issue, and the letter B at twelve.

A cycle begins on every anniversary of the day of first issue; for a licence of
29 February on 1 March where there is no such day.  When a cycle ends, points
below twelve are cleared, unless a violation is still open (H): then they are
carried into the next cycle, as twelve or more are until the exam is passed.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import date
from typing import Final

from elicense.errors import Malformed, Violation
from elicense.license.change import Changed, in_effect, with_letters
from elicense.license.eligibility import POINT_LIMIT
from elicense.license.model import License, LicenseEvent, StatusLetter
from elicense.license.periods import anniversary
from elicense.license.shape import MAX_POINTS
from elicense.license.transitions import Action, missing, require

FULL: Final = "B"
"""The letter of a licence with twelve points."""


def cycle_start(first_issue: date, on: date) -> date:
    """Return the first day of the cycle that holds ``on``, which is not before the first issue."""
    years = on.year - first_issue.year
    start = anniversary(first_issue, years)
    return start if start <= on else anniversary(first_issue, years - 1)


def next_cycle(first_issue: date, on: date) -> date:
    """Return the first day of the cycle after the one that holds ``on``."""
    years = on.year - first_issue.year
    start = anniversary(first_issue, years)
    return start if start > on else anniversary(first_issue, years + 1)


def cycles_since(first_issue: date, day: date, on: date) -> int:
    """Return how many cycles have begun after the one that holds ``day``, up to ``on``."""
    return cycle_start(first_issue, on).year - cycle_start(first_issue, day).year


def rolled(license_: License, day: date) -> License:
    """Return a licence with points as the cycle that begins on ``day`` leaves them."""
    keeps = license_.points >= POINT_LIMIT or bool(in_effect(license_.status_letters, day) & {FULL, "H"})
    if keeps:
        return replace(license_, points_roll_date=next_cycle(license_.first_issue_date, day))
    return replace(license_, points=0, points_roll_date=None)


@dataclass(frozen=True, slots=True)
class Points:
    """Points of one violation.

    Attributes:
        points: How many, from 1.
        basis: Law and decision.
    """

    points: int
    basis: str

    def apply(self, license_: License, on: date) -> Changed:
        """Return the licence with the points added, and B at twelve."""
        if not 1 <= self.points <= POINT_LIMIT or license_.points + self.points > MAX_POINTS:
            raise Malformed(
                "a violation has from one to twelve points",
                violations=[Violation("points", "POINTS_INVALID", "Give the points of one violation, from 1 to 12.")],
            )
        require(missing(Action.RECORD_POINTS, license_, on))
        points = license_.points + self.points
        after = replace(license_, points=points, points_roll_date=next_cycle(license_.first_issue_date, on))
        if points < POINT_LIMIT:
            return Changed(after, LicenseEvent.UPDATED)
        letters = license_.status_letters
        if not any(letter.letter == FULL and letter.end_date is None for letter in letters):
            letters = with_letters(letters, [StatusLetter(FULL, on, None, self.basis)], [])
        return Changed(replace(after, status_letters=letters, points_limit_date=on), LicenseEvent.STATUS_CHANGED)


@dataclass(frozen=True, slots=True)
class ExamPassed:
    """The education and exam after twelve points.

    Attributes:
        basis: Law and certificate.
    """

    basis: str

    def apply(self, license_: License, on: date) -> Changed:
        """Return the licence without points and without B."""
        require(missing(Action.EXAM, license_, on))
        letters = with_letters(license_.status_letters, [], [FULL])
        after = replace(license_, points=0, points_roll_date=None, status_letters=letters)
        return Changed(after, LicenseEvent.STATUS_CHANGED)
