"""The anchor: the head that a log signed last, kept in a small file beside its database.

A database that was set back looks sound; only what it signed tells.  So each
signed head is written here before anybody hears of it, best on another disk.
A write survives the end of the process at once and a power cut after the next
flush, every second, which costs no commit anything.

The file has two slots, written in turn, each with a checksum: a write that
ended halfway leaves the head before it.  Between two flushes both slots are
written, many times over, and a power cut may then leave of each sector whatever
it had held since.  So a head and its checksum share one sector, as far as they
have room in it: of each slot there is a whole head, and none is older than what
was flushed.  Processes take turns by a lock on the file, and none moves it back.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from threading import Lock
from typing import Final

import structlog

from elicense.errors import Error, LogBehind, LogForked, Malformed, NotFound, StoreCorrupt
from elicense.log.checkpoint import Checkpoint, parse_checkpoint
from elicense.log.decision import SignedHead
from elicense.log.note import parse_note
from elicense.trust.secret_file import SECRET_MODE, replace_file

SLOT_SIZE: Final = 4_096
"""Bytes of a slot: a page of its own, so that a torn write can not reach the other one."""

SECTOR_SIZE: Final = 512
"""Bytes that every disk writes as one; a head whose origin has up to 150 characters fits in."""

FLUSH_SECONDS: Final = 1.0

_CHECKSUM_SIZE: Final = 32
_FILE_SIZE: Final = 2 * SLOT_SIZE
#: Where the checksum of a slot may end: with the last sector that the head needs.
_SLOT_ENDS: Final = range(SECTOR_SIZE, SLOT_SIZE + 1, SECTOR_SIZE)

_log = structlog.stdlib.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class _Content:
    """The file's bytes, the later head in them and the place of its slot."""

    raw: bytes
    last: Checkpoint | None
    place: int

    def with_slot(self, slot: bytes, place: int, head: Checkpoint) -> _Content:
        raw = self.raw.ljust(_FILE_SIZE, b"\0")
        return _Content(raw[:place] + slot + raw[place + SLOT_SIZE :], head, place)


class Anchor:
    """The file of one log; its methods may be called on any thread.

    Args:
        path: The file; see :func:`create_anchor`.
        origin: Origin of the log in its open epoch.
    """

    def __init__(self, path: Path, origin: str) -> None:
        self.path = path
        self.origin = origin
        self._threads = Lock()
        self._descriptor: int | None = None
        self._known = _Content(b"", None, 0)
        self._dirty = False
        self._failure: OSError | None = None

    def last(self) -> Checkpoint | None:
        """Return the latest head that any process of this node signed; None when the file is missing or damaged."""
        try:
            with self._threads:
                return self._read(self._open())
        except (OSError, NotFound):
            return None

    def keep(self, signed: SignedHead) -> None:
        """Keep a head that was signed, unless a later one is kept already; it survives this process on return.

        Raises:
            LogForked: Another head of the same size was signed.
            LogBehind: A later epoch was opened.
            NotFound: The file is missing.
            OSError: It can not be written.
        """
        with self._threads:
            if self._failure is not None:
                raise self._failure
            descriptor = self._open()
            with _locked(descriptor):
                last = self._read(descriptor)
                if last is not None and not self._moves_on(last, signed):
                    return
                slot = _slot(signed.note)
                # Over the older of the two, so that the other one is whole at every moment.
                place = SLOT_SIZE - self._known.place
                if os.pwrite(descriptor, slot, place) != SLOT_SIZE:
                    raise OSError(f"{self.path.name} was written in part")
                self._known = self._known.with_slot(slot, place, Checkpoint(self.origin, signed.size, signed.root))
                self._dirty = True

    def flush(self) -> None:
        """Make what was kept survive a power cut; a failure is told to the next who keeps a head.

        Raises:
            OSError: The disk failed.
        """
        with self._threads:
            if not self._dirty or self._descriptor is None:
                return
            self._dirty = False
            descriptor = os.dup(self._descriptor)
        try:
            os.fdatasync(descriptor)
        except OSError as error:
            self._failure = error
            raise
        finally:
            os.close(descriptor)

    def close(self) -> None:
        """Flush and let go of the file."""
        with suppress(OSError):
            self.flush()
        with self._threads:
            if self._descriptor is not None:
                os.close(self._descriptor)
                self._descriptor = None

    async def flush_for_ever(self) -> None:
        """Flush every second, away from the event loop; ends by being cancelled."""
        while True:
            await asyncio.sleep(FLUSH_SECONDS)
            if not self._dirty:
                continue
            try:
                await asyncio.to_thread(self.flush)
            except OSError as error:
                _log.critical("anchor_not_flushed", detail=error.strerror)

    def _moves_on(self, last: Checkpoint, signed: SignedHead) -> bool:
        """Whether a head is later than the last one.

        Raises:
            LogForked: It is another one of the same size.
            LogBehind: It is of an epoch that has ended.
        """
        own, kept = epoch_of(self.origin), epoch_of(last.origin)
        if kept > own:
            raise LogBehind(f"epoch {kept} of this log was opened; restart this node", openEpoch=kept)
        if kept == own and last.size == signed.size and last.root != signed.root:
            raise LogForked("another head of this size was signed before", size=signed.size)
        return kept < own or last.size < signed.size

    def _open(self) -> int:
        if self._descriptor is None:
            try:
                self._descriptor = os.open(self.path, os.O_RDWR | os.O_CLOEXEC)
            except FileNotFoundError as error:
                raise NotFound(f"{self.path} is missing") from error
        return self._descriptor

    def _read(self, descriptor: int) -> Checkpoint | None:
        raw = os.pread(descriptor, _FILE_SIZE, 0)
        if raw != self._known.raw:
            self._known = _content(raw)
        return self._known.last


