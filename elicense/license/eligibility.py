"""Who may be issued an electronic licence: every rule, checked all at once, as the law stood on the day.

Pure: the day and the city come by argument.  A licence that breaks rules gets one
violation for each, so that a clerk corrects them in one go.  No message repeats
what the holder's record says.

The same rules bind a single issue and an import.  An import carries in what older
law allowed, so two rules that a record alone cannot answer for the past are left to
the office that issued the paper licence: whether a driver was a vocational student,
and by which upgrade a class was reached.
"""

from __future__ import annotations

from datetime import date
from typing import Final

from elicense.errors import Violation
from elicense.license.divisions import area_prefix
from elicense.license.document import document_violation, resident_birth_date, resident_sex
from elicense.license.model import DocumentType, Holder, License, StatusLetter, Validity, ValidityKind, VehicleClass
from elicense.license.periods import anniversary, earliest_capture
from elicense.license.status_letters import is_known, letter_info
from elicense.license.vehicle_classes import CLASSES, age_rule, completed_years

POINT_LIMIT: Final = 12
"""Points in a cycle at which the right to drive is lost until the exam is passed."""

RENEWAL_DAYS: Final = 90
"""A licence may be renewed from this many days before its last day."""

_YEARS: Final = {int(ValidityKind.SIX_YEARS): 6, int(ValidityKind.TEN_YEARS): 10}
_RESIDENT: Final = int(DocumentType.RESIDENT_ID)


def check_application(license_: License, *, on: date, city: int, imported: bool) -> tuple[Violation, ...]:
    """Return every rule that keeps this licence from being issued; none means eligible.

    Expects a licence in the right form (:mod:`elicense.license.shape`) with its document
    in normal form (:func:`elicense.license.document.normalize_document`).

    Args:
        license_: The licence applied for, or carried in.
        on: Day of the application, in China.
        city: Division code of the city that issues.
        imported: The driver holds the licence already and is carried into the log.

    Returns:
        Violations with field paths such as ``license.photo.capture_date``.
    """
    broken: list[Violation] = []
    holder = license_.holder
    first_issue = license_.first_issue_date
    _check_holder(holder, first_issue, on, broken)
    check_classes(license_.vehicle_classes, holder.birth_date, first_issue, on, imported, broken)
    check_validity(license_.validity, first_issue, on, broken)
    check_photo(license_.photo.capture_date, on, broken)
    check_office(license_.division_code, license_.archive_number, city, broken)
    if license_.points >= POINT_LIMIT:
        broken.append(
            Violation(
                "license.points", "POINTS_REACHED", "Issue after the holder has passed the exam and points are cleared."
            )
        )
    if license_.points_limit_date is not None and license_.points_limit_date > on:
        broken.append(Violation("license.points_limit_date", "DATE_IN_FUTURE", "Give a day that is not after today."))
    if license_.status_letters:
        check_letters(license_.status_letters, on, broken)
    return tuple(broken)


_OF_THE_DAY: Final = frozenset({"LICENSE_EXPIRED", "PHOTO_TOO_OLD", "LETTER_BARS_ISSUE", "NO_CLASS_HELD"})


def check_consistency(license_: License, *, on: date, city: int) -> tuple[Violation, ...]:
    """Return every rule that a licence breaks which was issued before, in whatever state it is by now.

    Expects what :func:`check_application` expects, and leaves out the rules that only hold on the day of issue.
    """
    broken: list[Violation] = []
    _check_holder(license_.holder, license_.first_issue_date, on, broken)
    check_classes(license_.vehicle_classes, license_.holder.birth_date, license_.first_issue_date, on, True, broken)
    check_validity(license_.validity, license_.first_issue_date, on, broken)
    check_photo(license_.photo.capture_date, on, broken)
    check_office(license_.division_code, license_.archive_number, city, broken)
    check_letters(license_.status_letters, on, broken)
    return tuple(violation for violation in broken if violation.reason not in _OF_THE_DAY)


def photo_violation(captured: date, on: date, field: str) -> tuple[Violation, ...]:
    """Return what is wrong with the age of a new portrait, if anything."""
    broken: list[Violation] = []
    check_photo(captured, on, broken)
    return tuple(Violation(field, violation.reason, violation.message) for violation in broken)


