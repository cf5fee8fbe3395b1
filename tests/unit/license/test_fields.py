"""The fields of a licence, one by one."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from google.protobuf.message import DecodeError

from elicense.license.fields import (
    EVERY_FIELD,
    IN_STANDING,
    LicenseField,
    copy_fields,
    from_mask,
    known_fields,
    to_mask,
)
from elicense.license.standing import license_part, standing_of
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


def add(number: int, *, wide: bool) -> bytes:
    """Return a field that no message here has."""
    return bytes([number << 3 & 0x7F | 2 | (0x80 if wide else 0)]) + (b"\x02" if wide else b"") + b"\x01x"


@pytest.mark.parametrize("more", [b"", add(7, wide=False), add(7, wide=True), b"\x38\x05"])
@pytest.mark.parametrize("size", [1, 100, 130, 20_000])
@pytest.mark.parametrize("fields", [IN_STANDING, {LicenseField.VALIDITY}, {LicenseField.VEHICLE_CLASSES}, set()])
def test_fields_come_out_of_a_standing_as_they_lie_in_it(fields: set[LicenseField], size: int, more: bytes) -> None:
    long = license_pb2.License()
    long.CopyFrom(FULL_LICENSE)
    long.vehicle_classes.add(code="C1", limits=["x" * size]).from_date.CopyFrom(FULL_LICENSE.validity.from_date)
    standing = standing_of(long) + more
    part = license_pb2.License.FromString(license_part(standing, frozenset(fields)))
    assert part == pick(long, fields)


def test_a_standing_cut_short_shows_nothing_or_what_stands_before_the_cut() -> None:
    standing = standing_of(FULL_LICENSE)
    for end in range(len(standing)):
        verdict = verification_pb2.Verdict()
        add_standing(verdict, standing[:end], EVERY_FIELD)
        try:
            held = license_pb2.LicenseStanding.FromString(standing[:end])
        except DecodeError:
            assert verdict == verification_pb2.Verdict()
        else:
            assert verdict.license.vehicle_classes == held.vehicle_classes
            assert verdict.license.validity == held.validity


def test_a_mask_keeps_every_number_also_unknown_ones() -> None:
    assert from_mask(to_mask([3, 1, 31])) == [1, 3, 31]
    assert from_mask(to_mask([])) == []
    assert known_fields([1, 31]) == {LicenseField.FULL_NAME}
    assert len(to_mask(EVERY_FIELD)) == 4


def test_a_number_that_does_not_fit_a_mask_is_an_error_and_not_lost() -> None:
    with pytest.raises(OverflowError):
        to_mask([32])