def create_anchor(path: Path, note: bytes) -> None:
    """Make the file anew, whole and durable, with ``note`` as the only head that it knows.

    For whoever opens a log or an epoch, or vouches that a database is the newest there is.

    Raises:
        OSError: It can not be written.
    """
    replace_file(path, _slot(note).ljust(_FILE_SIZE, b"\0"), SECRET_MODE)


def epoch_of(origin: str) -> int:
    """Return the epoch that the origin of a log ends with.

    Raises:
        Malformed: It ends with none.
    """
    text = origin.rpartition("/")[2]
    if not (text.isascii() and text.isdecimal()):
        raise Malformed("the origin of a log ends with its epoch")
    return int(text)


def _slot(note: bytes) -> bytes:
    if len(note) > SLOT_SIZE - _CHECKSUM_SIZE:
        raise StoreCorrupt("a signed head is larger than the anchor has room for")
    end = next(end for end in _SLOT_ENDS if len(note) <= end - _CHECKSUM_SIZE)
    body = note.ljust(end - _CHECKSUM_SIZE, b"\0")
    return (body + sha256(body).digest()).ljust(SLOT_SIZE, b"\0")


def _content(raw: bytes) -> _Content:
    """Read the whole file; a slot that is not whole does not count."""
    content = _Content(raw, None, 0)
    for place in (0, SLOT_SIZE):
        head = _head(raw[place : place + SLOT_SIZE])
        if head is not None and (content.last is None or _order(head) > _order(content.last)):
            content = _Content(raw, head, place)
    return content


def _order(head: Checkpoint) -> tuple[int, int]:
    return epoch_of(head.origin), head.size


def _head(slot: bytes) -> Checkpoint | None:
    body = next((body for body in map(_body, (slot[:end] for end in _SLOT_ENDS)) if body is not None), None)
    if body is None:
        return None
    try:
        head = parse_checkpoint(parse_note(body.rstrip(b"\0")).text)
        epoch_of(head.origin)
    except Error:
        return None
    return head


def _body(sealed: bytes) -> bytes | None:
    body, checksum = sealed[:-_CHECKSUM_SIZE], sealed[-_CHECKSUM_SIZE:]
    return body if sha256(body).digest() == checksum else None


@contextmanager
def _locked(descriptor: int) -> Iterator[None]:
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    try:
        yield
    finally:
        fcntl.flock(descriptor, fcntl.LOCK_UN)
