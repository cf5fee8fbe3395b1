"""Rows of drivers as an import brings them by the million: read, judged and written in one go.

Nearly every row is *plain*: its cells are spelled in the usual way, and it breaks no rule.  What
drivers share (days, classes with their first day, validities, offices) is read and judged once, by
the rules of :mod:`elicense.license.shape` and :mod:`elicense.license.eligibility`, and kept with its
bytes.  What is left of a row costs a tenth of the general way, which makes an object of each part.

A row that is not plain for certain is left to the general way, which says what is wrong with it if
anything is.  So nothing here refuses a row, and a plain one comes to the same bytes either way.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import date
from operator import itemgetter
from typing import Final, NamedTuple

from elicense.license import license_bytes as to
from elicense.license.csv_format import COLUMNS
from elicense.license.csv_line import MAX_LINE_LENGTH
from elicense.license.document import document_violation, is_resident_number, resident_sex
from elicense.license.eligibility import (
    POINT_LIMIT,
    class_reason,
)
from elicense.license.model import DocumentType, IdentityDocument, StatusLetter
from elicense.license.plain_cells import PlainCells, PlainDay, PlainKind, PlainLetters
from elicense.license.points import next_cycle
from elicense.license.shape import (
    ARCHIVE_LENGTH,
    MAX_ADDRESS,
    MAX_LATIN,
    MAX_NAME,
    MAX_NUMBER,
    is_digits,
)

_RESIDENT: Final = int(DocumentType.RESIDENT_ID)
#: Date of birth in a resident number.
_BIRTH: Final = slice(6, 14)
_HEX_DIGITS: Final = 64
_DIVISION_DIGITS: Final = 6
_ARCHIVE: Final = to.ARCHIVE + to.LENGTHS[ARCHIVE_LENGTH]
#: Points that a licence may have and still be issued, as they are spelled.
_POINTS: Final = {"": 0, **{str(points): points for points in range(POINT_LIMIT)}}


class PlainRow(NamedTuple):
    """A licence that breaks no rule.

    Attributes:
        document_type: Kind of the holder's document.
        document_number: Its number, in normal form.
        full_name: The holder's name.
        document: The document, serialized.
        asked: The licence, serialized.
        license: The same with the day on which its points are cleared, where it has any.
        standing: Its standing, serialized, with that day too.
        points: Points that it starts with.
        letters: Its status letters.
    """

    document_type: int
    document_number: str
    full_name: str
    document: bytes
    asked: bytes
    license: bytes
    standing: bytes
    points: int
    letters: tuple[StatusLetter, ...]


_NO_LETTERS: Final = PlainLetters((), b"", b"")


class PlainRows:
    """Reads the plain rows of a file of drivers, as of one day.

    Args:
        columns: Its columns, through :func:`~elicense.license.csv_format.check_header`.
        on: Day of the application, in China.
        city: Division code of the city that issues.
    """

    def __init__(self, columns: Sequence[str], *, on: date, city: int) -> None:
        self._count = len(columns)
        # A column that the file leaves out is read from an empty cell behind the last one.
        places = [columns.index(column) if column in columns else len(columns) for column in COLUMNS]
        self._arranged: Callable[[list[str]], tuple[str, ...]] = itemgetter(*places)
        self._on = on
        self._cells = PlainCells(on=on, city=city)

    def read(self, line: str) -> PlainRow | None:
        """Return the licence in one line, without its end; None when it is not plain."""
        if len(line) > MAX_LINE_LENGTH or '"' in line or "\r" in line or "\n" in line or "\0" in line:
            return None
        cells = line.split(",")
        if len(cells) != self._count:
            return None
        cells.append("")
        (
            document_type,
            number,
            full_name,
            family_name,
            given_name,
            sex,
            nationality,
            birth_date,
            address,
            vehicle_classes,
            first_issue_date,
            validity_kind,
            valid_from,
            valid_until,
            archive,
            authority,
            division,
            photo,
            photo_day,
            status_letters,
            points_cell,
        ) = self._arranged(cells)
        known = self._cells
        points = _POINTS.get(points_cell)
        letters = known.letters[status_letters] if status_letters else _NO_LETTERS
        kind = known.kinds[document_type, sex, nationality]
        birth = known.days[birth_date]
        first = known.days[first_issue_date]
        if points is None or letters is None or kind is None or birth is None or first is None:
            return None
        person = _person(kind, birth, number, full_name, family_name, given_name, address)
        terms = self._terms(vehicle_classes, first, (validity_kind, valid_from, valid_until), birth.day)
        papers = self._papers(archive, authority, division, photo, photo_day)
        if person is None or terms is None or papers is None:
            return None
        license_classes, license_validity, standing_classes, standing_validity = terms
        document, holder = person
        parts = (holder, license_classes, first.first_issue, license_validity, papers, letters.license)
        asked = kept = b"".join(parts)
        standing = standing_classes + letters.standing + standing_validity
        if points:
            roll = to.day_bytes(next_cycle(first.day, self._on))
            asked += to.POINTS + to.varint(points)
            kept = asked + to.field(to.POINTS_ROLL, roll)
            standing += to.field(to.STANDING_POINTS_ROLL, roll)
        return PlainRow(kind.document_type, number, full_name, document, asked, kept, standing, points, letters.held)

    # -- parts of a row ------------------------------------------------------------------------------------------------

    def _terms(
        self, cell: str, first: PlainDay, validity_cells: tuple[str, str, str], born: date
    ) -> tuple[bytes, bytes, bytes, bytes] | None:
        """Return classes and validity as fields of the licence and as fields of its standing."""
        validity = self._cells.validities[validity_cells]
        issued = first.day
        if validity is None or not born < issued <= self._on:
            return None
        if not (validity.holds_later if issued < validity.start else validity.holds_first and issued == validity.start):
            return None
        classes = self._classes(cell, born, issued)
        return None if classes is None else (classes[0], validity.license, classes[1], validity.standing)

    def _classes(self, cell: str, born: date, issued: date) -> tuple[bytes, bytes] | None:
        """Return classes as fields of the licence and as fields of its standing."""
        known, on = self._cells, self._on
        # Nearly everybody has one, without an end and limits.
        code, _, start_cell = cell.partition(":")
        start = known.days[start_cell]
        code_field = known.codes[code]
        if start is not None and code_field is not None:
            if class_reason(code, start.day, born, issued, on, True):
                return None
            data = code_field + start.class_from
            rest = to.LENGTHS[len(data)] + data
            return to.CLASS + rest, to.STANDING_CLASS + rest
        classes = known.classes[cell]
        if classes is None:
            return None
        for held in classes.held:
            if class_reason(held.code, held.from_date, born, issued, on, True):
                return None
        return classes.license, classes.standing

    def _papers(self, archive: str, authority: str, division: str, photo: str, photo_day: str) -> bytes | None:
        """Return archive number, office and portrait as fields of the licence."""
        office = self._cells.offices[division, authority, archive[:_DIVISION_DIGITS]]
        around = self._cells.photo_days[photo_day]
        if office is None or around is None or len(archive) != ARCHIVE_LENGTH or not is_digits(archive):
            return None
        try:
            digest = bytes.fromhex(photo)
        except ValueError:
            return None
        # fromhex() skips blanks, so both lengths count.
        if len(photo) != _HEX_DIGITS or len(digest) != _HEX_DIGITS // 2:
            return None
        return b"".join((_ARCHIVE, archive.encode(), office, around[0], digest, around[1]))


def _person(
    kind: PlainKind, birth: PlainDay, number: str, full_name: str, family_name: str, given_name: str, address: str
) -> tuple[bytes, bytes] | None:
    """Return a holder's document, and the holder as a field of the licence."""
    if not (number.isascii() and number.isalnum() and number == number.upper()):
        return None
    if kind.document_type == _RESIDENT:
        if number[_BIRTH] != birth.digits or not is_resident_number(number) or resident_sex(number) != kind.sex:
            return None
    elif len(number) > MAX_NUMBER or document_violation(IdentityDocument(kind.document_type, number), "") is not None:
        return None
    if not (
        1 <= len(full_name) <= MAX_NAME
        and len(family_name) <= MAX_LATIN
        and len(given_name) <= MAX_LATIN
        and 1 <= len(address) <= MAX_ADDRESS
        and full_name == full_name.strip()
        and family_name == family_name.strip()
        and given_name == given_name.strip()
        and address == address.strip()
    ):
        return None
    lengths = to.LENGTHS
    name, place, digits = full_name.encode(), address.encode(), number.encode()
    document = kind.before_number + lengths[len(digits)] + digits
    holder = b"".join(
        (
            to.FULL_NAME,
            lengths[len(name)],
            name,
            to.text_field(to.FAMILY_NAME, family_name),
            to.text_field(to.GIVEN_NAME, given_name),
            to.DOCUMENT,
            lengths[len(document)],
            document,
            kind.sex_and_nationality,
            birth.birth,
            to.ADDRESS,
            lengths[len(place)],
            place,
        )
    )
    return document, to.field(to.HOLDER, holder)
