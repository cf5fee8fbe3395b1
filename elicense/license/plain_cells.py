"""Cells that drivers share, read and judged once: days, classes, validities, offices, status letters.

Each is judged by the rules of :mod:`elicense.license.shape` and :mod:`elicense.license.eligibility` and kept with
its bytes.  What is not plain for certain comes to None, and is not kept.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import date
from typing import Final, NamedTuple, TypeVar

from elicense.errors import Violation
from elicense.license import license_bytes as to
from elicense.license.csv_cells import read_classes, read_day, read_letters
from elicense.license.csv_format import DOCUMENT_TYPES, SEXES, VALIDITY_KINDS
from elicense.license.eligibility import check_classes, check_letters, check_office, check_photo, check_validity
from elicense.license.model import StatusLetter, Validity, ValidityKind, VehicleClass
from elicense.license.shape import (
    MAX_AUTHORITY,
    check_class_shapes,
    check_letter_shapes,
    is_division,
    is_nationality,
)

#: Cells of one column that are kept: some ten megabytes.
_KEPT: Final = 65_536
#: Characters of a cell that is kept; four classes have fewer.
_MAX_CELL: Final = 100
_DIGEST_SIZE: Final = 32

K = TypeVar("K")
V = TypeVar("V")


class PlainKind(NamedTuple):
    """What the cells of document type, sex and nationality come to: both numbers, and the fields around them."""

    document_type: int
    sex: int
    before_number: bytes
    sex_and_nationality: bytes


class PlainDay(NamedTuple):
    """A day, as a resident number has it, and as the field of a birth, a first issue and a class's first day."""

    day: date
    digits: str
    birth: bytes
    first_issue: bytes
    class_from: bytes


class PlainClasses(NamedTuple):
    """Classes, and their fields in a licence and its standing."""

    held: tuple[VehicleClass, ...]
    license: bytes
    standing: bytes


class PlainValidity(NamedTuple):
    """A validity by its first day; whether it holds as a licence's first one and as a later one; its fields."""

    start: date
    holds_first: bool
    holds_later: bool
    license: bytes
    standing: bytes


class PlainLetters(NamedTuple):
    """Status letters and their fields."""

    held: tuple[StatusLetter, ...]
    license: bytes
    standing: bytes


class _Known(dict[K, V | None]):
    """What cells come to, worked out once; None for those that are not plain, which are not kept."""

    def __init__(self, read: Callable[[K], V | None]) -> None:
        super().__init__()
        self._read = read

    def __missing__(self, cells: K) -> V | None:
        found = self._read(cells)
        if found is not None:
            if len(self) >= _KEPT:
                self.clear()
            self[cells] = found
        return found


class PlainCells:
    """What the cells of a file of drivers come to, as of one day.

    Attributes:
        kinds: By document type, sex and nationality.
        days: By date.
        codes: By the code of a class; its field.
        classes: By the cell of several vehicle classes.
        validities: By kind, first and last day.
        offices: By division, authority and the first six digits of the archive number; two fields of the licence.
        photo_days: By the day on which a portrait was taken; what stands before and behind its digest.
        letters: By the cell of status letters, which has some.

    Args:
        on: Day of the application, in China.
        city: Division code of the city that issues.
    """

    def __init__(self, *, on: date, city: int) -> None:
        self._on = on
        self._city = city
        self.kinds = _Known(_read_kind)
        self.days = _Known(_read_day)
        self.codes = _Known(_read_code)
        self.classes = _Known(self._read_classes)
        self.validities = _Known(self._read_validity)
        self.offices = _Known(self._read_office)
        self.photo_days = _Known(self._read_photo_day)
        self.letters = _Known(self._read_letters)

    def _read_classes(self, cell: str) -> PlainClasses | None:
        held = read_classes(cell) if len(cell) <= _MAX_CELL else None
        if held is None:
            return None
        broken: list[Violation] = []
        check_class_shapes(held, "", broken)
        # What a birth and a first issue have to do with it is looked at row by row.
        check_classes(held, date.max, date.min, self._on, True, broken)
        if broken:
            return None
        each = list(map(to.class_bytes, held))
        return PlainClasses(
            held,
            b"".join([to.field(to.CLASS, data) for data in each]),
            b"".join([to.field(to.STANDING_CLASS, data) for data in each]),
        )

    def _read_validity(self, cells: tuple[str, str, str]) -> PlainValidity | None:
        kind = VALIDITY_KINDS.get(cells[0])
        start = read_day(cells[1])
        until = read_day(cells[2]) if cells[2] else None
        if kind is None or start is None or (cells[2] and until is None):
            return None
        validity = Validity(ValidityKind(kind), start, until)
        first: list[Violation] = []
        later: list[Violation] = []
        check_validity(validity, start, self._on, first)
        check_validity(validity, date.min, self._on, later)
        if (first and later) or start == date.min:
            return None
        data = to.validity_bytes(validity)
        fields = to.field(to.VALIDITY, data), to.field(to.STANDING_VALIDITY, data)
        return PlainValidity(start, not first, not later, *fields)

    def _read_office(self, cells: tuple[str, str, str]) -> bytes | None:
        division, authority, archive = cells
        broken: list[Violation] = []
        check_office(division, archive, self._city, broken)
        if broken or not is_division(division):
            return None
        if authority != authority.strip() or not 1 <= len(authority) <= MAX_AUTHORITY:
            return None
        return to.text_field(to.AUTHORITY, authority) + to.text_field(to.DIVISION, division)

    def _read_photo_day(self, cell: str) -> tuple[bytes, bytes] | None:
        day = read_day(cell)
        if day is None:
            return None
        broken: list[Violation] = []
        check_photo(day, self._on, broken)
        if broken:
            return None
        behind = to.field(to.CAPTURED, to.day_bytes(day))
        before = to.SHA256 + to.LENGTHS[_DIGEST_SIZE]
        return to.PHOTO + to.LENGTHS[len(before) + _DIGEST_SIZE + len(behind)] + before, behind

    def _read_letters(self, cell: str) -> PlainLetters | None:
        held = read_letters(cell) if len(cell) <= _MAX_CELL and cell.strip() else None
        if held is None:
            return None
        broken: list[Violation] = []
        check_letter_shapes(held, "", broken)
        check_letters(held, self._on, broken)
        return None if broken else PlainLetters(held, to.letters_bytes(held), to.standing_letters_bytes(held))


def _read_kind(cells: tuple[str, str, str]) -> PlainKind | None:
    document_type, sex = DOCUMENT_TYPES.get(cells[0]), SEXES.get(cells[1])
    if document_type is None or sex is None or not is_nationality(cells[2]):
        return None
    fields = (to.SEX + to.varint(sex) if sex else b"") + to.text_field(to.NATIONALITY, cells[2])
    return PlainKind(document_type, sex, to.DOCUMENT_TYPE + to.varint(document_type) + to.DOCUMENT_NUMBER, fields)


def _read_code(code: str) -> bytes | None:
    broken: list[Violation] = []
    check_class_shapes((VehicleClass(code, date.min),), "", broken)
    return None if broken else to.text_field(to.CODE, code)


def _read_day(cell: str) -> PlainDay | None:
    day = read_day(cell)
    if day is None:
        return None
    data = to.day_bytes(day)
    fields = [to.field(before, data) for before in (to.BIRTH_DATE, to.FIRST_ISSUE, to.CLASS_FROM)]
    return PlainDay(day, cell.replace("-", ""), *fields)
