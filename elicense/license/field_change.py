"""Changing single fields of a licence: what a holder may have changed, and what a correction puts right."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import date
from typing import Any, Final

from elicense.errors import IllegalTransition, Malformed, Violation
from elicense.license.bans import is_final, keeps_revocation, with_terms
from elicense.license.change import Changed, with_letters
from elicense.license.eligibility import check_consistency, photo_violation
from elicense.license.expiry import DERIVED
from elicense.license.model import License, LicenseEvent
from elicense.license.points import next_cycle
from elicense.license.renewal import is_overdue
from elicense.license.transitions import Action, missing, require

UPDATABLE: Final = frozenset(
    {
        "holder.full_name",
        "holder.family_name_latin",
        "holder.given_name_latin",
        "holder.address",
        "holder.nationality",
        "photo",
    }
)
"""Fields that may change during a licence's life."""

CORRECTABLE: Final = UPDATABLE | {
    "holder.sex",
    "holder.birth_date",
    "vehicle_classes",
    "first_issue_date",
    "validity",
    "archive_number",
    "issuing_authority",
    "division_code",
    "status_letters",
    "points",
    "points_limit_date",
}
"""Fields that may have been recorded wrongly; not the document, which makes another person."""


@dataclass(frozen=True, slots=True)
class Update:
    """New values of fields that may change.

    Attributes:
        license: The licence that holds the new values.
        fields: Paths of the fields to take from it.
    """

    license: License
    fields: tuple[str, ...]

    @property
    def basis(self) -> str:
        """The fields speak for themselves."""
        return ""

    def apply(self, license_: License, on: date) -> Changed:
        """Return the licence with the new values."""
        _check_paths(self.fields, UPDATABLE)
        broken = list(missing(Action.UPDATE, license_, on))
        if "photo" in self.fields:
            broken.extend(photo_violation(self.license.photo.capture_date, on, "license.photo.capture_date"))
        require(tuple(broken))
        return Changed(_with_fields(license_, self.license, self.fields), LicenseEvent.UPDATED)


@dataclass(frozen=True, slots=True)
class FieldCorrection:
    """Right values of fields that were recorded wrongly.

    Attributes:
        license: The licence that holds the right values.
        fields: Paths of the fields to take from it.
        city: Division code of the city in custody.
        revision: Number of the wrong revision.
        reason: Why it was wrong.
    """

    license: License
    fields: tuple[str, ...]
    city: int
    revision: int
    reason: str

    @property
    def basis(self) -> str:
        """The correction itself says why."""
        return ""

    def apply(self, license_: License, on: date) -> Changed:
        """Return the licence put right; it may break no rule that it did not break before."""
        _check_paths(self.fields, CORRECTABLE)
        after, faults = _with_terms(_with_fields(license_, self.license, self.fields), license_)
        if "points" in self.fields:
            after = replace(after, points_roll_date=_roll_of(after, on))
        if "status_letters" not in self.fields and is_overdue(license_, on) and not is_overdue(after, on):
            # They stood for an end that was recorded wrongly.
            after = replace(after, status_letters=with_letters(after.status_letters, [], DERIVED))
        broken = [*missing(Action.CORRECT, license_, on), *faults]
        if any(letter.letter == "G" for letter in after.status_letters):
            advice = "Cancel the licence with a cancellation of its own."
            broken.append(Violation("license.status_letters", "CANCELLATION_NEEDED", advice))
        kept = keeps_revocation(license_.status_letters, after.status_letters)
        if not kept and is_final(license_.status_letters, on):
            # Another city may have licensed the person by now, and only one licence may count.
            advice = "Leave E and F as they are: the bar is over. Issue a new licence, which finds any other one."
            broken.append(Violation("license.status_letters", "BAR_OVER", advice))
        known = set(check_consistency(license_, on=on, city=self.city))
        broken += [each for each in check_consistency(after, on=on, city=self.city) if each not in known]
        if after == license_:
            broken.append(Violation("license", "NOTHING_TO_CORRECT", "Give values that differ from those recorded."))
        if broken:
            raise IllegalTransition("the licence cannot be corrected so; see what is wrong", violations=broken)
        return Changed(after, LicenseEvent.CORRECTED)


def _with_terms(after: License, before: License) -> tuple[License, list[Violation]]:
    """Return the licence with the bars of its letters completed, and what they lack."""
    letters, faults = with_terms(after.status_letters, "license.status_letters", before.status_letters)
    return (replace(after, status_letters=letters) if letters != after.status_letters else after), faults


def _roll_of(license_: License, on: date) -> date | None:
    return next_cycle(license_.first_issue_date, on) if license_.points else None


def _check_paths(paths: Sequence[str], known: frozenset[str]) -> None:
    faults = [
        Violation("update_mask", "FIELD_NOT_CHANGEABLE", f"Leave {path[:60]!r} out: it can not be changed so.")
        for path in paths
        if path not in known
    ]
    if not paths:
        faults.append(Violation("update_mask", "NOTHING_TO_CHANGE", "Name at least one field."))
    if faults:
        raise Malformed("the update mask names fields that can not be changed so", violations=faults)


def _with_fields(license_: License, values: License, paths: Iterable[str]) -> License:
    holder: dict[str, Any] = {}
    own: dict[str, Any] = {}
    for path in paths:
        first, _, second = path.partition(".")
        if second:
            holder[second] = getattr(values.holder, second)
        else:
            own[first] = getattr(values, first)
    return replace(license_, holder=replace(license_.holder, **holder), **own)
