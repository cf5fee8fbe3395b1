"""The end of a validity: renewal, and what becomes of a licence that was not renewed (Order 162, Articles 62 to 77).

The first day after the end brings M, the same day one year later R, and three
years later G, which cancels the licence.  While a renewal is put off with leave
(N) the end counts as not reached.  All days are days in China.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Final

from elicense.license.eligibility import RENEWAL_DAYS
from elicense.license.model import StatusLetter, Validity
from elicense.license.periods import anniversary

PUT_OFF: Final = "N"
"""The letter of a renewal that was put off with leave."""


@dataclass(frozen=True, slots=True)
class Stage:
    """What becomes of a licence that was not renewed.

    Attributes:
        letter: The letter that it carries from then on.
        years: Years after the first day without validity.
        replaces: Letters that give way to it.
        basis: Legal basis of the letter.
    """

    letter: str
    years: int
    replaces: tuple[str, ...]
    basis: str


STAGES: Final = (
    Stage("M", 0, (), "公安部令第162号 第六十三条"),
    Stage("R", 1, ("M",), "公安部令第162号 第七十七条"),
    Stage("G", 3, ("M", "R"), "公安部令第162号 第七十七条"),
)
"""The stages in their order; the articles are recalled, correct them here."""

DERIVED: Final = frozenset({"M", "R"})
"""Letters that follow from the days alone: renewal clears them, nothing else does while the licence is overdue."""


def first_day_without(validity: Validity, letters: Iterable[StatusLetter]) -> date | None:
    """Return the first day on which a licence is overdue; None when that day never comes."""
    if validity.until_date is None or validity.until_date == date.max:
        return None
    first = validity.until_date + timedelta(days=1)
    for letter in letters:
        if letter.letter == PUT_OFF and letter.start_date <= first:
            if letter.end_date is None or letter.end_date == date.max:
                return None
            first = max(first, letter.end_date + timedelta(days=1))
    return first


def next_stage(validity: Validity, letters: tuple[StatusLetter, ...]) -> tuple[date, Stage] | None:
    """Return the stage that the days bring next, and its day; None when none is left."""
    carried = {letter.letter for letter in letters}
    if carried & {"E", "F", "G"}:
        return None
    first = first_day_without(validity, letters)
    if first is None:
        return None
    reached = 2 if "R" in carried else 1 if "M" in carried else 0
    stage = STAGES[reached]
    return anniversary(first, stage.years), stage


def renewal_opens(validity: Validity) -> date | None:
    """Return the first day on which a licence may be renewed; None when it never ends."""
    return None if validity.until_date is None else validity.until_date - timedelta(days=RENEWAL_DAYS)
