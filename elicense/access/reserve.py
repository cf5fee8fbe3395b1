"""Room for looks that must be recorded when the access log's disk is full.

A file whose every byte was written when there was room, so that filling it again
needs none: records are written over the zeros, and flushed, one behind the other.
(A file system that copies on write keeps no such promise; give the reserve a place
on one that does not.)

Each record has its length and a checksum before it and a zero length behind it,
so that a write cut short by a crash ends the list and nothing else.
"""

from __future__ import annotations

import json
import os
import struct
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, get_type_hints

from elicense.access.entry import AccessEntry
from elicense.errors import StoreFull

RESERVE_BYTES: Final = 4 * 1024 * 1024
"""Room for some 10,000 looks, or for a whole day of single looks at a large station."""

_HEADER: Final = struct.Struct(">II")
_END: Final = bytes(_HEADER.size)
_BLOCK: Final = 64 * 1024
#: Places of the values of a look that JSON can not hold.
_BYTES: Final = [place for place, kind in enumerate(get_type_hints(AccessEntry).values()) if kind is bytes]


class AccessReserve:
    """The reserve of one process; not to be used by two threads at once.

    Args:
        path: Its file; made, with all its room, if it is missing.
        size: Its room in bytes.

    Raises:
        OSError: The file can not be made or read.
    """

    def __init__(self, path: Path, *, size: int = RESERVE_BYTES) -> None:
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._size = size
        self._fill_up()
        self._held, self._end = self._read()

    @property
    def held(self) -> Sequence[AccessEntry]:
        """The looks in it, oldest first."""
        return tuple(self._held)

    def add(self, entries: Sequence[AccessEntry]) -> None:
        """Write looks; they are durable on return.

        Raises:
            StoreFull: The reserve is spent too.
        """
        written = b"".join(map(_encode, entries)) + _END
        if self._end + len(written) > self._size:
            raise StoreFull("the access log is full and its reserve is spent; free some space")
        os.pwrite(self._file, written, self._end)
        os.fdatasync(self._file)
        self._end += len(written) - len(_END)
        self._held += entries

    def clear(self) -> None:
        """Forget the looks, which are durable elsewhere by now."""
        os.pwrite(self._file, _END, 0)
        os.fdatasync(self._file)
        self._held, self._end = [], 0

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)

    def _fill_up(self) -> None:
        held = os.fstat(self._file).st_size
        for offset in range(held, self._size, _BLOCK):
            os.pwrite(self._file, bytes(min(_BLOCK, self._size - offset)), offset)
        if held < self._size:
            os.fsync(self._file)

    def _read(self) -> tuple[list[AccessEntry], int]:
        stored = os.pread(self._file, self._size, 0)
        held, offset = [], 0
        while offset + _HEADER.size <= len(stored):
            length, checksum = _HEADER.unpack_from(stored, offset)
            body = stored[offset + _HEADER.size : offset + _HEADER.size + length]
            if not length or len(body) < length or zlib.crc32(body) != checksum:
                break
            held.append(_decode(body))
            offset += _HEADER.size + length
        return held, offset


def _encode(entry: AccessEntry) -> bytes:
    values = [value.hex() if isinstance(value, bytes) else value for value in entry]
    body = json.dumps(values).encode()
    return _HEADER.pack(len(body), zlib.crc32(body)) + body


def _decode(body: bytes) -> AccessEntry:
    values: list[Any] = json.loads(body)
    for place in _BYTES:
        values[place] = bytes.fromhex(values[place])
    return AccessEntry(*values)
