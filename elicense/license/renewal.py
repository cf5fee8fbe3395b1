"""Renewing a licence: six years, then ten, then long-term."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import date
from typing import Final

from elicense.errors import Violation
from elicense.license.change import Changed, in_effect, with_letters
from elicense.license.eligibility import photo_violation
from elicense.license.expiry import DERIVED, PUT_OFF, first_day_without
from elicense.license.model import License, LicenseEvent, Photo, Validity, ValidityKind
from elicense.license.periods import anniversary
from elicense.license.transitions import Action, missing, require

_YEARS: Final = {ValidityKind.SIX_YEARS: 6, ValidityKind.TEN_YEARS: 10}
_LONGER: Final = {
    ValidityKind.SIX_YEARS: ValidityKind.TEN_YEARS,
    ValidityKind.TEN_YEARS: ValidityKind.LONG_TERM,
}


def renewed_validity(license_: License, on: date) -> Validity:
    """Return the validity that a renewal gives.

    The next longer kind when no cycle of the running validity had twelve points,
    else the same kind again.  Whoever renews early keeps the days that are left.
    """
    before = license_.validity
    full = license_.points_limit_date
    kind = ValidityKind(before.kind)
    if full is None or full < before.from_date:
        kind = _LONGER.get(kind, ValidityKind.LONG_TERM)
    if kind is ValidityKind.LONG_TERM:
        return Validity(kind, on)
    until = before.until_date
    return Validity(kind, on, anniversary(on if until is None or until < on else until, _YEARS[kind]))


@dataclass(frozen=True, slots=True)
class Renewal:
    """A renewal.

    Attributes:
        exam_passed: Whether the exam was passed that restores a licence with R.
        photo: New portrait; None keeps the old one.
    """

    exam_passed: bool = False
    photo: Photo | None = None

    @property
    def basis(self) -> str:
        """Nothing but the law itself."""
        return ""

    def apply(self, license_: License, on: date) -> Changed:
        """Return the licence with a new validity and without M, N and R."""
        broken = list(missing(Action.RENEW, license_, on))
        if "R" in in_effect(license_.status_letters, on) and not self.exam_passed:
            advice = "Have the exam passed that restores the licence, and say so."
            broken.append(Violation("exam_passed", "EXAM_MISSING", advice))
        if self.photo is not None:
            broken.extend(photo_violation(self.photo.capture_date, on, "photo.capture_date"))
        require(tuple(broken))
        after = replace(
            license_,
            validity=renewed_validity(license_, on),
            status_letters=with_letters(license_.status_letters, [], [*DERIVED, PUT_OFF]),
            photo=license_.photo if self.photo is None else self.photo,
        )
        return Changed(after, LicenseEvent.RENEWED)


def is_overdue(license_: License, on: date) -> bool:
    """Whether the last day of validity is over and no leave puts it off."""
    first = first_day_without(license_.validity, license_.status_letters)
    return first is not None and on >= first
