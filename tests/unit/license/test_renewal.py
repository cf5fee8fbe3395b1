from __future__ import annotations

from dataclasses import replace
from datetime import date

import pytest

from elicense.errors import IllegalTransition, Malformed
from elicense.license.class_change import AddedClass, ClassChange
from elicense.license.eligibility import check_consistency
from elicense.license.field_change import FieldCorrection, Update
from elicense.license.model import IdentityDocument, License, Photo, Validity, ValidityKind, VehicleClass
from elicense.license.renewal import Renewal
from tests.unit.license.samples import SUZHOU, a_holder, a_license, letter

SIX, TEN, LONG = ValidityKind.SIX_YEARS, ValidityKind.TEN_YEARS, ValidityKind.LONG_TERM
LAST = date(2021, 6, 3)
ON = date(2021, 5, 1)


def expiring(kind: ValidityKind = SIX, last: date = LAST, **changes: object) -> License:
    years = 6 if kind is SIX else 10
    return a_license(validity=Validity(kind, last.replace(year=last.year - years), last), **changes)


def reasons(change: Renewal | ClassChange | Update | FieldCorrection, license_: License, on: date) -> set[str]:
    with pytest.raises((IllegalTransition, Malformed)) as refused:
        change.apply(license_, on)
    return {violation.reason for violation in refused.value.violations}


@pytest.mark.parametrize(
    ("kind", "full", "after"),
    [
        (SIX, None, Validity(TEN, ON, date(2031, 6, 3))),
        (TEN, None, Validity(LONG, ON)),
        (SIX, date(2018, 1, 1), Validity(SIX, ON, date(2027, 6, 3))),
        (TEN, date(2018, 1, 1), Validity(TEN, ON, date(2031, 6, 3))),
        (SIX, date(2014, 1, 1), Validity(TEN, ON, date(2031, 6, 3))),
        (TEN, date(2011, 6, 2), Validity(LONG, ON)),
    ],
)
def test_six_years_become_ten_and_ten_long_term_unless_twelve_points_were_reached(
    kind: ValidityKind, full: date | None, after: Validity
) -> None:
    renewed = Renewal().apply(expiring(kind, points_limit_date=full), ON).license
    assert renewed.validity == after
    assert check_consistency(renewed, on=ON, city=SUZHOU) == ()


@pytest.mark.parametrize(
    ("on", "allowed"),
    [(date(2021, 3, 4), False), (date(2021, 3, 5), True), (LAST, True), (date(2024, 6, 1), True)],
)
def test_the_window_opens_ninety_days_before_the_end(on: date, allowed: bool) -> None:
    if allowed:
        assert Renewal().apply(expiring(), on).license.validity.from_date == on
    else:
        assert reasons(Renewal(), expiring(), on) == {"RENEWAL_TOO_EARLY"}


def test_a_late_renewal_starts_on_its_day_and_clears_m() -> None:
    late = date(2021, 9, 1)
    overdue = expiring(status_letters=(letter("M", date(2021, 6, 4)), letter("P")))
    renewed = Renewal(photo=Photo(bytes(32), late)).apply(overdue, late).license
    assert renewed.validity == Validity(TEN, late, date(2031, 9, 1))
    assert [each.letter for each in renewed.status_letters] == ["P"]
    assert renewed.photo.capture_date == late


def test_r_is_restored_by_the_exam_alone() -> None:
    on = date(2022, 9, 1)
    restorable = expiring(status_letters=(letter("R", date(2022, 6, 4)),))
    assert reasons(Renewal(), restorable, on) == {"EXAM_MISSING"}
    assert Renewal(exam_passed=True).apply(restorable, on).license.status_letters == ()


def test_an_old_portrait_does_not_renew() -> None:
    assert reasons(Renewal(photo=Photo(bytes(32), date(2020, 1, 1))), expiring(), ON) == {"PHOTO_TOO_OLD"}


def holding(*codes: str, since: date = date(2010, 6, 3), **changes: object) -> License:
    return a_license(vehicle_classes=tuple(VehicleClass(code, since) for code in codes), **changes)


@pytest.mark.parametrize(
    ("held", "withdraw", "add", "expected"),
    [
        ("A1 C1", "A1", "", "C1"),
        ("A1", "A1", "B1", "B1"),
        ("C1", "", "B2", "C1 B2"),
        ("B1", "", "A1", "B1 A1"),
        ("C1", "", "C6", "C1 C6"),
        ("C1 D", "D", "E", "C1 E"),
    ],
)
def test_classes_are_withdrawn_downgraded_and_added(held: str, withdraw: str, add: str, expected: str) -> None:
    change = ClassChange(tuple(withdraw.split()), tuple(AddedClass(code) for code in add.split()), "某法")
    after = change.apply(holding(*held.split()), date(2022, 6, 1)).license
    assert [each.code for each in after.vehicle_classes] == expected.split()


