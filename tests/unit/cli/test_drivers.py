from __future__ import annotations

from collections.abc import Iterator
from datetime import date
from itertools import islice

import pytest

from elicense.cli.demo.defects import DEFECTS
from elicense.cli.demo.drivers import generate
from elicense.errors import CityNotFound, Malformed, Violation
from elicense.license.csv_format import COLUMNS, format_row, parse_row
from elicense.license.eligibility import check_application
from elicense.license.model import DocumentType

CITIES = [120000, 510100, 320500, 500000, 411700]
DAYS = [date(2021, 6, 1), date(2024, 2, 29), date(2025, 1, 1), date(2027, 8, 31)]


def violations(row: dict[str, str], *, city: int, on: date, imported: bool) -> tuple[Violation, ...]:
    try:
        return check_application(parse_row(row), on=on, city=city, imported=imported)
    except Malformed as error:
        return error.violations


@pytest.mark.parametrize("city", CITIES)
@pytest.mark.parametrize("on", DAYS)
def test_rows_are_good_or_bad_as_announced(city: int, on: date) -> None:
    for row, good in generate(city, 400, seed=3, on=on, bad_share=0.2, foreign_share=0.05):
        for imported in (True, False):
            assert good == (not violations(row, city=city, on=on, imported=imported)), row


def test_every_kind_of_defect_appears_and_is_found_by_its_reason() -> None:
    on = DAYS[0]
    rows = generate(320500, len(DEFECTS), seed=1, on=on, bad_share=1.0)
    for reason, (row, good) in zip(DEFECTS, rows, strict=True):
        assert not good
        assert reason in {found.reason for found in violations(row, city=320500, on=on, imported=True)}


@pytest.mark.parametrize("reason", DEFECTS)
@pytest.mark.parametrize("on", DAYS)
def test_a_defect_spoils_any_good_row(reason: str, on: date) -> None:
    for row, good in generate(120000, 150, seed=9, on=on):
        assert good
        DEFECTS[reason](row, on)
        assert reason in {found.reason for found in violations(row, city=120000, on=on, imported=True)}, row


def test_the_same_seed_gives_the_same_drivers() -> None:
    def draw(seed: int) -> list[tuple[dict[str, str], bool]]:
        return list(generate(320500, 50, seed=seed, on=DAYS[0], bad_share=0.1))

    assert draw(1) == draw(1)
    assert draw(1) != draw(2)


def test_nobody_appears_twice_in_one_city_or_in_two() -> None:
    seen: set[str] = set()
    count = 3_000
    for city in CITIES:
        rows: Iterator[tuple[dict[str, str], bool]] = generate(city, count, seed=5, on=DAYS[0], foreign_share=0.1)
        seen.update(row["document_number"] for row, _ in rows)
    assert len(seen) == count * len(CITIES)


def test_archive_numbers_are_unique() -> None:
    rows = generate(320500, 3_000, seed=5, on=DAYS[0])
    assert len({row["archive_number"] for row, _ in rows}) == 3_000


def test_a_row_has_every_column_and_survives_reading() -> None:
    for row, _ in generate(510100, 200, seed=2, on=DAYS[0], foreign_share=0.1):
        assert tuple(row) == COLUMNS
        assert format_row(parse_row(row)) == row


def test_holders_of_passports_appear_only_on_demand() -> None:
    def kinds(share: float) -> set[object]:
        rows = generate(320500, 300, seed=2, on=DAYS[0], foreign_share=share)
        return {parse_row(row).holder.document.type for row, _ in rows}

    assert kinds(0.0) == {DocumentType.RESIDENT_ID}
    assert kinds(0.3) == {DocumentType.RESIDENT_ID, DocumentType.PASSPORT}


def test_rows_come_one_by_one() -> None:
    assert len(list(islice(generate(320500, 10**9, seed=2, on=DAYS[0]), 3))) == 3


def test_an_unknown_city_has_no_drivers() -> None:
    with pytest.raises(CityNotFound):
        next(generate(999900, 1, seed=1, on=DAYS[0]))
