from __future__ import annotations

import pytest
import stdnum.cn.ric as oracle
from hypothesis import given
from hypothesis import strategies as st

from elicense.license.document import (
    document_violation,
    is_resident_number,
    normalize_document,
    normalize_number,
    resident_birth_date,
    resident_check_character,
    resident_sex,
)
from elicense.license.model import DocumentType, IdentityDocument, Sex
from tests.unit.license.samples import BIRTH, resident_number

KNOWN = "11010519491231002X"


@given(st.text("0123456789", min_size=17, max_size=17))
def test_the_check_character_agrees_with_an_independent_implementation(digits: str) -> None:
    assert resident_check_character(digits) == oracle.calc_check_digit(digits + "0")


@given(st.dates(), st.integers(0, 999), st.sampled_from(["110105", "320505", "510104", "120101"]))
def test_a_number_is_accepted_exactly_when_an_independent_implementation_accepts_its_form(
    birth: object, sequence: int, area: str
) -> None:
    digits = f"{area}{birth:%Y%m%d}".ljust(14, "0")[:14] + f"{sequence:03d}"
    right = oracle.calc_check_digit(digits + "0")
    for check in "0123456789X":
        assert is_resident_number(digits + check) == (
            check == right and resident_birth_date(digits + right) is not None
        )


@given(st.text("0123456789Xx_ ", min_size=15, max_size=19))
def test_nothing_but_a_true_number_is_accepted(number: str) -> None:
    if is_resident_number(number):
        assert number[:17].isdigit()
        assert number == number[:17] + oracle.calc_check_digit(number)


@pytest.mark.parametrize(
    ("number", "wrong"),
    [
        ("110105194912310021", "check character"),
        ("11010519490231002X", "no such day"),
        ("99010519491231002X", "no such province"),
        ("1101054912310021", "fifteen digits and one"),
        ("11010519491231_02X", "underscore"),
        ("１１０１０５１９４９１２３１００２X", "full-width digits"),
        ("11010519491231002x", "lower case"),
        ("", "empty"),
    ],
)
def test_a_number_with_any_fault_is_refused(number: str, wrong: str) -> None:
    assert not is_resident_number(number), wrong
    assert resident_birth_date(number) is None


def test_birth_date_and_sex_are_read_from_the_number() -> None:
    assert resident_birth_date(resident_number()) == BIRTH
    assert resident_sex(resident_number(sex=Sex.MALE)) is Sex.MALE
    assert resident_sex(resident_number(sex=Sex.FEMALE)) is Sex.FEMALE


@pytest.mark.parametrize("digits", ["", "1234567890123456", "1234567890123456X", "１２３４５６７８９０１２３４５６７"])
def test_a_check_character_belongs_to_seventeen_digits_only(digits: str) -> None:
    with pytest.raises(ValueError, match="seventeen"):
        resident_check_character(digits)


@pytest.mark.parametrize(
    ("spelled", "number"),
    [
        ("11010519491231002x", KNOWN),
        (" 110105 19491231 002X ", KNOWN),
        ("１１０１０５１９４９１２３１００２Ｘ", KNOWN),
        ("e1234567", "E1234567"),
        ("南字第123号", "南字第123号"),
    ],
)
def test_spellings_of_one_number_have_one_normal_form(spelled: str, number: str) -> None:
    assert normalize_number(spelled) == number
    assert normalize_number(number) == number


def test_a_document_in_normal_form_is_left_alone() -> None:
    document = IdentityDocument(DocumentType.RESIDENT_ID, KNOWN)
    assert normalize_document(document) is document
    assert normalize_document(IdentityDocument(DocumentType.RESIDENT_ID, KNOWN.lower())) == document


@given(st.text(max_size=40))
def test_the_normal_form_of_a_normal_form_is_itself(number: str) -> None:
    once = normalize_number(number)
    assert normalize_number(once) == once


@pytest.mark.parametrize(
    ("kind", "right", "wrong"),
    [
        (DocumentType.RESIDENT_ID, [KNOWN], ["110105194912310020", "E1234567"]),
        (DocumentType.PASSPORT, ["E12345678", "C01X00T47"], ["E123", "E12-345678", "e12345678", "护照123456"]),
        (
            DocumentType.PERMANENT_RESIDENCE,
            ["USA310000000001", "91310519491231002" + resident_check_character("91310519491231002")],
            ["US0310000000001", "US1", "913105194912310020", KNOWN],
        ),
        (DocumentType.HK_MACAO_PERMIT, ["H12345678", "M1234567890"], ["H1234567", "K12345678", "H1234567A"]),
        (DocumentType.TAIWAN_PERMIT, ["12345678", "1234567890", "1234567890B"], ["1234567", "1234567A", "12345678901"]),
        (DocumentType.MILITARY_ID, ["南字第12345678号", "A1234567"], ["南字第号", "12", "南字第1234号-1"]),
    ],
)
def test_each_kind_of_document_has_its_own_form(kind: DocumentType, right: list[str], wrong: list[str]) -> None:
    for number in right:
        assert document_violation(IdentityDocument(kind, number), "d") is None, number
    for number in wrong:
        violation = document_violation(IdentityDocument(kind, number), "d")
        assert violation is not None, number
        assert (violation.field, violation.reason) == ("d.number", "DOCUMENT_NUMBER_INVALID")
        assert number not in violation.message


def test_an_unknown_kind_of_document_is_refused() -> None:
    violation = document_violation(IdentityDocument(99, "X"), "d")
    assert violation is not None
    assert (violation.field, violation.reason) == ("d.type", "DOCUMENT_TYPE_UNKNOWN")


@given(st.integers(0, 7), st.text(max_size=40))
def test_any_text_at_all_is_judged(kind: int, number: str) -> None:
    document_violation(IdentityDocument(kind, number), "d")
