"""What an import remembers between two runs, so that a kill at any moment costs nothing and repeats nothing.

Two facts make a row safe to send twice: the import's random key, which is on
disk before the first row leaves, and the row's number; together they give the
request id.  The node answers a repeated request id with the first result, so
what was acknowledged but not yet noted here comes to the same licence again.
"""

from __future__ import annotations

import fcntl
import hmac
import json
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields, replace
from hashlib import sha256
from pathlib import Path
from typing import IO, Final

from elicense.errors import AlreadyExists, Malformed
from elicense.uuids import uuid_text

KEY_BYTES: Final = 32
_VERSION: Final = 2
#: Bytes of a request id that all rows of an import share, and bytes of the row itself.
_FRONT_BYTES: Final = 5
_OWN_BYTES: Final = 5
_CHUNK: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class Progress:
    """How far an import has come; every row before ``next_row`` is settled.

    Attributes:
        import_key: Random key of this import, hexadecimal.
        file_sha256: Digest of the file, hexadecimal.
        next_row: Number of the next row, from 1.
        offset: Where that row begins in the file, bytes.
        imported: Rows whose licence stands.
        refused: Rows in the rejects file.
        rejects_size: Length of the rejects file, bytes; what lies beyond was not noted here yet.
        finished: Whether every row is settled.
        version: Form of this file.
    """

    import_key: str
    file_sha256: str
    next_row: int = 1
    offset: int = 0
    imported: int = 0
    refused: int = 0
    rejects_size: int = 0
    finished: bool = False
    version: int = _VERSION


class RequestIds:
    """Gives each row of an import its request id: a UUID, the same whenever the row is sent.

    Args:
        import_key: Random key of the import, hexadecimal.
    """

    def __init__(self, import_key: str) -> None:
        self._key = bytes.fromhex(import_key)
        # The import's own beginning and the row's number stand in front, so that the requests of one
        # import lie together in the node's index.  RFC 9562, version 8: made by a rule of one's own.
        self._front = hmac.digest(self._key, b"import", "sha256")[:_FRONT_BYTES]

    def of(self, row: int) -> str:
        """Return the request id of a row."""
        high, middle, low = row >> 24, row >> 16 & 0xFF, row & 0xFFFF
        own = hmac.digest(self._key, b"row\n%d" % row, "sha256")[:_OWN_BYTES]
        return uuid_text(self._front + bytes((high, 0x80, middle, 0x80)) + low.to_bytes(2) + own)


def open_progress(path: Path, file: Path, *, random: Callable[[int], bytes]) -> Progress:
    """Return where an import of ``file`` stands; begins one, durably, when there is none.

    Raises:
        Malformed: The progress file can not be read, or the file has changed since the import began.
    """
    digest = _digest(file)
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        progress = Progress(random(KEY_BYTES).hex(), digest)
        save_progress(path, progress)
        return progress
    progress = _parse(text, path)
    if progress.file_sha256 != digest:
        raise Malformed(
            f"{file.name} has changed since this import began; restore it, "
            f"or remove {path.name} to begin a new import with the rows that are still missing"
        )
    return progress


def save_progress(path: Path, progress: Progress) -> None:
    """Write progress as a whole and durably."""
    temporary = path.with_name(f".{path.name}.new")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as sink:
        json.dump(asdict(progress), sink, indent=2)
        sink.write("\n")
        sink.flush()
        os.fsync(sink.fileno())
    temporary.replace(path)
    folder = os.open(path.absolute().parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def advance(progress: Progress, *, rows: int, offset: int, imported: int, refused: int, rejects_size: int) -> Progress:
    """Return progress after ``rows`` more rows are settled."""
    return replace(
        progress,
        next_row=progress.next_row + rows,
        offset=offset,
        imported=progress.imported + imported,
        refused=progress.refused + refused,
        rejects_size=rejects_size,
    )


def hold(file: IO[bytes]) -> None:
    """Keep other imports of the same file out for as long as it is open.

    Raises:
        AlreadyExists: One is running.
    """
    try:
        fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        raise AlreadyExists("another import of this file is running; wait for it") from error


def _digest(file: Path) -> str:
    digest = sha256()
    try:
        with file.open("rb") as source:
            while chunk := source.read(_CHUNK):
                digest.update(chunk)
    except OSError as error:
        raise Malformed(f"{file} can not be read: {error.strerror}") from error
    return digest.hexdigest()


def _parse(text: str, path: Path) -> Progress:
    damaged = Malformed(f"{path.name} is not the progress of an import; remove it to begin a new one")
    try:
        values = json.loads(text)
    except json.JSONDecodeError as error:
        raise damaged from error
    known = {field.name: field.type for field in fields(Progress)}
    if not isinstance(values, dict) or values.keys() != known.keys() or values["version"] != _VERSION:
        raise damaged
    expected = {"str": str, "int": int, "bool": bool}
    if any(type(value) is not expected[str(known[name])] for name, value in values.items()):
        raise damaged
    try:
        key = bytes.fromhex(values["import_key"])
    except ValueError as error:
        raise damaged from error
    if len(key) != KEY_BYTES:
        raise damaged
    return Progress(**values)