def _check_holder(holder: Holder, first_issue: date, on: date, broken: list[Violation]) -> None:
    document = holder.document
    wrong = document_violation(document, "license.holder.document")
    if wrong is not None:
        broken.append(wrong)
    elif document.type == _RESIDENT:
        if resident_birth_date(document.number) != holder.birth_date:
            broken.append(
                Violation(
                    "license.holder.birth_date",
                    "BIRTH_DATE_MISMATCH",
                    "Give the date of birth that the identity number states.",
                )
            )
        if resident_sex(document.number) != holder.sex:
            broken.append(
                Violation("license.holder.sex", "SEX_MISMATCH", "Give the sex that the identity number states.")
            )
    if first_issue > on:
        broken.append(
            Violation(
                "license.first_issue_date", "DATE_IN_FUTURE", "Give a day of first issue that is not after today."
            )
        )
    if holder.birth_date >= first_issue:
        broken.append(
            Violation(
                "license.first_issue_date", "DATES_OUT_OF_ORDER", "Give a day of first issue after the date of birth."
            )
        )


def check_classes(
    classes: tuple[VehicleClass, ...],
    birth: date,
    first_issue: date,
    on: date,
    imported: bool,
    broken: list[Violation],
) -> None:
    """Add to ``broken`` what is wrong with the classes of a holder who was born on ``birth``."""
    seen: set[str] = set()
    held_now = False
    for position, held in enumerate(classes):
        start = held.from_date
        until = held.until_date
        if until is None or until >= on:
            held_now = True
        reason = "CLASS_REPEATED"
        if held.code not in seen:
            reason = class_reason(held.code, start, birth, first_issue, on, imported)
        if reason:
            broken.append(Violation(f"license.vehicle_classes[{position}]", reason, _CLASS_ADVICE[reason]))
        if until is not None and until < start:
            field = f"license.vehicle_classes[{position}].until_date"
            broken.append(Violation(field, "DATES_OUT_OF_ORDER", "Give a last day that is not before the first."))
        seen.add(held.code)
    if not held_now:
        broken.append(
            Violation("license.vehicle_classes", "NO_CLASS_HELD", "Give at least one class that is held today.")
        )


_CLASS_ADVICE: Final = {
    "CLASS_REPEATED": "List each class once.",
    "CLASS_UNKNOWN": "Give a class of the law: A1 to A3, B1, B2, C1 to C6, D, E, F, M, N or P.",
    "DATE_IN_FUTURE": "Give a first day of the class that is not after today.",
    "DATES_OUT_OF_ORDER": "Give a first day of the class that is not before the day of first issue.",
    "CLASS_NOT_INTRODUCED": "Give a first day of the class on which the law knew it.",
    "CLASS_TOO_YOUNG": "Leave the class out: the holder was below its lowest age on the day it was first held.",
    "CLASS_TOO_OLD": "Leave the class out: the holder was above its highest age on the day it was first held.",
    "CLASS_NEEDS_UPGRADE": "Leave the class out: it is reached by upgrade only and cannot be a first licence.",
}


def class_reason(code: str, start: date, birth: date, first_issue: date, on: date, imported: bool) -> str:
    """Return why a class cannot be held since ``start``, its first day, or nothing."""
    info = CLASSES.get(code)
    if info is None:
        return "CLASS_UNKNOWN"
    if start > on:
        return "DATE_IN_FUTURE"
    if start < first_issue:
        return "DATES_OUT_OF_ORDER"
    if info.since is not None and start < info.since:
        return "CLASS_NOT_INTRODUCED"
    if birth < start:
        rule = age_rule(code, start)
        age = completed_years(birth, start)
        if age < (rule.student if imported else rule.youngest):
            return "CLASS_TOO_YOUNG"
        if rule.oldest and age > rule.oldest:
            return "CLASS_TOO_OLD"
    if start == first_issue and not info.first and not imported:
        return "CLASS_NEEDS_UPGRADE"
    return ""


