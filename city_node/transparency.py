"""What a city node shows: its own log."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Final

from city_node.epochs import Epochs
from city_node.store import EpochKey
from elicense.clock import SECOND_US
from elicense.log.model import CheckpointRow, LogKey
from elicense.log.store import LogStore
from elicense.log.transparency import ShownLog

if TYPE_CHECKING:
    from sqlalchemy import Connection

#: Published heads are at least so far apart: a head of its own would tell of one person.
INTERVAL_US: Final = 60 * SECOND_US


class CityShowing:
    """Implements :class:`elicense.log.transparency.Showing` for a city node.

    Args:
        store: Tables of logs.
        epochs: Signs and names the epochs of its log.
        keys: The key of each epoch.
        clock: UTC microseconds.
    """

    def __init__(
        self, *, store: LogStore, epochs: Epochs, keys: Mapping[int, EpochKey], clock: Callable[[], int]
    ) -> None:
        self._store = store
        self._epochs = epochs
        self._keys = keys
        self._clock = clock

    def logs(self, conn: Connection) -> list[ShownLog]:  # noqa: ARG002  # the registry has to read them
        """Return every epoch of the log."""
        return [
            ShownLog(LogKey(key.log, epoch), self._epochs.origin(epoch), key.log_key)
            for epoch, key in self._keys.items()
        ]

    def published(self, conn: Connection, key: LogKey) -> int:
        """Return the size at the last full minute: whoever looks more often sees no more."""
        now_us = self._clock()
        return self._store.commits.size_before(conn, key, now_us - now_us % INTERVAL_US)

    def seal(self, key: LogKey, row: CheckpointRow) -> bytes:
        """Return the head with every signature that is stored, or signed anew: it is durable."""
        return row.cosigned or row.note or self._epochs.sign(key, row.size, row.root)

    def vector(self, conn: Connection) -> None:
        """Return None: vectors stand in the registry's log."""
