"""What the days bring by themselves: M, R and G after the end of a validity, and the ends of point cycles.

A pure function from a licence and a day to the steps that are due.  Each step
has the day from which it counts, and follows from the licence before it alone:
so running every day, skipping days, running twice and running once late come to
the same licence by the same steps, with the same days.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import date
from enum import StrEnum

from elicense.license.change import with_letters
from elicense.license.expiry import next_stage
from elicense.license.model import License, LicenseEvent, Standing, StatusLetter
from elicense.license.points import rolled


class Rule(StrEnum):
    """A rule of the calendar; part of the request ids of its records, so never renamed."""

    OVERDUE = "overdue"
    POINT_CYCLE = "point-cycle"


@dataclass(frozen=True, slots=True)
class Step:
    """One revision that a day brings.

    Attributes:
        day: Day from which it counts, in China.
        rule: The rule that brings it.
        license: The licence after it.
        event: What happened to it.
        basis: Legal basis or rule.
    """

    day: date
    rule: Rule
    license: License
    event: LicenseEvent
    basis: str


def next_step(license_: License, day: date) -> Step | None:
    """Return the earliest step that is due by ``day``; None when nothing is."""
    stage = next_stage(license_.validity, license_.status_letters)
    roll = _roll_day(license_.status_letters, license_.points_roll_date)
    if stage is not None and stage[0] <= day and (roll is None or stage[0] <= roll):
        since, due = stage
        letter = StatusLetter(due.letter, since, None, due.basis)
        after = replace(license_, status_letters=with_letters(license_.status_letters, [letter], due.replaces))
        event = LicenseEvent.STATUS_CHANGED
        if due.letter == "G":
            event, after = LicenseEvent.CANCELLED, replace(after, offered_to_city=0)
        return Step(since, Rule.OVERDUE, after, event, due.basis)
    if roll is not None and roll <= day:
        return Step(roll, Rule.POINT_CYCLE, rolled(license_, roll), LicenseEvent.UPDATED, "记分周期届满")
    return None


def due_steps(license_: License, day: date) -> Iterator[Step]:
    """Yield every step that is due by ``day``, each upon the one before."""
    while (step := next_step(license_, day)) is not None:
        license_ = step.license
        yield step


def caught_up(license_: License, day: date) -> License:
    """Return a licence with everything applied that the days up to ``day`` bring."""
    for step in due_steps(license_, day):
        license_ = step.license
    return license_


def first_due(standing: Standing) -> date | None:
    """Return the day of the next step of the licence with this standing; None when no day brings one.

    The same answer as :func:`next_step` gives, from what the view holds of a licence.
    """
    if standing.validity is None:
        return None
    stage = next_stage(standing.validity, standing.status_letters)
    roll = _roll_day(standing.status_letters, standing.points_roll_date)
    days = [day for day in (None if stage is None else stage[0], roll) if day is not None]
    return min(days, default=None)


def _roll_day(letters: tuple[StatusLetter, ...], roll: date | None) -> date | None:
    """A licence at its end has no cycles any more."""
    return None if any(letter.letter in "EFG" for letter in letters) else roll