def check_validity(validity: Validity, first_issue: date, on: date, broken: list[Violation]) -> None:
    """Add to ``broken`` what is wrong with the validity of a licence that was first issued on ``first_issue``.

    Of that day it matters only whether it is before, on or after the first one of the validity.
    """
    start = validity.from_date
    until = validity.until_date
    years = _YEARS.get(validity.kind, 0)
    if start < first_issue:
        broken.append(
            Violation(
                "license.validity.from_date",
                "DATES_OUT_OF_ORDER",
                "Give a first day that is not before the day of first issue.",
            )
        )
    if start > on:
        broken.append(
            Violation(
                "license.validity.from_date", "LICENSE_NOT_YET_VALID", "Issue on or after the first day of validity."
            )
        )
    if until is None:
        if years:
            broken.append(
                Violation(
                    "license.validity.until_date", "VALIDITY_END_MISSING", "Give the last day; only long-term has none."
                )
            )
        return
    if until < on:
        broken.append(
            Violation("license.validity.until_date", "LICENSE_EXPIRED", "Renew the licence before it is issued here.")
        )
    if not years:
        broken.append(
            Violation(
                "license.validity.until_date", "VALIDITY_END_GIVEN", "Leave the last day out of a long-term licence."
            )
        )
    elif not -_carried_over(start, first_issue) <= (anniversary(start, years) - until).days <= 1:
        broken.append(
            Violation(
                "license.validity.until_date",
                "VALIDITY_LENGTH_WRONG",
                "Give the last day that belongs to the kind: six or ten years after the first.",
            )
        )


def _carried_over(start: date, first_issue: date) -> int:
    """Return how many days a validity may be longer than its kind: who renews early keeps the days that were left."""
    return RENEWAL_DAYS if start > first_issue else 0


def check_photo(captured: date, on: date, broken: list[Violation]) -> None:
    """Add to ``broken`` what is wrong with the age of a portrait."""
    if captured > on:
        broken.append(
            Violation("license.photo.capture_date", "PHOTO_IN_FUTURE", "Give a day of capture that is not after today.")
        )
    elif captured < earliest_capture(on):
        broken.append(
            Violation(
                "license.photo.capture_date", "PHOTO_TOO_OLD", "Take a new photo: it must be of the last six months."
            )
        )


def check_office(division_code: str, archive_number: str, city: int, broken: list[Violation]) -> None:
    """Add to ``broken`` what is wrong with the office that keeps a licence in ``city``.

    Of the archive number no more counts than its first six digits.
    """
    area = area_prefix(city)
    if not division_code.startswith(area):
        broken.append(
            Violation(
                "license.division_code",
                "DIVISION_OUTSIDE_CITY",
                "Issue at the city that the issuing authority belongs to.",
            )
        )
    # An office of a municipality may file under the municipality or under any of its districts.
    shared = len(area)
    if archive_number[:shared] != division_code[:shared]:
        broken.append(
            Violation(
                "license.archive_number",
                "ARCHIVE_PREFIX_WRONG",
                "Give the archive number whose first digits are those of the issuing authority's division.",
            )
        )


def check_letters(letters: tuple[StatusLetter, ...], on: date, broken: list[Violation]) -> None:
    """Add to ``broken`` what is wrong with status letters."""
    seen: set[str] = set()
    for position, letter in enumerate(letters):
        field = f"license.status_letters[{position}]"
        code = letter.letter
        end = letter.end_date
        if code in seen:
            broken.append(Violation(field, "LETTER_REPEATED", "List each status letter once."))
        seen.add(code)
        if end is not None and end < letter.start_date:
            broken.append(
                Violation(field + ".end_date", "DATES_OUT_OF_ORDER", "Give a last day that is not before the first.")
            )
        if not is_known(code):
            broken.append(Violation(field, "LETTER_UNKNOWN", "Give a status letter of GA/T 16.25."))
        elif (info := letter_info(code)).bars_electronic and (
            info.terminal or (letter.start_date <= on and (end is None or on <= end))
        ):
            broken.append(Violation(field, "LETTER_BARS_ISSUE", "Issue after the status letter has been lifted."))
    if "A" in seen and len(seen) > 1:
        broken.append(
            Violation("license.status_letters", "NORMAL_WITH_OTHERS", "Leave out the letter A where there are others.")
        )
