"""The receipts that the registry gives out: cosignatures on heads that are durable."""

from __future__ import annotations

from typing import TYPE_CHECKING

from elicense.log.checkpoint import cosign
from elicense.log.model import LogKey
from elicense.log.store import Head
from elicense.trust.signer import Signer
from registry.store import RegistryStore

if TYPE_CHECKING:
    from sqlalchemy import Connection


class GivenReceipts:
    """Makes each receipt once, and stores it with the next transaction of its log.

    Args:
        store: The registry's tables.
        cosigner: Signs receipts.
        name: Name of the cosigner's key.
    """

    def __init__(self, *, store: RegistryStore, cosigner: Signer, name: str) -> None:
        self._commits = store.logs.commits
        self._cosigner = cosigner
        self._name = name
        # Given out and not stored yet: (size, root, note) by log; one that is lost is made again.
        self._unstored: dict[LogKey, tuple[int, bytes, bytes]] = {}

    def stored(self, conn: Connection, head: Head) -> bytes | None:
        """Return the stored receipt of a head; None when there is none."""
        cosigned = self._commits.latest_cosigned(conn, head.key)
        return cosigned[1] if cosigned is not None and cosigned[0] == head.size else None

    def store_due(self, conn: Connection, key: LogKey) -> None:
        """Store what was given out for a log and is not stored yet."""
        if key not in self._unstored:
            return
        size, root, note = self._unstored[key]
        commit = self._commits.at(conn, key, size)
        # There is no such head in a database that was set back beneath this process and filled again in other batches.
        if commit is not None and commit.root == root:
            self._commits.store_cosigned(conn, key, size, note)

    def receipt(self, head: Head, stored: bytes | None, *, now_us: int) -> bytes:
        """Return the receipt of a durable head; empty while nothing is held.

        Args:
            head: The head.
            stored: Its stored receipt, if there is one.
            now_us: The clock.
        """
        if stored is not None:
            return stored
        unstored = self._unstored.get(head.key)
        if unstored is not None and unstored[:2] == (head.size, head.root):
            return unstored[2]
        if head.note is None:
            return b""
        receipt = cosign(head.note, name=self._name, signer=self._cosigner, time_s=now_us // 1_000_000)
        self._unstored[head.key] = (head.size, head.root, receipt)
        return receipt
