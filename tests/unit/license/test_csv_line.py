"""One line of a file of drivers."""

from __future__ import annotations

import csv
from datetime import date

import pytest

from elicense.cli.demo.drivers import generate
from elicense.errors import Malformed
from elicense.license.csv_format import COLUMNS, parse_row
from elicense.license.csv_line import MAX_LINE_LENGTH, cells_of, read_line


@pytest.mark.parametrize(
    "line", ["", "\n", "\r\n", "a", "a,b", ",", "a,,b\r\n", '"a,b",c', '"a""b"', " a , b ", "苏州,b\n", "a\tb"]
)
def test_cells_are_what_a_reader_of_csv_gives(line: str) -> None:
    assert cells_of(line) == next(csv.reader((line,), strict=True), [])


@pytest.mark.parametrize("line", ['"unclosed', 'x"y",z"', '"a"b', "a\0b\n\n", "x" * (MAX_LINE_LENGTH + 1)])
def test_a_line_that_is_no_row_is_malformed(line: str) -> None:
    with pytest.raises(Malformed):
        read_line(line, COLUMNS)


def test_a_row_with_another_number_of_cells_says_so() -> None:
    with pytest.raises(Malformed) as refused:
        read_line("only,three,cells", COLUMNS)
    assert [violation.reason for violation in refused.value.violations] == ["CELL_COUNT_WRONG"]


def test_a_line_is_read_by_the_columns_of_its_file_whatever_their_order() -> None:
    for row, _ in generate(320500, 20, seed=2, on=date(2021, 6, 1)):
        columns = COLUMNS[::-1]
        line = ",".join(row[column] for column in columns)
        assert read_line(line, columns) == parse_row(row)
