"""What a city node shows: its own log."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from elicense.clock import SECOND_US
from elicense.errors import NotFound
from elicense.log.checkpoint import Checkpoint, log_verifier_key, sign_checkpoint
from elicense.log.model import CheckpointRow, LogKey
from elicense.log.store import LogStore
from elicense.log.transparency import ShownLog
from elicense.log.verifier_key import format_vkey
from elicense.trust.signer import Signer

if TYPE_CHECKING:
    from sqlalchemy import Connection

#: Published heads are at least so far apart: a head of its own would tell of one person.
INTERVAL_US: Final = 60 * SECOND_US


class CityShowing:
    """Implements :class:`elicense.log.transparency.Showing` for a city node.

    Args:
        store: Tables of logs.
        key: The open epoch of its log.
        origin: Origin of that epoch.
        signer: Its key.
        clock: UTC microseconds.
    """

    def __init__(self, *, store: LogStore, key: LogKey, origin: str, signer: Signer, clock: Callable[[], int]) -> None:
        self._store = store
        self._key = key
        self._origin = origin
        self._signer = signer
        self._clock = clock

    def logs(self, conn: Connection) -> list[ShownLog]:  # noqa: ARG002  # the registry has to read them
        """Return the open epoch of the log."""
        vkey = format_vkey(log_verifier_key(self._origin, self._signer.public_key()))
        return [ShownLog(self._key, self._origin, vkey)]

    def published(self, conn: Connection, key: LogKey) -> int:
        """Return the size at the last full minute: whoever looks more often sees no more."""
        now_us = self._clock()
        return self._store.size_before(conn, key, now_us - now_us % INTERVAL_US)

    def seal(self, key: LogKey, row: CheckpointRow) -> bytes:
        """Return the head with every signature that is stored, or signed anew: it is durable."""
        note = row.cosigned or row.note
        if note is None and key != self._key:
            raise NotFound("no signature over this head is kept")
        return note or sign_checkpoint(Checkpoint(self._origin, row.size, row.root), self._signer)

    def vector(self, conn: Connection) -> None:
        """Return None: vectors stand in the registry's log."""
