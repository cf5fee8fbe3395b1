"""Reading a file of drivers row by row, from any row on, and writing down those that were refused."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Final, NamedTuple

from elicense.errors import Error, Malformed
from elicense.license.csv_format import check_header, to_columns
from elicense.license.csv_line import MAX_LINE_LENGTH, cells_of, check_length

_BOM: Final = b"\xef\xbb\xbf"
_MAX_LINE_BYTES: Final = 4 * (MAX_LINE_LENGTH + 1)
"""Most bytes of a line that are kept: no character takes more than four, so whatever is longer is refused."""

_REJECT_COLUMNS: Final = ("row", "reasons")


class ReadRow(NamedTuple):
    """A row of the file.

    Attributes:
        number: Its number, from 1 after the header; empty lines do not count.
        end: Where the next row begins, bytes.
        size: How many bytes it has.
        line: Its text, which the node reads; empty when it can not be sent.
        error: Why not.
    """

    number: int
    end: int
    size: int
    line: str
    error: Error | None = None


class DriverFile:
    """A file of drivers, open for reading.

    Args:
        source: The file, opened in binary.

    Raises:
        Malformed: The header is not right.
    """

    def __init__(self, source: IO[bytes]) -> None:
        self._source = source
        first = source.readline(_MAX_LINE_BYTES)
        self._start = len(first)
        try:
            columns = cells_of(first.removeprefix(_BOM).decode())
        except UnicodeDecodeError as error:
            raise Malformed("the first row is not UTF-8; save the file as UTF-8") from error
        check_header(columns)
        self.columns: Final = tuple(columns)
        """Its columns, in their order."""

    def rows(self, number: int, offset: int) -> Iterator[ReadRow]:
        """Yield rows from row ``number`` on, which begins at ``offset`` (0 for the first row).

        A row is one line that is not empty; see :mod:`elicense.license.csv_line`.
        """
        offset = offset or self._start
        self._source.seek(offset)
        while line := self._source.readline(_MAX_LINE_BYTES):
            rest = self._skip(line)
            offset += len(line) + rest
            bare = line.rstrip(b"\r\n")
            if bare:
                yield _read(number, offset, bare, rest)
                number += 1

    def _skip(self, line: bytes) -> int:
        """Go on to the end of a line that may have been cut; return how many bytes of it that left out."""
        skipped = 0
        while len(line) == _MAX_LINE_BYTES and not line.endswith(b"\n"):
            line = self._source.readline(_MAX_LINE_BYTES)
            skipped += len(line)
        return skipped


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


def _read(number: int, end: int, line: bytes, left_out: int) -> ReadRow:
    size = len(line) + left_out
    try:
        # The cut may have gone through a character.
        text = line.decode(errors="ignore" if left_out else "strict")
    except UnicodeDecodeError:
        return ReadRow(number, end, size, "", Malformed("the row is not UTF-8; save the file as UTF-8"))
    try:
        check_length(text)
    except Malformed as error:
        return ReadRow(number, end, size, "", error)
    return ReadRow(number, end, size, text)


def _csv_line(cells: Sequence[str | int]) -> bytes:
    line = io.StringIO(newline="")
    csv.writer(line, lineterminator="\n").writerow(cells)
    return line.getvalue().encode()
