"""What may happen to a licence while custody is offered, and what a hand-over does to it."""

from __future__ import annotations

from dataclasses import replace
from datetime import date

import pytest

from elicense.errors import IllegalTransition, Malformed
from elicense.license.cancellation import Cancellation
from elicense.license.change import Change
from elicense.license.class_change import AddedClass, ClassChange
from elicense.license.daily import due_steps
from elicense.license.field_change import FieldCorrection, Update
from elicense.license.model import License, LicenseEvent, Validity, ValidityKind
from elicense.license.points import ExamPassed, Points
from elicense.license.renewal import Renewal
from elicense.license.status_change import StatusChange
from elicense.license.transfer import Offer, OfferWithdrawal, Office, TakeOver, doubts
from elicense.license.verdict import ViewFlags
from tests.unit.license.samples import SUZHOU, TODAY, a_license, letter

CHENGDU = 510100
BASIS = "机动车驾驶证申领和使用规定第六十三条"
DUE = Validity(ValidityKind.SIX_YEARS, date(2015, 8, 1), date(2021, 8, 1))
OFFICE = Office("510112345678", "四川省成都市公安局交通管理局", "510100")


def offered(**changes: object) -> License:
    return a_license(validity=DUE, offered_to_city=CHENGDU, **changes)


NEW = replace(a_license().holder, address="成都市某路1号")
#: change, whether it is legal while custody is offered
WHILE_OFFERED: dict[str, tuple[Change, bool]] = {
    "add a forbidding letter": (StatusChange((letter("D", TODAY),), ()), True),
    "add an open violation": (StatusChange((letter("H", TODAY),), ()), True),
    "record points": (Points(3, BASIS), True),
    "record twelve points": (Points(12, BASIS), True),
    "withdraw a class": (ClassChange(("D",), (), BASIS), True),
    "downgrade a class": (ClassChange(("D",), (AddedClass("E"),), BASIS), True),
    "cancel": (Cancellation(BASIS), True),
    "withdraw the offer": (OfferWithdrawal(BASIS), True),
    "take over": (TakeOver(CHENGDU, OFFICE, BASIS), True),
    "lift a letter": (StatusChange((), ("P",)), False),
    "replace a letter": (StatusChange((letter("P", TODAY),), ()), False),
    "put the renewal off": (StatusChange((letter("N", TODAY),), ()), False),
    "lift one and add one": (StatusChange((letter("D", TODAY),), ("P",)), False),
    "other limits of a class": (ClassChange((), (AddedClass("C1"),), BASIS), False),
    "add a class": (ClassChange((), (AddedClass("B2"),), BASIS), False),
    "renew": (Renewal(), False),
    "pass the exam": (ExamPassed(BASIS), False),
    "change the address": (Update(a_license(holder=NEW), ("holder.address",)), False),
    "correct the address": (FieldCorrection(a_license(holder=NEW), ("holder.address",), SUZHOU, 1, "wrong"), False),
    "offer it again": (Offer(CHENGDU, SUZHOU, BASIS), False),
}


@pytest.mark.parametrize(("change", "legal"), WHILE_OFFERED.values(), ids=WHILE_OFFERED.keys())
def test_while_custody_is_offered_a_license_is_only_restricted(change: Change, legal: bool) -> None:
    license_ = offered(status_letters=(letter("P"),))
    if legal:
        change.apply(license_, TODAY)
        return
    with pytest.raises(IllegalTransition) as illegal:
        change.apply(license_, TODAY)
    assert "TRANSFER_OPEN" in {violation.reason for violation in illegal.value.violations}


@pytest.mark.parametrize("code", "DEFGHIJKLU")
def test_whoever_withholds_a_license_or_has_a_case_open_keeps_it_where_it_is(code: str) -> None:
    for change, license_ in (
        (Offer(CHENGDU, SUZHOU, BASIS), a_license(status_letters=(letter(code),))),
        (TakeOver(CHENGDU, OFFICE, BASIS), offered(status_letters=(letter(code),))),
    ):
        with pytest.raises(IllegalTransition):
            change.apply(license_, TODAY)


def test_a_letter_that_comes_into_effect_later_blocks_from_then_on() -> None:
    waiting = offered(status_letters=(letter("D", date(2021, 7, 1)),))
    TakeOver(CHENGDU, OFFICE, BASIS).apply(waiting, date(2021, 6, 30))
    with pytest.raises(IllegalTransition):
        TakeOver(CHENGDU, OFFICE, BASIS).apply(waiting, date(2021, 7, 1))


@pytest.mark.parametrize("city", [SUZHOU, 0, 510000, 999999])
def test_a_license_is_offered_to_another_city_that_there_is(city: int) -> None:
    with pytest.raises(Malformed):
        Offer(city, SUZHOU, BASIS).apply(a_license(), TODAY)


def test_an_offer_and_its_withdrawal_leave_the_license_as_it_was() -> None:
    made = Offer(CHENGDU, SUZHOU, BASIS).apply(a_license(), TODAY)
    assert made.license == replace(a_license(), offered_to_city=CHENGDU)
    back = OfferWithdrawal(BASIS).apply(made.license, TODAY)
    assert (back.license, back.event) == (a_license(), LicenseEvent.TRANSFER_WITHDRAWN)


def test_a_take_over_changes_the_office_alone() -> None:
    taken = TakeOver(CHENGDU, OFFICE, BASIS).apply(offered(), TODAY)
    assert taken.event is LicenseEvent.TRANSFERRED_IN
    assert taken.license == replace(
        offered(),
        offered_to_city=0,
        archive_number="510112345678",
        issuing_authority="四川省成都市公安局交通管理局",
        division_code="510100",
    )
    assert TakeOver(CHENGDU, None, BASIS).apply(offered(), TODAY).license == replace(offered(), offered_to_city=0)


def test_the_new_office_must_be_one_of_the_city() -> None:
    with pytest.raises(IllegalTransition) as illegal:
        TakeOver(CHENGDU, Office("320512345678", "某局", "320500"), BASIS).apply(offered(), TODAY)
    assert {violation.reason for violation in illegal.value.violations} == {"DIVISION_OUTSIDE_CITY"}


def test_a_cancelled_license_is_offered_to_nobody_whether_a_clerk_or_the_days_cancel_it() -> None:
    assert Cancellation(BASIS).apply(offered(), TODAY).license.offered_to_city == 0
    *_, last = due_steps(offered(), date(2025, 1, 1))
    assert (last.event, last.license.offered_to_city) == (LicenseEvent.CANCELLED, 0)


def test_what_does_not_count_for_certain_does_not_move() -> None:
    assert not list(doubts(int(ViewFlags.OFFERED)))
    for flag in (ViewFlags.PROVISIONAL, ViewFlags.CONFLICT, ViewFlags.UNKNOWN_EVENT):
        assert list(doubts(int(flag)))
