from __future__ import annotations

from dataclasses import replace
from datetime import date, timedelta
from typing import Any

import pytest

from elicense.errors import Violation
from elicense.license.eligibility import check_application
from elicense.license.model import (
    DocumentType,
    IdentityDocument,
    License,
    Photo,
    Sex,
    StatusLetter,
    Validity,
    ValidityKind,
    VehicleClass,
)
from elicense.license.periods import anniversary, earliest_capture
from tests.unit.license.samples import BIRTH, SUZHOU, TODAY, a_document, a_holder, a_license, letter


def broken(license_: License, *, on: date = TODAY, city: int = SUZHOU, imported: bool = False) -> dict[str, str]:
    """Return the reason by field."""
    violations = check_application(license_, on=on, city=city, imported=imported)
    return {violation.field.removeprefix("license."): violation.reason for violation in violations}


def issued_at(birth: date, first: date, *codes: str, on: date = TODAY) -> License:
    """A licence of someone born then whose classes all begin on the day of first issue."""
    return a_license(
        holder=a_holder(birth_date=birth, document=a_document(birth)),
        vehicle_classes=tuple(VehicleClass(code, first) for code in codes),
        first_issue_date=first,
        validity=Validity(ValidityKind.LONG_TERM, first),
        photo=Photo(bytes(32), on),
    )


def test_a_licence_in_order_breaks_no_rule() -> None:
    assert broken(a_license()) == {}
    assert broken(a_license(), imported=True) == {}


def test_every_broken_rule_is_named_at_once() -> None:
    bad = a_license(
        holder=a_holder(sex=Sex.FEMALE, birth_date=BIRTH + timedelta(days=1)),
        vehicle_classes=(VehicleClass("C1", date(2001, 1, 1)), VehicleClass("C9", date(2011, 1, 1))),
        first_issue_date=date(2001, 1, 1),
        validity=Validity(ValidityKind.SIX_YEARS, date(2014, 1, 1), date(2020, 1, 1)),
        archive_number="110112345678",
        division_code="510100",
        photo=Photo(bytes(32), date(2020, 1, 1)),
        status_letters=(letter("J"), letter("Q")),
        points=12,
    )
    assert broken(bad) == {
        "holder.sex": "SEX_MISMATCH",
        "holder.birth_date": "BIRTH_DATE_MISMATCH",
        "vehicle_classes[0]": "CLASS_TOO_YOUNG",
        "vehicle_classes[1]": "CLASS_UNKNOWN",
        "validity.until_date": "LICENSE_EXPIRED",
        "archive_number": "ARCHIVE_PREFIX_WRONG",
        "division_code": "DIVISION_OUTSIDE_CITY",
        "photo.capture_date": "PHOTO_TOO_OLD",
        "status_letters[0]": "LETTER_BARS_ISSUE",
        "status_letters[1]": "LETTER_UNKNOWN",
        "points": "POINTS_REACHED",
    }


def test_no_message_repeats_what_the_record_says() -> None:
    bad = a_license(
        holder=a_holder(document=IdentityDocument(DocumentType.RESIDENT_ID, "12345")),
        vehicle_classes=(VehicleClass("Y9", TODAY),),
        archive_number="990112345678",
        status_letters=(letter("L"),),
    )
    violations = check_application(bad, on=TODAY, city=SUZHOU, imported=False)
    assert violations
    for violation in violations:
        assert violation.message.endswith(".")
        for personal in ("12345", "王", "Y9", "9901", "1985", " L "):
            assert personal not in violation.message


@pytest.mark.parametrize(
    ("on", "earliest"),
    [
        (date(2021, 6, 1), date(2020, 12, 1)),
        (date(2021, 8, 31), date(2021, 2, 28)),
        (date(2020, 8, 31), date(2020, 2, 29)),
        (date(2021, 12, 31), date(2021, 6, 30)),
        (date(2021, 1, 15), date(2020, 7, 15)),
        (date(2021, 5, 31), date(2020, 11, 30)),
    ],
)
def test_a_photo_may_be_six_calendar_months_old(on: date, earliest: date) -> None:
    assert earliest_capture(on) == earliest
    for captured, reason in (
        (earliest - timedelta(days=1), "PHOTO_TOO_OLD"),
        (earliest, None),
        (on, None),
        (on + timedelta(days=1), "PHOTO_IN_FUTURE"),
    ):
        for imported in (False, True):
            found = broken(a_license(photo=Photo(bytes(32), captured)), on=on, imported=imported)
            assert found.get("photo.capture_date") == reason, captured


