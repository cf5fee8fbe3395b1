"""Which change is legal in which state: one readable matrix."""

from __future__ import annotations

from dataclasses import replace
from datetime import date

import pytest

from elicense.errors import IllegalTransition
from elicense.license.cancellation import Cancellation
from elicense.license.change import Change
from elicense.license.class_change import AddedClass, ClassChange
from elicense.license.field_change import FieldCorrection, Update
from elicense.license.identity_change import IdentityChange
from elicense.license.model import (
    DocumentType,
    IdentityDocument,
    License,
    LicenseEvent,
    Photo,
    Validity,
    ValidityKind,
    VehicleClass,
)
from elicense.license.points import ExamPassed, Points
from elicense.license.renewal import Renewal
from elicense.license.status_change import StatusChange
from elicense.license.status_letters import LETTERS
from elicense.license.transfer import Offer, OfferWithdrawal, Office, TakeOver
from elicense.license.transitions import TRANSITIONS, Action, missing
from tests.unit.license.samples import SUZHOU, TODAY, a_holder, a_license, letter

BASIS = "某法第一条"
DUE = Validity(ValidityKind.SIX_YEARS, date(2015, 8, 1), date(2021, 8, 1))

MOVED = replace(a_license(), holder=a_holder(address="苏州市另一条路2号"), photo=Photo(bytes(32), TODAY))
CHENGDU = 510100
PASSPORT = IdentityDocument(DocumentType.PASSPORT, "E12345678")
OFFICE = Office("510112345678", "四川省成都市公安局交通管理局", "510100")
CHANGES: dict[Action, Change] = {
    Action.UPDATE: Update(MOVED, ("holder.address", "photo")),
    Action.RENEW: Renewal(),
    Action.SET_STATUS: StatusChange((letter("T", TODAY),), ()),
    Action.WITHDRAW_CLASS: ClassChange(("D",), (), BASIS),
    Action.ADD_CLASS: ClassChange((), (AddedClass("B2"),), BASIS),
    Action.RECORD_POINTS: Points(3, BASIS),
    Action.EXAM: ExamPassed(BASIS),
    Action.CANCEL: Cancellation(BASIS),
    Action.CANCEL_VOID: Cancellation(BASIS, void=True),
    Action.CORRECT: FieldCorrection(MOVED, ("holder.address",), SUZHOU, 1, "typed wrongly"),
    Action.OFFER: Offer(CHENGDU, SUZHOU, BASIS),
    Action.WITHDRAW_OFFER: OfferWithdrawal(BASIS),
    Action.TAKE_OVER: TakeOver(CHENGDU, OFFICE, BASIS),
    Action.CHANGE_IDENTITY: IdentityChange(PASSPORT, "", SUZHOU, BASIS),
}

# What each state lacks for each change, in the order of the actions above; "ok" is a legal change.
# U update, R renew, S set status, W withdraw, A add, P points, E exam, C cancel, V cancel what is void, K correct
# O offer, X withdraw the offer, T take over, I change the identity document
OK = "ok"
MATRIX: list[tuple[str, str, str]] = [
    # state, letters, refused actions
    ("in order", "", "EXT"),
    ("normal", "A", "EXT"),
    ("twelve points", "B", "RAXT"),
    ("moved out", "C", "EXT"),
    ("suspended", "D", "RAECOXT"),
    ("annulled", "E", "URWAPECVOXT"),
    ("revoked", "F", "URWAPECVOXT"),
    ("cancelled", "G", "URSWAPECVKOXTI"),
    ("open violation", "H", "RAECOXT"),
    ("open accident", "I", "RAECOXT"),
    ("out of use", "J", "RAECOXT"),
    ("held as evidence", "K", "RAECOXT"),
    ("locked", "L", "RAECOXT"),
    ("overdue", "M", "AEXT"),
    ("renewal put off", "N", "EXT"),
    ("medical put off", "P", "EXT"),
    ("restorable", "R", "RAEXT"),
    ("review overdue", "S", "RAEXT"),
    ("review put off", "T", "EXT"),
    ("retained", "U", "RAECOXT"),
    ("other", "Z", "EXT"),
]
KEYS = dict(zip("URSWAPECVKOXTI", CHANGES, strict=True))


def in_state(codes: str) -> License:
    return a_license(validity=DUE, status_letters=tuple(letter(code) for code in codes))


def test_the_matrix_has_every_letter_and_every_action() -> None:
    assert {codes for _, codes, _ in MATRIX} == {"", *LETTERS}
    assert set(CHANGES) == set(Action) == set(TRANSITIONS)


