"""Adding and lifting status letters: which changes of the set are legal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import date
from typing import Final

from elicense.errors import IllegalTransition, Malformed, Violation
from elicense.license.bans import with_terms
from elicense.license.change import NORMAL, Changed, with_letters
from elicense.license.eligibility import POINT_LIMIT
from elicense.license.expiry import DERIVED
from elicense.license.model import License, LicenseEvent, StatusLetter
from elicense.license.renewal import is_overdue
from elicense.license.status_letters import is_known, letter_info
from elicense.license.transitions import NOT_OFFERED, Action, missing, require

#: Letters that take nothing away: normal, and what was put off with leave.
_IN_FAVOUR: Final = frozenset("ANPT")


@dataclass(frozen=True, slots=True)
class StatusChange:
    """Letters to add and lift in one revision.

    Attributes:
        add: Letters to add or replace.
        lift: Letters to lift.
    """

    add: tuple[StatusLetter, ...]
    lift: tuple[str, ...]

    @property
    def basis(self) -> str:
        """Each letter has its own."""
        return ""

    def apply(self, license_: License, on: date) -> Changed:
        """Return the licence with the letters added and lifted.

        What follows from other facts is not set by hand: points bring B and the
        exam lifts it, the days bring M and R and renewal lifts them, and G is a
        cancellation.
        """
        broken = list(missing(Action.SET_STATUS, license_, on))
        for position, letter in enumerate(self.add):
            if letter.letter == "G":
                advice = "Cancel the licence instead of adding G."
                broken.append(Violation(f"add_letters[{position}]", "CANCELLATION_NEEDED", advice))
        require(tuple(broken))
        broken.extend(self._relaxed(license_))
        after = check_status_change(license_, self.add, self.lift, on)
        for position, code in enumerate(self.lift):
            if code == "B" and license_.points >= POINT_LIMIT:
                advice = "Record the passed exam instead: it clears the points and lifts B."
                broken.append(Violation(f"lift_letters[{position}]", "POINTS_REACHED", advice))
            if code in DERIVED and is_overdue(after, on):
                advice = "Renew the licence instead: it is past its last day."
                broken.append(Violation(f"lift_letters[{position}]", "LICENSE_OVERDUE", advice))
        require(tuple(broken))
        return Changed(after, LicenseEvent.STATUS_CHANGED)

    def _relaxed(self, license_: License) -> Iterator[Violation]:
        """Yield what would not restrict a licence that is offered to another city: lifted, replaced, put off."""
        carried = {letter.letter for letter in license_.status_letters}
        relaxing = [f"lift_letters[{position}]" for position in range(len(self.lift))] + [
            f"add_letters[{position}]"
            for position, letter in enumerate(self.add)
            if letter.letter in carried or letter.letter in _IN_FAVOUR
        ]
        if license_.offered_to_city:
            yield from (Violation(field, NOT_OFFERED.reason, NOT_OFFERED.advice) for field in relaxing)


def check_status_change(license_: License, add: Sequence[StatusLetter], lift: Sequence[str], on: date) -> License:
    """Return the licence with letters added and lifted, in alphabetical order.

    A letter that is carried already is replaced by the one added.  A gives way to any
    other letter by itself, so nobody has to lift it.

    Args:
        license_: The licence as it stands.
        add: Letters to add.
        lift: Letters to lift.
        on: Day of the change, in China.

    Raises:
        Malformed: The request contradicts itself or names a letter that this node does not know.
        IllegalTransition: The licence cannot change so: a letter that is not carried, one that
            ends the licence, a missing legal basis, or A beside others.
    """
    add, untermed = with_terms(add, "add_letters")
    faults = [*_request_faults(add, lift, on), *untermed]
    if faults:
        raise Malformed("the change of status contradicts itself; correct the fields named", violations=faults)
    carried = {letter.letter: letter for letter in license_.status_letters}
    broken = _illegal(carried, add, lift)
    if broken:
        raise IllegalTransition("the licence cannot change in this way; see what is missing", violations=broken)
    return replace(license_, status_letters=with_letters(license_.status_letters, add, lift))


def _request_faults(add: Sequence[StatusLetter], lift: Sequence[str], on: date) -> list[Violation]:
    """Return what is wrong with the request whatever the licence is."""
    faults: list[Violation] = []
    if not add and not lift:
        faults.append(Violation("", "NOTHING_TO_CHANGE", "Name at least one letter to add or to lift."))
    lifted = set(lift)
    if len(lifted) != len(lift):
        faults.append(Violation("lift_letters", "LETTER_REPEATED", "List each letter once."))
    added: set[str] = set()
    for position, letter in enumerate(add):
        field = f"add_letters[{position}]"
        code = letter.letter
        if not is_known(code):
            faults.append(Violation(f"{field}.letter", "LETTER_UNKNOWN", "Give a status letter of GA/T 16.25."))
        if code in added:
            faults.append(Violation(f"{field}.letter", "LETTER_REPEATED", "List each letter once."))
        if code in lifted:
            faults.append(Violation(f"{field}.letter", "LETTER_ADDED_AND_LIFTED", "Either add the letter or lift it."))
        added.add(code)
        if letter.end_date is not None:
            faults.extend(_end_faults(letter, letter.end_date, f"{field}.end_date", on))
    if NORMAL in added and len(added) > 1:
        faults.append(Violation("add_letters", "NORMAL_WITH_OTHERS", "Do not add the letter A beside others."))
    return faults


def _end_faults(letter: StatusLetter, end: date, field: str, on: date) -> Iterator[Violation]:
    if end < letter.start_date:
        yield Violation(field, "DATES_OUT_OF_ORDER", "Give a last day that is not before the first.")
    elif end < on:
        yield Violation(field, "LETTER_OVER", "Give a last day that is not before today, or none.")
    # With a last day it would lift itself.
    if letter_info(letter.letter).terminal:
        yield Violation(field, "TERMINAL_LETTER_ENDS", "Leave the last day out: the letter ends the licence.")


def _illegal(carried: dict[str, StatusLetter], add: Sequence[StatusLetter], lift: Sequence[str]) -> list[Violation]:
    """Return why this licence cannot take the change."""
    broken: list[Violation] = []
    for position, code in enumerate(lift):
        if code not in carried:
            advice = "Read the licence again: it does not carry the letter."
            broken.append(Violation(f"lift_letters[{position}]", "LETTER_NOT_CARRIED", advice))
        elif letter_info(code).terminal:
            broken.append(_terminal(f"lift_letters[{position}]"))
    for position, letter in enumerate(add):
        info = letter_info(letter.letter)
        # A replacement could move its first day, which would lift it for a while.
        if info.terminal and letter.letter in carried:
            broken.append(_terminal(f"add_letters[{position}]"))
        if info.needs_basis and not letter.legal_basis.strip():
            advice = "State the law and article on which the letter rests."
            broken.append(Violation(f"add_letters[{position}].legal_basis", "LEGAL_BASIS_MISSING", advice))
        if letter.letter == NORMAL and carried.keys() - set(lift) - {NORMAL}:
            advice = "Lift the other letters instead of adding A."
            broken.append(Violation(f"add_letters[{position}]", "NORMAL_WITH_OTHERS", advice))
    return broken


def _terminal(field: str) -> Violation:
    return Violation(field, "TERMINAL_LETTER", "Correct the record instead: the letter ended the licence and stays.")
