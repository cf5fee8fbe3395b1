"""A file of drivers is read row by row, in memory that no row can make large."""

from __future__ import annotations

import io
import tracemalloc

from city_node.import_file import DriverFile, ReadRow
from elicense.license.csv_format import COLUMNS
from elicense.license.csv_line import MAX_LINE_LENGTH

HEADER = ",".join(COLUMNS).encode() + b"\n"


def rows(body: bytes) -> list[ReadRow]:
    return list(DriverFile(io.BytesIO(HEADER + body)).rows(1, 0))


def test_a_row_without_an_end_is_refused_in_little_memory_and_the_next_one_is_read() -> None:
    long = b"x" * (32 << 20)
    file = DriverFile(io.BytesIO(HEADER + long + b"\nnext\n"))
    tracemalloc.start()
    try:
        first, second = file.rows(1, 0)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert first.error is not None
    assert "a line end missing" in first.error.message
    assert (first.number, first.end) == (1, len(HEADER) + len(long) + 1)
    assert (second.number, second.line, second.error) == (2, "next", None)
    # A cut line of the most bytes that a row may have, once as bytes and once as text, and copies of them.
    assert peak < 16 * MAX_LINE_LENGTH


def test_the_longest_row_is_read_whole_though_each_character_takes_four_bytes() -> None:
    longest = "\N{CJK UNIFIED IDEOGRAPH-20000}" * MAX_LINE_LENGTH
    for end in ("", "\n", "\r\n"):
        (row,) = rows((longest + end).encode())
        assert (row.line, row.error) == (longest, None)
    too_long, after = rows(f"{longest}xy\r\nz".encode())
    assert too_long.error is not None
    assert "a line end missing" in too_long.error.message
    assert after.line == "z"


def test_a_long_row_that_is_cut_within_a_character_is_too_long_and_not_of_another_encoding() -> None:
    (row,) = rows(b"a" + "\N{CJK UNIFIED IDEOGRAPH-20000}".encode() * (MAX_LINE_LENGTH + 9))
    assert row.error is not None
    assert "a line end missing" in row.error.message