@pytest.mark.parametrize(
    ("code", "age", "on", "reason"),
    [
        ("C1", 17, date(2021, 6, 1), "CLASS_TOO_YOUNG"),
        ("C1", 18, date(2021, 6, 1), None),
        ("C1", 71, date(2020, 11, 19), "CLASS_TOO_OLD"),
        ("C1", 71, date(2020, 11, 20), None),
        ("B2", 50, date(2021, 6, 1), None),
        ("B2", 51, date(2021, 6, 1), "CLASS_TOO_OLD"),
        ("B2", 51, date(2022, 4, 1), None),
        ("D", 61, date(2024, 12, 31), "CLASS_TOO_OLD"),
        ("D", 61, date(2025, 1, 1), None),
        ("A3", 19, date(2025, 1, 1), "CLASS_TOO_YOUNG"),
        ("B2", 63, date(2025, 1, 1), None),
        ("B2", 64, date(2025, 1, 1), "CLASS_TOO_OLD"),
        ("A3", 18, date(2012, 12, 31), None),
    ],
)
def test_age_is_judged_by_the_law_of_the_day_on_which_the_class_was_first_held(
    code: str, age: int, on: date, reason: str | None
) -> None:
    birth = on.replace(year=on.year - age)
    assert broken(issued_at(birth, on, code, on=on), on=on).get("vehicle_classes[0]") == reason
    # Years later the same class is judged by the same law.
    later = on + timedelta(days=800)
    assert broken(issued_at(birth, on, code, on=later), on=later).get("vehicle_classes[0]") == reason


def test_age_is_reached_on_the_birthday_itself() -> None:
    birth = date(2003, 6, 2)
    assert broken(issued_at(birth, date(2021, 6, 1), "C1")) == {"vehicle_classes[0]": "CLASS_TOO_YOUNG"}
    assert broken(issued_at(birth, date(2021, 6, 2), "C1"), on=date(2021, 6, 2)) == {}


def test_an_import_grants_the_age_of_vocational_students() -> None:
    on = date(2022, 6, 1)
    student = issued_at(date(2002, 1, 1), on, "C1", "A2", on=on)
    assert broken(student, on=on)["vehicle_classes[1]"] == "CLASS_TOO_YOUNG"
    assert broken(student, on=on, imported=True) == {}


@pytest.mark.parametrize("code", ["A1", "A2", "B1", "C6"])
def test_a_class_reached_by_upgrade_is_nobodys_first_licence(code: str) -> None:
    on = date(2022, 6, 1)
    license_ = issued_at(date(1985, 1, 1), on, code, on=on)
    assert broken(license_, on=on) == {"vehicle_classes[0]": "CLASS_NEEDS_UPGRADE"}
    assert broken(license_, on=on, imported=True) == {}
    upgraded = replace(license_, first_issue_date=date(2015, 1, 1))
    assert broken(upgraded, on=on) == {}


def test_a_class_is_not_older_than_the_law_that_made_it() -> None:
    license_ = a_license(vehicle_classes=(VehicleClass("C6", date(2022, 3, 31)),))
    assert broken(license_, on=date(2022, 5, 1))["vehicle_classes[0]"] == "CLASS_NOT_INTRODUCED"


@pytest.mark.parametrize(
    ("changes", "field", "reason"),
    [
        ({"vehicle_classes": (VehicleClass("C1", date(2010, 6, 3)),) * 2}, "vehicle_classes[1]", "CLASS_REPEATED"),
        ({"vehicle_classes": (VehicleClass("C1", date(2010, 6, 2)),)}, "vehicle_classes[0]", "DATES_OUT_OF_ORDER"),
        ({"vehicle_classes": (VehicleClass("C1", date(2021, 6, 2)),)}, "vehicle_classes[0]", "DATE_IN_FUTURE"),
        (
            {"vehicle_classes": (VehicleClass("C1", date(2012, 1, 1), date(2011, 1, 1)),)},
            "vehicle_classes[0].until_date",
            "DATES_OUT_OF_ORDER",
        ),
        (
            {"vehicle_classes": (VehicleClass("C1", date(2012, 1, 1), date(2021, 5, 31)),)},
            "vehicle_classes",
            "NO_CLASS_HELD",
        ),
        ({"vehicle_classes": ()}, "vehicle_classes", "NO_CLASS_HELD"),
        ({"first_issue_date": date(2021, 6, 2)}, "first_issue_date", "DATE_IN_FUTURE"),
        ({"first_issue_date": BIRTH}, "first_issue_date", "DATES_OUT_OF_ORDER"),
        ({"archive_number": "320612345678"}, "archive_number", "ARCHIVE_PREFIX_WRONG"),
        ({"division_code": "320600"}, "division_code", "DIVISION_OUTSIDE_CITY"),
        ({"points": 12}, "points", "POINTS_REACHED"),
        ({"status_letters": (letter("A"), letter("H"))}, "status_letters", "NORMAL_WITH_OTHERS"),
        ({"status_letters": (letter("H"), letter("H"))}, "status_letters[1]", "LETTER_REPEATED"),
        (
            {"status_letters": (letter("H", date(2021, 2, 1), date(2021, 1, 31)),)},
            "status_letters[0].end_date",
            "DATES_OUT_OF_ORDER",
        ),
    ],
)
def test_each_rule_names_its_field(changes: dict[str, Any], field: str, reason: str) -> None:
    assert broken(a_license(**changes)).get(field) == reason


@pytest.mark.parametrize("changes", [{"points": 11}, {"status_letters": (letter("A"),)}, {"division_code": "320505"}])
def test_what_is_within_the_rules_passes(changes: dict[str, Any]) -> None:
    assert broken(a_license(**changes)) == {}