def test_a_downgrade_asks_for_nothing_that_an_upgrade_does() -> None:
    barred = holding("A1", points_limit_date=ON, status_letters=(letter("D"),))
    after = ClassChange(("A1",), (AddedClass("B1"),), "某法").apply(barred, ON).license
    assert [each.code for each in after.vehicle_classes] == ["B1"]


@pytest.mark.parametrize(
    ("held", "since", "withdraw", "add", "expected"),
    [
        ("C1", date(2010, 6, 3), "C1", "", {"LAST_CLASS"}),
        ("C1", date(2010, 6, 3), "D", "", {"CLASS_NOT_HELD"}),
        ("C1", date(2010, 6, 3), "", "", {"NOTHING_TO_CHANGE"}),
        ("C1", date(2010, 6, 3), "", "X9", {"CLASS_UNKNOWN"}),
        ("C1", date(2010, 6, 3), "C1", "C1", {"CLASS_REPEATED"}),
        ("C1", date(2010, 6, 3), "", "A1", {"CLASS_HELD_TOO_SHORT"}),
        ("C1", date(2020, 6, 3), "", "B1", {"CLASS_HELD_TOO_SHORT"}),
        ("C1", date(2010, 6, 3), "", "C6", {"CLASS_NOT_INTRODUCED"}),
    ],
)
def test_a_change_of_classes_names_what_is_missing(
    held: str, since: date, withdraw: str, add: str, expected: set[str]
) -> None:
    change = ClassChange(tuple(withdraw.split()), tuple(AddedClass(code) for code in add.split()), "某法")
    assert reasons(change, holding(*held.split(), since=since), ON) == expected


def test_twelve_points_bar_an_upgrade_for_as_many_cycles_as_the_class_asks() -> None:
    full = holding("C1", points_limit_date=date(2020, 7, 1))  # in the cycle from 3 June 2020
    change = ClassChange((), (AddedClass("B1"),), "某法")
    assert reasons(change, full, date(2022, 6, 2)) == {"POINTS_REACHED_LATELY"}
    assert change.apply(full, date(2022, 6, 3)).license.vehicle_classes[1].code == "B1"


def test_an_update_takes_the_fields_of_its_mask_alone() -> None:
    values = replace(a_license(), holder=a_holder(full_name="王大明", address="别处"), points=9)
    after = Update(values, ("holder.address",)).apply(a_license(), ON).license
    assert after == a_license(holder=a_holder(address="别处"))


@pytest.mark.parametrize("path", ["holder.document", "points", "status_letters", "validity", "*", "holder", ""])
def test_an_update_of_any_other_field_is_malformed(path: str) -> None:
    assert reasons(Update(a_license(), (path,)), a_license(), ON) == {"FIELD_NOT_CHANGEABLE"}
    assert reasons(Update(a_license(), ()), a_license(), ON) == {"NOTHING_TO_CHANGE"}


def corrected(values: License, *fields: str) -> FieldCorrection:
    return FieldCorrection(values, fields, SUZHOU, 1, "typed wrongly")


def test_a_correction_may_undo_a_revocation_but_not_a_cancellation() -> None:
    wrong = a_license(status_letters=(letter("F"),))
    assert corrected(a_license(), "status_letters").apply(wrong, ON).license == a_license()
    cancelled = a_license(status_letters=(letter("G"),))
    assert reasons(corrected(a_license(), "status_letters"), cancelled, ON) == {"LICENSE_CANCELLED"}
    assert reasons(corrected(cancelled, "status_letters"), a_license(), ON) == {"CANCELLATION_NEEDED"}


def test_a_correction_breaks_no_rule_that_was_kept_before() -> None:
    values = a_license(validity=Validity(TEN, date(2016, 6, 3), date(2027, 6, 3)), division_code="110000")
    assert reasons(corrected(values, "validity", "division_code"), a_license(), ON) == {
        "VALIDITY_LENGTH_WRONG",
        "DIVISION_OUTSIDE_CITY",
        "ARCHIVE_PREFIX_WRONG",
    }
    assert reasons(corrected(a_license(), "validity"), a_license(), ON) == {"NOTHING_TO_CORRECT"}
    other = replace(a_license(), holder=a_holder(document=IdentityDocument(2, "E12345678")))
    assert reasons(corrected(other, "holder.document"), a_license(), ON) == {"FIELD_NOT_CHANGEABLE"}


def test_an_end_that_was_recorded_wrongly_takes_its_letter_along() -> None:
    wrong = expiring(last=date(2021, 3, 1), status_letters=(letter("M", date(2021, 3, 2)), letter("P")))
    right = corrected(expiring(last=date(2022, 3, 1)), "validity").apply(wrong, ON).license
    assert [each.letter for each in right.status_letters] == ["P"]
