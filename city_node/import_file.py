"""Reading a file of drivers row by row, from any row on, and writing down those that were refused."""

from __future__ import annotations

import csv
import io
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

from elicense.errors import Error, Malformed, Violation
from elicense.license.codec import license_to_message
from elicense.license.csv_format import check_header, parse_row, to_columns
from elicense.v1 import license_pb2

_BOM: Final = b"\xef\xbb\xbf"
#: A line without quotes, further line ends and cells that the reader refuses for their length.
_PLAIN: Final = re.compile(r'[^"\r\n\0]{1,100000}')
_REJECT_COLUMNS: Final = ("row", "reasons")


@dataclass(frozen=True, slots=True)
class ReadRow:
    """A row of the file.

    Attributes:
        number: Its number, from 1 after the header; empty lines do not count.
        end: Where the next row begins, bytes.
        license: The licence in it; None when it can not be read.
        error: Why not.
    """

    number: int
    end: int
    license: license_pb2.License | None
    error: Error | None


class DriverFile:
    """A file of drivers, open for reading.

    Args:
        source: The file, opened in binary.

    Raises:
        Malformed: The header is not right.
    """

    def __init__(self, source: IO[bytes]) -> None:
        self._source = source
        self._offset = 0
        try:
            self._header = next(map(_cells, self._lines()), None)
        except csv.Error as error:
            raise Malformed("the first row can not be read as CSV") from error
        check_header(self._header)
        self._start = self._offset

    def rows(self, number: int, offset: int) -> Iterator[ReadRow]:
        """Yield rows from row ``number`` on, which begins at ``offset`` (0 for the first row).

        A row is one line that is not empty: no column has a line break in it, and
        so an unclosed quote spoils its own row and swallows none that follow.
        """
        self._offset = offset or self._start
        self._source.seek(self._offset)
        for line in self._lines():
            error: Error | None = None
            try:
                cells = _cells(line)
            except csv.Error:
                cells = []
                error = Malformed("the row can not be read as CSV; check its quotes, and keep each row on one line")
            if cells or error is not None:
                yield self._read(number, cells, error)
                number += 1

    def _read(self, number: int, cells: Sequence[str], error: Error | None) -> ReadRow:
        header = self._header or []
        row: dict[str, str | None] = dict(zip(header, cells, strict=False))
        try:
            if error is not None:
                raise error
            if not _is_text(cells):
                raise Malformed("the row is not UTF-8; save the file as UTF-8")
            if len(cells) != len(header):
                found = Violation("", "CELL_COUNT_WRONG", f"Give {len(header)} cells; the row has {len(cells)}.")
                raise Malformed("the row has another number of cells than the header", violations=[found])
            message = license_to_message(parse_row(row))
        except Error as raised:
            return ReadRow(number, self._offset, None, raised)
        return ReadRow(number, self._offset, message, None)

    def _lines(self) -> Iterator[str]:
        """Yield lines and keep count of the bytes, which a row boundary is found by."""
        for line in self._source:
            text = line.removeprefix(_BOM) if self._offset == 0 else line
            self._offset += len(line)
            yield text.decode("utf-8", errors="surrogateescape")


class RejectsFile:
    """The rows that were refused, each once, with its number and every reason.

    Args:
        path: Where it is written.
        size: How much of it is settled; what lies beyond belongs to rows that are sent again.

    Raises:
        Malformed: The file is no rejects file, or it has lost lines since the last run.
    """

    def __init__(self, path: Path, size: int) -> None:
        self._sink = path.open("r+b" if path.exists() else "w+b")
        try:
            self._check(path, size)
        except Malformed:
            self._sink.close()
            raise
        self._sink.truncate(size)
        self._sink.seek(size)
        if size == 0:
            self.append([_REJECT_COLUMNS])

    def _check(self, path: Path, size: int) -> None:
        """Refuse a file that another program wrote, or that is not the one of the last run."""
        header = _csv_line(_REJECT_COLUMNS)
        # A kill may have left a part of the header.
        if not header.startswith(self._sink.read(len(header))):
            raise Malformed(f"{path.name} is not a file of refused rows; name another for --rejects")
        if self._sink.seek(0, os.SEEK_END) < size:
            raise Malformed(
                f"{path.name} is shorter than the last run left it; restore it, "
                "or remove the progress file to begin a new import"
            )

    def append(self, lines: Sequence[Sequence[str | int]]) -> int:
        """Append lines durably and return the length of the file."""
        if lines:
            for line in lines:
                self._sink.write(_csv_line(line))
            self._sink.flush()
            os.fsync(self._sink.fileno())
        return self._sink.tell()

    def close(self) -> None:
        """Close the file."""
        self._sink.close()


def reasons_of(error: Error) -> str:
    """Return every reason for which a row was refused, by column, in one cell."""
    if not error.violations:
        return f"{error.reason}: {error.message}"
    return "; ".join(
        f"{violation.field or 'row'}: {violation.message} [{violation.reason}]"
        for violation in to_columns(error.violations)
    )


def _cells(line: str) -> list[str]:
    """Return the cells of one line by itself, none for an empty one."""
    bare = line.removesuffix("\n").removesuffix("\r")
    if _PLAIN.fullmatch(bare):
        # What the reader would give, in a tenth of the time.
        return bare.split(",")
    return next(csv.reader((line,), strict=True), [])


def _is_text(cells: Sequence[str]) -> bool:
    """Tell whether every byte of the cells was UTF-8; those that were not became lone surrogates."""
    try:
        "".join(cells).encode()
    except UnicodeEncodeError:
        return False
    return True


def _csv_line(cells: Sequence[str | int]) -> bytes:
    line = io.StringIO(newline="")
    csv.writer(line, lineterminator="\n").writerow(cells)
    return line.getvalue().encode()
