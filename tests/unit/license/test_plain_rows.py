"""A plain row comes to what the general way makes of it, and whatever is not plain is left to that."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import date
from random import Random

import pytest

from elicense.cli.demo.drivers import generate
from elicense.errors import Malformed
from elicense.license.csv_format import COLUMNS, OPTIONAL_COLUMNS
from elicense.license.csv_line import read_line
from elicense.license.eligibility import check_application
from elicense.license.license_bytes import document_bytes, license_bytes, standing_bytes
from elicense.license.plain_rows import PlainRow, PlainRows
from elicense.license.points import next_cycle

CITY = 320500
DAY = date(2024, 2, 29)

#: Cells that are nearly right, by column; the others come from the rows of other drivers.
NEARLY = {
    "document_type": ["passport", "military-id", "Resident ID", "", "x"],
    "document_number": ["E12345678", "e12345678", "", " ", "南字第12345678号", "１１０", "0" * 18, "A" * 33],
    "full_name": ["", " 张", "张\u3000", "x" * 50, "x" * 51, "阿·布", '"张"', "张\x00三"],
    "family_name_latin": ["", "Z" * 100, "Z" * 101, "Z "],
    "given_name_latin": ["", "Z" * 101, "\tZ"],
    "sex": ["unspecified", "not-applicable", "MALE", " male", ""],
    "nationality": ["US", "cn", "CHN", "", " CN"],
    "birth_date": ["1850-01-01", "2023-01-01", "2024-02-29", "2024-03-01", "1990-02-30", "19900101", " 1990-01-01", ""],
    "address": ["", "路" * 200, "路" * 201, "路 "],
    "vehicle_classes": [
        "A1:2015-06-03",
        "C1:2015-06-03;C1:2016-01-01",
        "C1:2015-06-03;D:2018-01-01",
        "C1:2015-06-03:2016-01-01",
        "C1:2015-06-03:2014-01-01;C2:2015-06-03",
        "C1:2015-06-03::glasses",
        "C1:2015-06-03::%3A",
        "C6:2015-06-03",
        "Z:2015-06-03",
        "c1:2015-06-03",
        "C1:2024-03-01",
        "C1:0001-01-01",
        "C1",
        "",
        ";".join(f"C1:20{year}-01-01" for year in range(10, 23)),
    ],
    "first_issue_date": ["2024-02-29", "2024-03-01", "2015-06-03", "0001-01-01", "1-1-1", ""],
    "validity_kind": ["six-years", "ten-years", "long-term", "long", ""],
    "valid_from": ["2024-02-29", "2024-03-01", "0001-01-01", ""],
    "valid_until": ["2024-02-28", "2024-02-29", "2030-02-28", "", " ", "x"],
    "archive_number": ["310500000001", "3205000000012", "32050000000a", "３２０５００００００００", ""],
    "issuing_authority": ["", "x" * 100, "x" * 101, " x"],
    "division_code": ["320501", "310000", "32050", "３２０５００", ""],
    "photo_sha256": ["0" * 64, "A" * 64, "g" * 64, "0" * 62, "0 " * 32, ""],
    "photo_capture_date": ["2024-03-01", "2024-02-29", "2023-08-29", "2023-08-28", "x", ""],
    "status_letters": [
        "A:2020-01-01",
        "A:2020-01-01;H:2020-01-01",
        "B:2024-01-01",
        "E:2020-01-01",
        "G:2020-01-01",
        "H",
        "H:2020-01-01::法:局",
        "H:2024-01-01",
        "H:2024-01-01:2023-01-01",
        "H:2024-01-01::" + "x" * 90,
        " ",
    ],
    "points": ["", "0", "1", "01", "11", "12", "1001", "-1", "x", " 3"],
}


def line_of(row: dict[str, str], columns: Sequence[str] = COLUMNS) -> str:
    line = io.StringIO(newline="")
    csv.writer(line, lineterminator="").writerow([row[column] for column in columns])
    return line.getvalue()


def the_general_way(line: str, columns: Sequence[str] = COLUMNS) -> PlainRow | None:
    """Return what a row comes to; None when it breaks a rule."""
    try:
        license_ = read_line(line, columns)
    except Malformed:
        return None
    if check_application(license_, on=DAY, city=CITY, imported=True):
        return None
    asked = license_bytes(license_)
    if license_.points:
        license_ = replace(license_, points_roll_date=next_cycle(license_.first_issue_date, DAY))
    document = license_.holder.document
    return PlainRow(
        document.type,
        document.number,
        license_.holder.full_name,
        document_bytes(document),
        asked,
        license_bytes(license_),
        standing_bytes(license_),
        license_.points,
        license_.status_letters,
    )


def drivers(count: int, *, seed: int = 7, bad_share: float = 0.0) -> list[dict[str, str]]:
    return [row for row, _ in generate(CITY, count, seed=seed, on=DAY, bad_share=bad_share, foreign_share=0.1)]


def mutated(seed: int) -> Iterator[dict[str, str]]:
    """Yield rows of which some cells are those of another driver, or nearly right."""
    random = Random(seed)  # test data
    rows = drivers(400, seed=seed, bad_share=0.2)
    for row in rows:
        other = random.choice(rows)
        changed = dict(row)
        for column in random.sample(COLUMNS, random.choice((1, 1, 1, 2, 3))):
            changed[column] = random.choice([other[column], *NEARLY[column]])
        yield changed


def test_nearly_every_row_is_plain() -> None:
    plain = PlainRows(COLUMNS, on=DAY, city=CITY)
    read = [plain.read(line_of(row)) for row in drivers(500)]
    assert sum(row is not None for row in read) >= 495
    assert any(row.points for row in read if row)
    assert any(row.letters for row in read if row)
    assert any(row.document_type != 1 for row in read if row)


@pytest.mark.parametrize("seed", range(4))
def test_a_plain_row_comes_to_what_the_general_way_makes_of_it(seed: int) -> None:
    plain = PlainRows(COLUMNS, on=DAY, city=CITY)
    read = 0
    for row in [*mutated(seed), *mutated(seed)]:
        line = line_of(row)
        found = plain.read(line)
        if found is not None:
            read += 1
            assert found == the_general_way(line), line
    assert read > 100


@pytest.mark.parametrize("column", COLUMNS)
def test_each_cell_that_is_nearly_right_is_judged_as_the_general_way_does(column: str) -> None:
    plain = PlainRows(COLUMNS, on=DAY, city=CITY)
    for row in drivers(20):
        for cell in NEARLY[column]:
            line = line_of(row | {column: cell})
            found = plain.read(line)
            assert found is None or found == the_general_way(line), line


def test_columns_may_come_in_any_order_and_some_be_left_out() -> None:
    rows = [row for row in drivers(60) if not row["status_letters"] and row["points"] == "0"]
    shuffled = list(COLUMNS)
    Random(3).shuffle(shuffled)  # test data
    few = [column for column in shuffled if column not in OPTIONAL_COLUMNS]
    for columns in (shuffled, few):
        plain = PlainRows(columns, on=DAY, city=CITY)
        read = [(plain.read(line), the_general_way(line, columns)) for line in (line_of(row, columns) for row in rows)]
        assert all(found == general for found, general in read if found is not None)
        assert sum(found is not None for found, _ in read) == sum(general is not None for _, general in read)


@pytest.mark.parametrize("line", ["", ",", "x" * 70_000, "," * 20, "," * 21])
def test_a_line_that_is_no_row_is_not_plain(line: str) -> None:
    assert PlainRows(COLUMNS, on=DAY, city=CITY).read(line) is None


def test_what_is_kept_of_a_file_does_not_grow_with_cells_that_are_not_plain() -> None:
    plain = PlainRows(COLUMNS, on=DAY, city=CITY)
    (row,) = drivers(1)
    long = "C1:2015-06-03" + ":" * 60_000
    assert plain.read(line_of(row | {"vehicle_classes": long})) is None
    assert not any(kept for kept in vars(vars(plain)["_cells"]).values() if isinstance(kept, dict) and long in kept)
