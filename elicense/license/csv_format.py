"""One driver a row: the file by which a city's older system hands over its drivers.

UTF-8, a header row, one column a field (:data:`COLUMNS`), dates as ``YYYY-MM-DD``::

    document_type       resident-id, passport, permanent-residence, hk-macao-permit, taiwan-permit, military-id
    sex                 male, female, unspecified, not-applicable
    validity_kind       six-years, ten-years, long-term
    vehicle_classes     C1:2015-06-03;D:2018-01-01            code:from[:until[:limit,limit]]
    status_letters      H:2021-03-01                          letter:start[:end[:legal basis[:authority]]]
    photo_sha256        64 hexadecimal digits

Inside a limit, a legal basis or an authority the characters ``% : ; ,`` are written
as in a URL (``%3A``).  Reading names every wrong column of a row at once.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import date
from functools import lru_cache
from typing import Final

from elicense.errors import Malformed, Violation
from elicense.license.csv_cells import read_classes, read_day, read_letters, write_classes, write_day, write_letters
from elicense.license.document import normalize_number
from elicense.license.model import (
    DocumentType,
    Holder,
    IdentityDocument,
    License,
    Photo,
    Sex,
    StatusLetter,
    Validity,
    ValidityKind,
    VehicleClass,
)
from elicense.license.shape import is_digits, shape_violations

COLUMNS: Final = (
    "document_type",
    "document_number",
    "full_name",
    "family_name_latin",
    "given_name_latin",
    "sex",
    "nationality",
    "birth_date",
    "address",
    "vehicle_classes",
    "first_issue_date",
    "validity_kind",
    "valid_from",
    "valid_until",
    "archive_number",
    "issuing_authority",
    "division_code",
    "photo_sha256",
    "photo_capture_date",
    "status_letters",
    "points",
)
"""Every column, in the order in which files are written."""

OPTIONAL_COLUMNS: Final = frozenset(
    {"family_name_latin", "given_name_latin", "valid_until", "status_letters", "points"}
)
"""Columns that a file may leave out."""

_COLUMN_OF_FIELD: Final = {
    "holder.full_name": "full_name",
    "holder.family_name_latin": "family_name_latin",
    "holder.given_name_latin": "given_name_latin",
    "holder.document.type": "document_type",
    "holder.document.number": "document_number",
    "holder.sex": "sex",
    "holder.nationality": "nationality",
    "holder.birth_date": "birth_date",
    "holder.address": "address",
    "validity.kind": "validity_kind",
    "validity.from_date": "valid_from",
    "validity.until_date": "valid_until",
    "photo.sha256": "photo_sha256",
    "photo.capture_date": "photo_capture_date",
}


def _spelled(members: Iterable[DocumentType | Sex | ValidityKind]) -> dict[str, int]:
    return {member.name.lower().replace("_", "-"): member for member in members}


DOCUMENT_TYPES: Final = _spelled(DocumentType)
SEXES: Final = _spelled(Sex)
VALIDITY_KINDS: Final = _spelled(ValidityKind)
_NO_DAY: Final = date.min
_SOME_CLASS: Final = (VehicleClass("C1", _NO_DAY),)


def column_of(field: str) -> str:
    """Return the column that holds a field of a licence, such as ``license.vehicle_classes[0].code``."""
    bare = field.removeprefix("license.").partition("[")[0]
    return _COLUMN_OF_FIELD.get(bare, bare)


def to_columns(violations: Iterable[Violation]) -> tuple[Violation, ...]:
    """Return violations of a licence with the columns of its row in place of its fields."""
    return tuple(Violation(column_of(each.field), each.reason, each.message) for each in violations)


def check_header(header: Iterable[str] | None) -> None:
    """Check the first row of a file.

    Raises:
        Malformed: A column is missing, unknown or there twice; all are named.
    """
    names = list(header or ())
    faults = [
        Violation(column, "COLUMN_MISSING", "Add the column to the file.")
        for column in COLUMNS
        if column not in names and column not in OPTIONAL_COLUMNS
    ]
    faults += [
        Violation(name[:64], "COLUMN_UNKNOWN", "Remove the column or correct its name.")
        for name in names
        if name not in COLUMNS
    ]
    faults += [
        Violation(column, "COLUMN_REPEATED", "Keep the column once.") for column in COLUMNS if names.count(column) > 1
    ]
    if faults:
        raise Malformed("the file's header is not right; correct the columns named", violations=faults)


@lru_cache(maxsize=65_536)
def _validity(kind: int, start: date, until: date | None) -> Validity:
    return Validity(ValidityKind(kind), start, until)


class _Cells:
    """The cells of one row, and what is wrong with them."""

    __slots__ = ("faults", "row")

    def __init__(self, row: Mapping[str, str | None]) -> None:
        self.row = row
        self.faults: list[Violation] = []

    def text(self, column: str) -> str:
        cell = self.row.get(column)
        return cell.strip() if cell else ""

    def day(self, column: str) -> date:
        day = read_day(self.row.get(column) or "") or read_day(self.text(column))
        if day is None:
            self.fault(column, "DATE_INVALID", "Give a date that exists, as YYYY-MM-DD.")
            return _NO_DAY
        return day

    def choice(self, column: str, values: Mapping[str, int]) -> int:
        value = values.get(self.row.get(column) or "")
        if value is None:
            value = values.get(self.text(column).lower().replace("_", "-"))
        if value is None:
            self.fault(column, "VALUE_UNKNOWN", f"Give one of: {', '.join(values)}.")
            return next(iter(values.values()))
        return value

    def fault(self, column: str, reason: str, message: str) -> None:
        self.faults.append(Violation(column, reason, message))


def parse_row(row: Mapping[str, str | None]) -> License:
    """Return the licence in one row, its document number in normal form.

    Args:
        row: Cells by column, as :class:`csv.DictReader` gives them.

    Raises:
        Malformed: Some columns are in the wrong form; all are named.
    """
    cells = _Cells(row)
    text = cells.text
    day = cells.day
    until = day("valid_until") if row.get("valid_until") else None
    license_ = License(
        Holder(
            text("full_name"),
            IdentityDocument(
                DocumentType(cells.choice("document_type", DOCUMENT_TYPES)), normalize_number(text("document_number"))
            ),
            Sex(cells.choice("sex", SEXES)),
            text("nationality"),
            day("birth_date"),
            text("address"),
            text("family_name_latin"),
            text("given_name_latin"),
        ),
        _read_classes(cells),
        day("first_issue_date"),
        _validity(cells.choice("validity_kind", VALIDITY_KINDS), day("valid_from"), until),
        text("archive_number"),
        text("issuing_authority"),
        text("division_code"),
        Photo(_read_digest(cells), day("photo_capture_date")),
        _read_letters(cells),
        _read_points(cells),
    )
    if None in row:
        cells.fault("", "CELLS_EXTRA", "Remove the cells behind the last column; quote cells that hold a comma.")
    faults = cells.faults
    shape = shape_violations(license_, "")
    if faults or shape:
        faults.extend(to_columns(shape))
        raise Malformed("the row is not in the right form; correct the columns named", violations=faults)
    return license_


def _read_classes(cells: _Cells) -> tuple[VehicleClass, ...]:
    classes = read_classes(cells.row.get("vehicle_classes") or "")
    if classes is None:
        cells.fault("vehicle_classes", "FORM_INVALID", "Give classes with their first day, such as C1:2015-06-03.")
        return _SOME_CLASS
    return classes


def _read_letters(cells: _Cells) -> tuple[StatusLetter, ...]:
    cell = cells.row.get("status_letters")
    if not cell or not cell.strip():
        return ()
    letters = read_letters(cell)
    if letters is None:
        cells.fault("status_letters", "FORM_INVALID", "Give letters with their first day, such as H:2021-03-01.")
        return ()
    return letters


def _read_digest(cells: _Cells) -> bytes:
    cell = cells.text("photo_sha256")
    try:
        digest = bytes.fromhex(cell)
    except ValueError:
        digest = b""
    # fromhex() skips blanks, so the length of the cell is checked as well.
    if len(digest) != 32 or len(cell) != 64:
        cells.fault("photo_sha256", "FORM_INVALID", "Give the SHA-256 of the photo as 64 hexadecimal digits.")
        return bytes(32)
    return digest


def _read_points(cells: _Cells) -> int:
    cell = cells.text("points")
    if not cell:
        return 0
    if len(cell) > 4 or not is_digits(cell):
        cells.fault("points", "FORM_INVALID", "Give the points as a number.")
        return 0
    return int(cell)


def _spell(values: Mapping[str, int], number: int) -> str:
    return next(text for text, value in values.items() if value == number)


def format_row(license_: License) -> dict[str, str]:
    """Return the row of a licence: what :func:`parse_row` reads back, name and output-only fields aside."""
    holder = license_.holder
    validity = license_.validity
    cells = (
        _spell(DOCUMENT_TYPES, holder.document.type),
        holder.document.number,
        holder.full_name,
        holder.family_name_latin,
        holder.given_name_latin,
        _spell(SEXES, holder.sex),
        holder.nationality,
        write_day(holder.birth_date),
        holder.address,
        write_classes(license_.vehicle_classes),
        write_day(license_.first_issue_date),
        _spell(VALIDITY_KINDS, validity.kind),
        write_day(validity.from_date),
        write_day(validity.until_date),
        license_.archive_number,
        license_.issuing_authority,
        license_.division_code,
        license_.photo.sha256.hex(),
        write_day(license_.photo.capture_date),
        write_letters(license_.status_letters),
        str(license_.points),
    )
    return dict(zip(COLUMNS, cells, strict=True))
