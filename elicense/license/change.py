"""What every change of a licence has in common: from a licence and a day to the licence after it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date
from typing import Protocol

from elicense.license.model import License, LicenseEvent, StatusLetter

NORMAL = "A"
"""The letter that says that nothing is wrong; it stands alone or not at all."""


@dataclass(frozen=True, slots=True)
class Changed:
    """A licence after a change.

    Attributes:
        license: The licence.
        event: What happened to it.
    """

    license: License
    event: LicenseEvent


class Change(Protocol):
    """A change that a clerk asks for."""

    @property
    def basis(self) -> str:
        """Law, decision or reason on which it rests; empty where the letters themselves say it."""

    def apply(self, license_: License, on: date) -> Changed:
        """Return the licence after the change.

        Args:
            license_: The licence, with everything applied that the days up to ``on`` bring.
            on: Day of the change, in China.

        Raises:
            Malformed: The request contradicts itself; every field is named.
            IllegalTransition: The licence can not change so; everything that is missing is named.
        """


def in_effect(letters: Iterable[StatusLetter], on: date) -> frozenset[str]:
    """Return the letters that have effect on a day."""
    return frozenset(
        letter.letter
        for letter in letters
        if letter.start_date <= on and (letter.end_date is None or on <= letter.end_date)
    )


def with_letters(
    letters: Iterable[StatusLetter], add: Iterable[StatusLetter], lift: Iterable[str]
) -> tuple[StatusLetter, ...]:
    """Return a set of letters with some added or replaced and others lifted, in alphabetical order.

    A gives way to any other letter by itself; lifting one that is not carried does nothing.
    """
    carried = {letter.letter: letter for letter in letters}
    for code in lift:
        carried.pop(code, None)
    carried.update((letter.letter, letter) for letter in add)
    if len(carried) > 1:
        carried.pop(NORMAL, None)
    return tuple(carried[code] for code in sorted(carried))
