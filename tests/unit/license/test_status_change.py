from __future__ import annotations

from datetime import date, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from elicense.errors import Error, IllegalTransition, Malformed
from elicense.license.model import License, StatusLetter
from elicense.license.status_change import check_status_change
from elicense.license.status_letters import LETTERS
from tests.unit.license.samples import TODAY, a_license, letter


def carrying(codes: str) -> License:
    return a_license(status_letters=tuple(letter(code) for code in codes))


def refusal(error: type[Error], license_: License, add: list[StatusLetter], lift: str = "") -> dict[str, str]:
    with pytest.raises(error) as refused:
        check_status_change(license_, add, list(lift), TODAY)
    assert type(refused.value) is error
    return {violation.field: violation.reason for violation in refused.value.violations}


@pytest.mark.parametrize(
    ("before", "add", "lift", "after"),
    [
        ("", "D", "", "D"),
        ("D", "", "D", ""),
        ("DH", "J", "D", "HJ"),
        ("H", "D", "", "DH"),
        ("A", "D", "", "D"),
        ("D", "A", "D", "A"),
        ("", "A", "", "A"),
        ("A", "A", "", "A"),
        ("F", "H", "", "FH"),
        ("R", "", "R", ""),
    ],
)
def test_letters_are_added_and_lifted_in_one_step(before: str, add: str, lift: str, after: str) -> None:
    changed = check_status_change(carrying(before), [letter(code) for code in add], list(lift), TODAY)
    assert "".join(each.letter for each in changed.status_letters) == after


def test_nothing_but_the_letters_changes() -> None:
    before = a_license(points=3, name="cities/320500/licenses/x")
    after = check_status_change(before, [letter("D")], [], TODAY)
    assert check_status_change(after, [], ["D"], TODAY) == before


def test_a_letter_that_is_carried_is_replaced() -> None:
    longer = letter("D", date(2021, 5, 1), date(2021, 12, 1), "另一条")
    assert check_status_change(carrying("D"), [longer], [], TODAY).status_letters == (longer,)


@pytest.mark.parametrize("code", "EFG")
def test_a_revoked_license_cannot_be_reinstated(code: str) -> None:
    assert refusal(IllegalTransition, carrying(code), [], code) == {"lift_letters[0]": "TERMINAL_LETTER"}
    assert refusal(IllegalTransition, carrying(code), [letter("A")], "") == {"add_letters[0]": "NORMAL_WITH_OTHERS"}
    replaced = letter(code, TODAY + timedelta(days=9_999))
    assert refusal(IllegalTransition, carrying(code), [replaced]) == {"add_letters[0]": "TERMINAL_LETTER"}
    ending = letter(code, date(2021, 1, 1), TODAY)
    assert refusal(Malformed, carrying(""), [ending]) == {"add_letters[0].end_date": "TERMINAL_LETTER_ENDS"}


@pytest.mark.parametrize("code", sorted(LETTERS))
def test_every_letter_but_the_two_that_take_nothing_needs_its_legal_basis(code: str) -> None:
    bare = StatusLetter(code, TODAY, None, "  ", ban=letter(code).ban)
    if code in "AC":
        assert check_status_change(a_license(), [bare], [], TODAY).status_letters == (bare,)
    else:
        assert refusal(IllegalTransition, a_license(), [bare]) == {"add_letters[0].legal_basis": "LEGAL_BASIS_MISSING"}


@pytest.mark.parametrize(
    ("add", "lift", "expected"),
    [
        ([], "", {"": "NOTHING_TO_CHANGE"}),
        ([letter("D")], "D", {"add_letters[0].letter": "LETTER_ADDED_AND_LIFTED"}),
        ([letter("J"), letter("J")], "", {"add_letters[1].letter": "LETTER_REPEATED"}),
        ([], "DD", {"lift_letters": "LETTER_REPEATED"}),
        ([letter("A"), letter("H")], "", {"add_letters": "NORMAL_WITH_OTHERS"}),
        ([letter("Q")], "", {"add_letters[0].letter": "LETTER_UNKNOWN"}),
        ([letter("J", date(2021, 7, 1), date(2021, 6, 30))], "", {"add_letters[0].end_date": "DATES_OUT_OF_ORDER"}),
        ([letter("J", date(2021, 1, 1), date(2021, 5, 31))], "", {"add_letters[0].end_date": "LETTER_OVER"}),
    ],
)
def test_a_request_that_contradicts_itself_is_malformed(
    add: list[StatusLetter], lift: str, expected: dict[str, str]
) -> None:
    assert refusal(Malformed, carrying("D"), add, lift) == expected


def test_a_letter_that_is_not_carried_cannot_be_lifted() -> None:
    assert refusal(IllegalTransition, carrying("H"), [], "DH") == {"lift_letters[0]": "LETTER_NOT_CARRIED"}


def test_every_obstacle_is_named_at_once() -> None:
    assert refusal(IllegalTransition, carrying("F"), [StatusLetter("D", TODAY)], "FJ") == {
        "lift_letters[0]": "TERMINAL_LETTER",
        "lift_letters[1]": "LETTER_NOT_CARRIED",
        "add_letters[0].legal_basis": "LEGAL_BASIS_MISSING",
    }


_codes = st.text("ABCDEFGHJMQZ", max_size=4)


@given(_codes, _codes, _codes)
def test_no_change_leaves_normal_beside_others_or_drops_a_terminal_letter(before: str, add: str, lift: str) -> None:
    license_ = carrying("".join(dict.fromkeys(before)))
    try:
        after = check_status_change(license_, [letter(code) for code in add], list(lift), TODAY)
    except (Malformed, IllegalTransition):
        return
    codes = [each.letter for each in after.status_letters]
    assert codes == sorted(set(codes))
    assert "A" not in codes or set(add) == {"A"} or set(before) - set(lift) == {"A"}
    assert set(before) & set("EFG") <= set(codes)
    assert set(codes) - {"A"} == (set(before) - set(lift) | set(add)) - {"A"}