@pytest.mark.parametrize(
    ("kind", "start", "until", "expected"),
    [
        (ValidityKind.SIX_YEARS, date(2016, 6, 3), date(2022, 6, 3), {}),
        (ValidityKind.SIX_YEARS, date(2016, 6, 3), date(2022, 6, 2), {}),
        (ValidityKind.SIX_YEARS, date(2016, 6, 3), date(2022, 6, 1), {"until_date": "VALIDITY_LENGTH_WRONG"}),
        (ValidityKind.SIX_YEARS, date(2016, 6, 3), date(2022, 9, 2), {"until_date": "VALIDITY_LENGTH_WRONG"}),
        (ValidityKind.SIX_YEARS, date(2016, 6, 3), date(2026, 6, 3), {"until_date": "VALIDITY_LENGTH_WRONG"}),
        (ValidityKind.SIX_YEARS, date(2016, 2, 29), date(2022, 2, 28), {}),
        (ValidityKind.SIX_YEARS, date(2016, 2, 29), date(2022, 3, 1), {}),
        (ValidityKind.SIX_YEARS, date(2015, 6, 1), date(2021, 6, 1), {}),
        (ValidityKind.SIX_YEARS, date(2015, 5, 31), date(2021, 5, 31), {"until_date": "LICENSE_EXPIRED"}),
        (ValidityKind.TEN_YEARS, date(2016, 6, 3), None, {"until_date": "VALIDITY_END_MISSING"}),
        (ValidityKind.LONG_TERM, date(2016, 6, 3), None, {}),
        (ValidityKind.LONG_TERM, date(2016, 6, 3), date(2026, 6, 3), {"until_date": "VALIDITY_END_GIVEN"}),
        (ValidityKind.TEN_YEARS, date(2021, 6, 2), date(2031, 6, 2), {"from_date": "LICENSE_NOT_YET_VALID"}),
        (ValidityKind.LONG_TERM, date(2010, 6, 2), None, {"from_date": "DATES_OUT_OF_ORDER"}),
    ],
)
def test_validity_has_the_length_of_its_kind_and_covers_the_day(
    kind: ValidityKind, start: date, until: date | None, expected: dict[str, str]
) -> None:
    found = broken(a_license(validity=Validity(kind, start, until)))
    assert found == {f"validity.{field}": reason for field, reason in expected.items()}


def test_the_end_of_the_calendar_breaks_nothing() -> None:
    assert anniversary(date(9999, 1, 1), 6) == date.max
    assert "validity.until_date" in broken(
        a_license(validity=Validity(ValidityKind.SIX_YEARS, date(9998, 1, 1), date(9999, 1, 1)))
    )


@pytest.mark.parametrize("code", "BCDEFGJKLMRSUZ")
def test_a_barring_letter_keeps_the_licence_from_being_issued_while_it_is_in_effect(code: str) -> None:
    for entry, barred in (
        (letter(code), True),
        (letter(code, TODAY, TODAY), True),
        # One that ends the licence does so whenever it stands there.
        (letter(code, TODAY + timedelta(days=1)), code in "EFG"),
        (letter(code, date(2021, 1, 1), TODAY - timedelta(days=1)), code in "EFG"),
    ):
        found = broken(a_license(status_letters=(entry,)))
        assert found == ({"status_letters[0]": "LETTER_BARS_ISSUE"} if barred else {})


@pytest.mark.parametrize("code", "AHINPT")
def test_an_open_violation_or_accident_does_not_keep_it(code: str) -> None:
    assert broken(a_license(status_letters=(letter(code),))) == {}


@pytest.mark.parametrize("city", [120000, 320500])
def test_an_unknown_letter_fails_safe(city: int) -> None:
    assert (
        "LETTER_UNKNOWN" in broken(a_license(status_letters=(StatusLetter("O", date(2030, 1, 1)),)), city=city).values()
    )


@pytest.mark.parametrize(
    ("division", "archive", "expected"),
    [
        ("120000", "120112345678", {}),
        ("120105", "120112345678", {}),
        ("120119", "120012345678", {}),
        ("120000", "110112345678", {"archive_number": "ARCHIVE_PREFIX_WRONG"}),
        ("110000", "110112345678", {"division_code": "DIVISION_OUTSIDE_CITY"}),
    ],
)
def test_offices_of_a_municipality_share_two_digits(division: str, archive: str, expected: dict[str, str]) -> None:
    assert broken(a_license(division_code=division, archive_number=archive), city=120000) == expected


def test_a_foreign_holder_has_no_birth_date_in_the_number() -> None:
    document = IdentityDocument(DocumentType.PASSPORT, "E12345678")
    assert broken(a_license(holder=a_holder(document=document, nationality="DE"))) == {}


def test_a_wrong_number_is_blamed_alone_not_what_it_would_say() -> None:
    document = IdentityDocument(DocumentType.RESIDENT_ID, "11010519491231002x")
    found = check_application(a_license(holder=a_holder(document=document)), on=TODAY, city=SUZHOU, imported=False)
    assert [type(violation) for violation in found] == [Violation]
    assert found[0].reason == "DOCUMENT_NUMBER_INVALID"
