"""Cells of a drivers' file that hold more than plain text: dates, classes, status letters.

Parts of an item stand between colons, items between semicolons.  Inside free text
the separators are written as in a URL, so that every value can be read back.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date
from functools import lru_cache
from typing import Final
from urllib.parse import quote, unquote

from elicense.license.model import StatusLetter, VehicleClass

_KEPT_CELL: Final = 100
"""Characters of the longest cell of classes that is kept with what it means: few different ones of that length exist,
and of longer ones, which a file may be full of, the memory would be."""


def read_day(cell: str) -> date | None:
    """Read a cell that holds one date; None when it is in the wrong form or there is no such day."""
    # date.fromisoformat() would also read week dates and the form without hyphens.
    if len(cell) != 10 or cell[4] != "-" or cell[7] != "-":
        return None
    return _day(cell)


@lru_cache(maxsize=65_536)
def _day(cell: str) -> date | None:
    try:
        return date.fromisoformat(cell)
    except ValueError:
        return None


def read_classes(cell: str) -> tuple[VehicleClass, ...] | None:
    """Read the cell of classes; None when it is in the wrong form."""
    return _known_classes(cell) if len(cell) <= _KEPT_CELL else _classes(cell)


def _classes(cell: str) -> tuple[VehicleClass, ...] | None:
    classes: list[VehicleClass] = []
    for item in cell.split(";"):
        code, start, end, limits = _parts(item, 4)
        from_date = read_day(start)
        until_date = read_day(end) if end else None
        if from_date is None or (end and until_date is None):
            return None
        classes.append(
            VehicleClass(code, from_date, until_date, tuple(map(unquote, limits.split(","))) if limits else ())
        )
    return tuple(classes)


_known_classes: Final = lru_cache(maxsize=65_536)(_classes)


def read_letters(cell: str) -> tuple[StatusLetter, ...] | None:
    """Read the cell of status letters; None when it is in the wrong form."""
    letters: list[StatusLetter] = []
    for item in cell.split(";"):
        letter, start, end, basis, authority = _parts(item, 5)
        start_date = read_day(start)
        end_date = read_day(end) if end else None
        if start_date is None or (end and end_date is None):
            return None
        letters.append(StatusLetter(letter, start_date, end_date, unquote(basis), unquote(authority)))
    return tuple(letters)


def _parts(item: str, count: int) -> list[str]:
    """Split an item at its colons into ``count`` parts, absent ones empty; too many leave a colon in the last."""
    parts = item.strip().split(":", count - 1)
    return parts + [""] * (count - len(parts))


def _joined(parts: list[str]) -> str:
    while not parts[-1]:
        parts.pop()
    return ":".join(parts)


def _escape(text: str) -> str:
    """Write as in a URL what would not be read back: separators, and blanks that would be trimmed."""
    last = len(text) - 1
    return "".join(
        quote(char) if char in "%:;," or (char.isspace() and (char != " " or position in (0, last))) else char
        for position, char in enumerate(text)
    )


def write_day(day: date | None) -> str:
    """Return the cell of a date, empty for none."""
    return day.isoformat() if day is not None else ""


def write_classes(classes: Iterable[VehicleClass]) -> str:
    """Return the cell of vehicle classes."""
    return ";".join(
        _joined([held.code, write_day(held.from_date), write_day(held.until_date), ",".join(map(_escape, held.limits))])
        for held in classes
    )


def write_letters(letters: Iterable[StatusLetter]) -> str:
    """Return the cell of status letters."""
    return ";".join(
        _joined(
            [
                each.letter,
                write_day(each.start_date),
                write_day(each.end_date),
                _escape(each.legal_basis),
                _escape(each.authority),
            ]
        )
        for each in letters
    )
