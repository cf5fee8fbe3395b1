"""One line of a file of drivers, read by itself.

A row is one line: no column has a line break in it, and so an unclosed quote
spoils its own row and swallows none that follow.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Sequence
from typing import Final

from elicense.errors import Malformed, Violation
from elicense.license.csv_format import parse_row
from elicense.license.model import License

MAX_LINE_LENGTH: Final = 64 * 1024
"""Characters of a line; a driver with every class, letter and limit takes fewer."""

#: A line without quotes, line ends and what the reader refuses.
_PLAIN: Final = re.compile(r'[^"\r\n\0]+')


def check_length(line: str) -> None:
    """Refuse a line that can be no driver.

    Raises:
        Malformed: It is too long.
    """
    if len(line) > MAX_LINE_LENGTH:
        raise Malformed(f"the row has more than {MAX_LINE_LENGTH:,} characters; is a line end missing?")


def cells_of(line: str) -> list[str]:
    """Return the cells of one line, none for an empty one.

    Raises:
        Malformed: It can not be read as CSV.
    """
    bare = line.removesuffix("\n").removesuffix("\r")
    check_length(bare)
    if _PLAIN.fullmatch(bare):
        # What the reader would give, in a tenth of the time.
        return bare.split(",")
    try:
        return next(csv.reader((line,), strict=True), [])
    except csv.Error as error:
        raise Malformed("the row can not be read as CSV; check its quotes, and keep each row on one line") from error


def read_line(line: str, columns: Sequence[str]) -> License:
    """Return the licence in one line.

    Args:
        line: The line, with its end or without.
        columns: The columns of its file, through :func:`~elicense.license.csv_format.check_header`.

    Raises:
        Malformed: It can not be read as CSV, or some columns are in the wrong form; all are named.
    """
    cells = cells_of(line)
    if len(cells) != len(columns):
        found = Violation("", "CELL_COUNT_WRONG", f"Give {len(columns)} cells; the row has {len(cells)}.")
        raise Malformed("the row has another number of cells than the header", violations=[found])
    return parse_row(dict(zip(columns, cells, strict=True)))
