"""A licence written straight from its values has the bytes of its message."""

from __future__ import annotations

from dataclasses import replace
from datetime import date

import pytest

from elicense.cli.demo.drivers import generate
from elicense.license.codec import license_to_message
from elicense.license.csv_format import parse_row
from elicense.license.license_bytes import document_bytes, license_bytes, standing_bytes, varint
from elicense.license.model import Ban, License, Sex, StatusLetter, Validity, ValidityKind, VehicleClass
from elicense.license.standing import standing_of

DAY = date(2021, 6, 1)


def a_license() -> License:
    return next(parse_row(row) for row, _ in generate(320500, 1, seed=1, on=DAY))


def licenses() -> list[License]:
    generated = [parse_row(row) for row, _ in generate(320500, 300, seed=5, on=DAY, foreign_share=0.2)]
    plain = generated[0]
    letter = StatusLetter("H", DAY, date(2022, 1, 1), "第七条", "苏州")
    barred = StatusLetter("E", DAY, None, "x", "y", Ban("drink", date(2026, 6, 1)))
    for_life = StatusLetter("E", DAY, None, "", "", Ban(for_life=True))
    return [
        *generated,
        replace(plain, status_letters=(letter, barred, for_life)),
        replace(plain, points=1_000, points_roll_date=DAY, points_limit_date=DAY, offered_to_city=120_000),
        replace(plain, holder=replace(plain.holder, address="长" * 200, sex=Sex.UNSPECIFIED, given_name_latin="")),
        replace(plain, issuing_authority="x" * 3_000, archive_number=""),
        replace(plain, validity=Validity(ValidityKind.LONG_TERM, DAY)),
        replace(plain, vehicle_classes=(VehicleClass("C1", DAY, date(2022, 2, 2), ("glasses", "手动")),) * 3),
        # Numbers that this node does not know survive.
        replace(plain, holder=replace(plain.holder, sex=77), validity=replace(plain.validity, kind=300)),
    ]


@pytest.mark.parametrize("number", [0, 1, 127, 128, 300, 2**31 - 1, -1])
def test_a_number_has_the_bytes_that_protobuf_gives_it(number: int) -> None:
    message = license_to_message(replace(a_license(), offered_to_city=number))
    assert message.SerializeToString(deterministic=True).endswith(varint(number) if number else b"")


def test_a_licence_has_the_bytes_of_its_message() -> None:
    for license_ in licenses():
        message = license_to_message(license_)
        assert license_bytes(license_) == message.SerializeToString(deterministic=True)
        document = message.holder.document
        assert document_bytes(license_.holder.document) == document.SerializeToString(deterministic=True)


def test_a_standing_has_the_bytes_of_the_standing_of_its_message() -> None:
    for license_ in licenses():
        assert standing_bytes(license_) == standing_of(license_to_message(license_))


def test_what_a_city_fills_in_is_left_out() -> None:
    plain = a_license()
    filled = replace(plain, name="cities/320500/licenses/x", etag="e", revision=7, provisional=True)
    assert license_bytes(filled) == license_bytes(plain)