@pytest.mark.parametrize("action", Action)
@pytest.mark.parametrize(("state", "codes", "refused"), MATRIX, ids=[state for state, _, _ in MATRIX])
def test_a_change_is_legal_or_names_what_is_missing(state: str, codes: str, refused: str, action: Action) -> None:
    license_ = in_state(codes)
    if action not in {KEYS[key] for key in refused}:
        assert CHANGES[action].apply(license_, TODAY).license != license_
        return
    with pytest.raises(IllegalTransition) as illegal:
        CHANGES[action].apply(license_, TODAY)
    assert illegal.value.violations
    # Every need of the table that does not hold is named, and says what to do.
    assert set(missing(action, license_, TODAY)) <= set(illegal.value.violations)
    assert all(violation.message.endswith(".") for violation in illegal.value.violations)


def test_everything_that_is_missing_is_named_at_once() -> None:
    license_ = replace(in_state("BDHS"), points=12, validity=replace(DUE, until_date=date(2022, 8, 1)))
    with pytest.raises(IllegalTransition) as illegal:
        Renewal().apply(license_, TODAY)
    assert [violation.reason for violation in illegal.value.violations] == [
        "LICENSE_WITHHELD",
        "CASES_OPEN",
        "REVIEW_OVERDUE",
        "POINTS_REACHED",
        "RENEWAL_TOO_EARLY",
    ]


@pytest.mark.parametrize(
    ("change", "event"),
    [
        (CHANGES[Action.UPDATE], LicenseEvent.UPDATED),
        (CHANGES[Action.RENEW], LicenseEvent.RENEWED),
        (CHANGES[Action.SET_STATUS], LicenseEvent.STATUS_CHANGED),
        (CHANGES[Action.WITHDRAW_CLASS], LicenseEvent.UPDATED),
        (CHANGES[Action.RECORD_POINTS], LicenseEvent.UPDATED),
        (Points(12, BASIS), LicenseEvent.STATUS_CHANGED),
        (CHANGES[Action.CANCEL], LicenseEvent.CANCELLED),
        (CHANGES[Action.CORRECT], LicenseEvent.CORRECTED),
        (CHANGES[Action.OFFER], LicenseEvent.TRANSFERRED_OUT),
    ],
)
def test_each_change_is_an_event_of_its_own_kind(change: Change, event: LicenseEvent) -> None:
    assert change.apply(in_state(""), TODAY).event is event


@pytest.mark.parametrize(
    ("codes", "points", "add", "lift", "reason"),
    [
        ("", 0, "G", "", "CANCELLATION_NEEDED"),
        ("B", 12, "", "B", "POINTS_REACHED"),
        ("G", 0, "H", "", "LICENSE_CANCELLED"),
    ],
)
def test_what_follows_from_other_facts_is_not_set_by_hand(
    codes: str, points: int, add: str, lift: str, reason: str
) -> None:
    license_ = replace(in_state(codes), points=points)
    with pytest.raises(IllegalTransition) as illegal:
        StatusChange(tuple(letter(code) for code in add), tuple(lift)).apply(license_, TODAY)
    assert reason in {violation.reason for violation in illegal.value.violations}


def test_an_overdue_license_is_renewed_not_relieved_of_its_letter() -> None:
    overdue = replace(in_state("M"), validity=replace(DUE, until_date=date(2021, 5, 1)))
    with pytest.raises(IllegalTransition) as illegal:
        StatusChange((), ("M",)).apply(overdue, TODAY)
    assert [violation.reason for violation in illegal.value.violations] == ["LICENSE_OVERDUE"]
    put_off = StatusChange((letter("N", date(2021, 4, 1), date(2021, 12, 31)),), ("M",)).apply(overdue, TODAY).license
    assert [each.letter for each in put_off.status_letters] == ["N"]


def test_cancelling_takes_the_place_of_what_the_days_brought() -> None:
    cancelled = Cancellation("本人申请").apply(in_state("MP"), TODAY).license
    assert [(each.letter, each.legal_basis) for each in cancelled.status_letters] == [("G", "本人申请"), ("P", BASIS)]


def test_classes_stay_in_the_order_in_which_they_were_held() -> None:
    changed = ClassChange(("D",), (AddedClass("C1", ("glasses",)), AddedClass("E")), BASIS).apply(in_state(""), TODAY)
    assert changed.license.vehicle_classes == (
        VehicleClass("C1", date(2010, 6, 3), None, ("glasses",)),
        VehicleClass("E", TODAY),
    )
