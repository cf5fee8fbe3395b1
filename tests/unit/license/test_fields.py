"""The fields of a licence, one by one."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from elicense.license.fields import (
    EVERY_FIELD,
    IN_STANDING,
    LicenseField,
    copy_fields,
    from_mask,
    known_fields,
    to_mask,
)
from elicense.license.standing import standing_of
from elicense.v1 import license_pb2, verification_pb2
from elicense.verification.given import add_standing
from tests.support.fields import FULL_LICENSE, shown_fields


def pick(source: license_pb2.License, fields: Iterable[LicenseField]) -> license_pb2.License:
    picked = license_pb2.License()
    copy_fields(source, picked, fields)
    return picked


def test_fields_have_the_numbers_of_the_proto() -> None:
    named = {name.removeprefix("LICENSE_FIELD_"): n for name, n in verification_pb2.LicenseField.items() if n}
    assert named == {field.name: field.value for field in LicenseField}


@pytest.mark.parametrize("field", LicenseField)
def test_a_field_shows_itself_and_nothing_else(field: LicenseField) -> None:
    assert shown_fields(pick(FULL_LICENSE, {field})) == {field}


def test_all_fields_together_are_the_whole_license() -> None:
    assert pick(FULL_LICENSE, EVERY_FIELD) == FULL_LICENSE


def test_the_view_holds_the_fields_that_need_no_record() -> None:
    verdict = verification_pb2.Verdict()
    add_standing(verdict, standing_of(FULL_LICENSE), EVERY_FIELD)
    assert verdict.license == pick(FULL_LICENSE, IN_STANDING)
    assert {int(field) for field in verdict.fields} == IN_STANDING


def test_a_mask_keeps_every_number_also_unknown_ones() -> None:
    assert from_mask(to_mask([3, 1, 31])) == [1, 3, 31]
    assert from_mask(to_mask([])) == []
    assert known_fields([1, 31]) == {LicenseField.FULL_NAME}
    assert len(to_mask(EVERY_FIELD)) == 4


def test_a_number_that_does_not_fit_a_mask_is_an_error_and_not_lost() -> None:
    with pytest.raises(OverflowError):
        to_mask([32])
