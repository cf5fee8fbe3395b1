"""Check what is public against the vectors of city heads that made it so."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from elicense.clock import from_timestamp
from elicense.errors import StoreCorrupt
from elicense.log.check import Finding, position
from elicense.log.model import LogKey
from elicense.v1 import log_pb2
from registry.model import PublishedHead
from registry.store import RegistryStore

if TYPE_CHECKING:
    from sqlalchemy import Connection


class PublishedCheck:
    """Reads vectors in log order; the last one says how far every log is public."""

    def __init__(self) -> None:
        self._last: tuple[LogKey, int, log_pb2.HeadVector] | None = None
        self._expected: dict[LogKey, PublishedHead] = {}

    @property
    def heads(self) -> list[PublishedHead]:
        """How far every log is public."""
        return list(self._expected.values())

    def read(self, key: LogKey, index: int, record: log_pb2.RegistryRecord) -> None:
        """Note a vector."""
        vector = record.head_vector
        self._last = key, index, vector
        published_us = from_timestamp(record.record_time)
        heads = [PublishedHead(head.city, head.epoch, head.size, published_us) for head in vector.heads]
        for head in (*heads, PublishedHead(key.log, key.epoch, index + 1, published_us)):
            self._expected[LogKey(head.log, head.epoch)] = head

    def compare(self, conn: Connection, store: RegistryStore, found: Callable[[Finding], None]) -> None:
        """Compare with what is stored, and the last vector's roots with the logs that they are of."""
        stored = {LogKey(head.log, head.epoch): head for head in store.published(conn)}
        for key in sorted(stored.keys() | self._expected.keys()):
            if stored.get(key) != self._expected.get(key):
                found(Finding(f"published head {key.log}/{key.epoch}", "it is not what the registry's log made public"))
        if self._last is None:
            return
        own, index, vector = self._last
        for head in vector.heads:
            if _root_at(conn, store, LogKey(head.city, head.epoch), head.size) != head.root:
                what = f"its root of log {head.city}/{head.epoch} at {head.size} entries is not the one held"
                found(Finding(position(own, index), what))


def _root_at(conn: Connection, store: RegistryStore, key: LogKey, size: int) -> bytes | None:
    """Return the root that a city's log has at a size; None when it does not come so far, or can not be read."""
    row = store.logs.commits.at(conn, key, size)
    if row is not None:
        return row.root
    # A registry that was set back and filled again got other batches than it had when it stated that.
    try:
        head = store.logs.head(conn, key)
        return None if head is None or head.size < size else store.logs.root_at(conn, head, size)
    except StoreCorrupt:
        return None
