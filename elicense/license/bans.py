"""Bars from applying anew after a licence was revoked (F) or annulled (E).

The terms are data, with the day from which each counts and where it comes from;
readings of the law differ, so correct them here and nowhere else.  A clerk names
the ground and the table gives the term, or the clerk states the term itself
where a ruling does.  A record without either, from a node that knew no bars,
counts as a bar for life: nobody is let through on what is not known.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta
from typing import Final

from elicense.errors import Violation
from elicense.license.model import Ban, StatusLetter
from elicense.license.periods import anniversary

BANNING_LETTERS: Final = frozenset("EF")
"""Letters after which the law bars a person from applying anew."""

FOR_LIFE: Final = date.max
"""Stands for the last day of a bar that has none."""


@dataclass(frozen=True, slots=True)
class BanGround:
    """Why a person is barred, and for how long.

    Attributes:
        code: Stable name of the ground.
        letter: Letter that goes with it.
        years: Length of the bar; None for life.
        meaning: What happened, one English phrase.
        source: Law and article, or the decision that this reading follows.
        from_date: First day on which a letter may begin that takes this term.
        until_date: Last such day; None while the rule stands.
    """

    code: str
    letter: str
    years: int | None
    meaning: str
    source: str
    from_date: date
    until_date: date | None = None


#: The law's articles on driving after drinking in their present form.
_LAW_2011: Final = date(2011, 5, 1)
#: MPS Order 123, of which Orders 139 (2016) and 162 (2022) kept the terms below.
_ORDER_123: Final = date(2013, 1, 1)
#: MPS Order 162, which added bars of five and ten years.
_ORDER_162: Final = date(2022, 4, 1)
_ROAD_LAW: Final = "Road Traffic Safety Law"
_ORDERS: Final = "MPS Order 123 (later 139, 162) on driving licences, conditions of application"
_NEW_ORDER: Final = "MPS Order 162 on driving licences, conditions of application"

GROUNDS: Final[tuple[BanGround, ...]] = (
    BanGround("ORDINARY", "F", 2, "revoked on any other ground", _ORDERS, _ORDER_123),
    BanGround("DRUNK_DRIVING", "F", 5, "drove while drunk", f"{_ROAD_LAW}, Art. 91(2)", _LAW_2011),
    BanGround(
        "COMMERCIAL_DRINK_DRIVING",
        "F",
        5,
        "drove a commercial vehicle after drinking",
        f"{_ROAD_LAW}, Art. 91(3)",
        _LAW_2011,
    ),
    BanGround(
        "COMMERCIAL_DRUNK_DRIVING",
        "F",
        10,
        "drove a commercial vehicle while drunk",
        f"{_ROAD_LAW}, Art. 91(4)",
        _LAW_2011,
    ),
    BanGround(
        "DRINK_DRIVING_ACCIDENT",
        "F",
        None,
        "caused a serious accident, a crime, after drinking",
        f"{_ROAD_LAW}, Art. 91(5)",
        _LAW_2011,
    ),
    BanGround(
        "HIT_AND_RUN", "F", None, "fled from an accident, a crime", f"{_ROAD_LAW}, Art. 101(2)", date(2004, 5, 1)
    ),
    BanGround("DANGEROUS_DRIVING", "F", 5, "raced, overloaded or sped, a crime", _NEW_ORDER, _ORDER_162),
    BanGround("SERIOUS_ACCIDENT", "F", 10, "caused a serious accident, a crime", _NEW_ORDER, _ORDER_162),
    BanGround("OBTAINED_BY_FRAUD", "E", 3, "obtained by fraud or bribery", _ORDERS, _ORDER_123),
)
"""Every ground that this node knows; several rows of one code follow one another in time."""


def ground_on(code: str, day: date) -> BanGround | None:
    """Return the ground of that name as it stands for a letter that begins on ``day``; None when there is none."""
    for ground in GROUNDS:
        if ground.code == code and ground.from_date <= day and (ground.until_date is None or day <= ground.until_date):
            return ground
    return None


def last_day(start: date, years: int | None) -> date | None:
    """Return the last day of a bar of so many years that begins on ``start``; None for life."""
    return None if years is None else anniversary(start, years) - timedelta(days=1)


def with_terms(
    letters: Sequence[StatusLetter], field: str, known: Iterable[StatusLetter] = ()
) -> tuple[tuple[StatusLetter, ...], list[Violation]]:
    """Return letters with the bar of each completed from its ground, and what is missing.

    Args:
        letters: Letters of a request.
        field: Path of the letters in it.
        known: Letters that the licence carries already; one that stays as it is needs nothing.
    """
    carried = set(known)
    completed: list[StatusLetter] = []
    faults: list[Violation] = []
    for position, letter in enumerate(letters):
        if letter in carried:
            completed.append(letter)
            continue
        ban, reason, advice = _term(letter)
        if reason:
            faults.append(Violation(f"{field}[{position}].ban", reason, advice))
        completed.append(letter if ban == letter.ban else replace(letter, ban=ban))
    return tuple(completed), faults


def _term(letter: StatusLetter) -> tuple[Ban | None, str, str]:
    """Return the completed bar of one letter, or the reason and advice of what is wrong with it."""
    ban = letter.ban
    if letter.letter not in BANNING_LETTERS:
        if ban is not None:
            return ban, "BAN_WITHOUT_REVOCATION", "Leave the bar out: it goes with E and F alone."
        return None, "", ""
    if ban is None:
        return None, "BAN_MISSING", "Name the ground of the bar from applying anew, or state its last day."
    if ban.until is not None and ban.for_life:
        return ban, "BAN_TERM_TWICE", "Give either the last day of the bar, or say that it is for life."
    if ban.until is not None and ban.until < letter.start_date:
        return ban, "DATES_OUT_OF_ORDER", "Give a last day that is not before the letter's first."
    if not ban.ground:
        stated = ban.until is not None or ban.for_life
        return ban, *(("", "") if stated else ("BAN_MISSING", "Name the ground, or state the last day of the bar."))
    ground = ground_on(ban.ground, letter.start_date)
    if ground is None or ground.letter != letter.letter:
        names = ", ".join(sorted({g.code for g in GROUNDS if g.letter == letter.letter}))
        return ban, "BAN_GROUND_UNKNOWN", f"Give a ground that stood on that day: {names}."
    until = last_day(letter.start_date, ground.years)
    if (ban.until is not None or ban.for_life) and (ban.until, ban.for_life) != (until, until is None):
        return ban, "BAN_TERM_DIFFERS", "Leave the term out: the ground gives it; or leave the ground out."
    return Ban(ban.ground, until, until is None), "", ""


def ban_of(letters: Iterable[StatusLetter]) -> Ban | None:
    """Return the bar that a set of letters brings, the longest of several; None when there is none."""
    bans = [_bar_by(letter) for letter in letters if letter.letter in BANNING_LETTERS]
    return max(bans, key=until_of, default=None)


def _bar_by(letter: StatusLetter) -> Ban:
    """Return the bar of one letter; it lasts until the letter has ended the licence for good."""
    ban = letter.ban or Ban("", None, True)
    if letter.end_date is not None:
        # Only a record that breaks the rules has one: its licence would count again beside the next one.
        return Ban(ban.ground, None, True)
    return replace(ban, until=letter.start_date) if until_of(ban) < letter.start_date else ban


def is_final(letters: Iterable[StatusLetter], on: date) -> bool:
    """Whether letters bring a bar that is over by ``on``: whoever was barred may have another licence since."""
    ban = ban_of(letters)
    return ban is not None and until_of(ban) < on


def keeps_revocation(before: Iterable[StatusLetter], after: Iterable[StatusLetter]) -> bool:
    """Whether every letter that brings a bar stays as it is."""
    return {each for each in before if each.letter in BANNING_LETTERS} <= set(after)


def until_of(ban: Ban) -> date:
    """Return the last day of a bar; :data:`FOR_LIFE` where it has none, or none that was recorded."""
    return FOR_LIFE if ban.until is None else ban.until
