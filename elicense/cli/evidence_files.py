"""Evidence as files: what is stated in one, what opens the question in another beside it."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Final

from elicense.errors import AlreadyExists, Error, Malformed

_OPENING: Final = re.compile(r"[0-9a-f]{64}\n?\Z")
_OPENING_SIZE: Final = 256


def keep(path: Path, statement: bytes, opening: bytes) -> None:
    """Write evidence and what opens it to two new files: the first may be shown without the second.

    Raises:
        AlreadyExists: One of them is there already.
    """
    write_new(path, statement)
    write_new(opening_of(path), opening.hex().encode() + b"\n")


def write_new(path: Path, data: bytes) -> None:
    """Write a file that was not there, for its owner alone.

    Raises:
        AlreadyExists: It is there already.
        Error: It can not be written.
    """
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        raise AlreadyExists(f"{path} exists; evidence is never overwritten") from None
    except OSError as error:
        raise Error(f"{path} can not be written: {error.strerror}") from error
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)


def opening_of(path: Path) -> Path:
    """Return the file beside evidence with what opens its question."""
    return path.with_name(path.name + ".opening")


def read_opening(path: Path) -> bytes:
    """Return what opens a question.

    Raises:
        Malformed: The file does not hold it.
    """
    text = read_bounded(path, _OPENING_SIZE).decode(errors="replace")
    if not _OPENING.match(text):
        raise Malformed(f"{path.name} does not hold the opening of a question")
    return bytes.fromhex(text)


def read_bounded(path: Path, limit: int) -> bytes:
    """Read a whole file of at most ``limit`` bytes.

    Raises:
        Malformed: It is larger.
        Error: It can not be read.
    """
    try:
        with path.open("rb") as file:
            data = file.read(limit + 1)
    except OSError as error:
        raise Error(f"{path} can not be read: {error.strerror}") from error
    if len(data) > limit:
        raise Malformed(f"{path.name} is too large to be what it should be")
    return data
