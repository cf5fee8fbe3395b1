"""Rebuild the city's log from its records and compare everything that was derived from them.

Checked: each leaf hash against salt and record, each commit's root, every full
tile, the head's root and compact range, and the signatures on notes and receipts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from elicense.errors import Error
from elicense.log.checkpoint import Checkpoint, open_checkpoint, open_cosigned
from elicense.log.entry import leaf_hash
from elicense.log.model import CheckpointRow, LogKey, StoredEntry
from elicense.log.store import LogStore
from elicense.log.tiles import TILE_WIDTH
from elicense.log.tree import EMPTY_RANGE, subtree_root
from elicense.log.verifier_key import VerifierKey

if TYPE_CHECKING:
    from sqlalchemy import Connection

_CHUNK: Final = 8 * TILE_WIDTH


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that is not what it should be.

    Attributes:
        where: Which log, record, licence or row.
        what: What is wrong, in one sentence without personal data.
    """

    where: str
    what: str


@dataclass(frozen=True, slots=True)
class LogKeys:
    """Who signs the log.

    Attributes:
        origin: Its origin.
        log: Its own key.
        cosigner: Key of the registry's receipts.
    """

    origin: str
    log: VerifierKey
    cosigner: VerifierKey


class LogCheck:
    """Checks one epoch of the log, in one transaction.

    Args:
        conn: The transaction.
        store: The tables of logs.
        key: Which log.
        keys: Who signs it.
        found: Called with each finding.
        progress: Called with the number of entries checked since the last call.
    """

    def __init__(
        self,
        conn: Connection,
        store: LogStore,
        key: LogKey,
        *,
        keys: LogKeys,
        found: Callable[[Finding], None],
        progress: Callable[[int], None],
    ) -> None:
        self._conn = conn
        self._store = store
        self._key = key
        self._keys = keys
        self._found = found
        self._progress = progress
        self._name = f"log {key.log}/{key.epoch}"
        self._tree = EMPTY_RANGE
        self._pending: list[bytes] = []

    def entries(self) -> Iterator[Sequence[StoredEntry]]:
        """Check the whole log; yield its entries in order for whoever folds them."""
        try:
            head = self._store.head(self._conn, self._key)
        except Error as error:
            self._report(self._name, error.message)
            return
        if head is None:
            self._report(self._name, "the log has no head")
            return
        index = 0
        while chunk := self._store.entries(self._conn, self._key, index, _CHUNK):
            for entry in chunk:
                if entry.index != index or index >= head.size:
                    self._report(f"{self._name} record {index}", "the entry is missing or lies beyond the head")
                    return
                self._grow(entry)
                index += 1
            self._check_tiles(chunk)
            yield chunk
            self._progress(len(chunk))
        tree = self._tree.append_leaves(self._pending)
        if index != head.size or tree != head.frontier or tree.root() != head.root:
            self._report(self._name, "the stored head differs from the records")

    def _grow(self, entry: StoredEntry) -> None:
        # An erased slot has neither record nor salt: its leaf hash is all there is.
        if entry.record is not None or entry.salt is not None:
            salt = entry.salt or b""
            if len(salt) != 32 or leaf_hash(salt, entry.record or b"") != entry.leaf_hash:
                self._report(f"{self._name} record {entry.index}", "record and salt do not give the stored leaf hash")
        # The stored hash goes into the tree: one damaged record is reported once, not with every root after it.
        self._pending.append(entry.leaf_hash)
        row = self._store.checkpoint(self._conn, self._key, entry.index + 1)
        if row is not None:
            self._tree = self._tree.append_leaves(self._pending)
            self._pending = []
            self._check_commit(row)

    def _check_commit(self, row: CheckpointRow) -> None:
        where = f"{self._name} checkpoint {row.size}"
        expected = Checkpoint(self._keys.origin, row.size, self._tree.root())
        if row.root != expected.root:
            self._report(where, "the stored root differs from the records")
        try:
            if row.note is not None:
                note = open_checkpoint(row.note, origin=self._keys.origin, key=self._keys.log)
                if note != expected:
                    self._report(where, "the stored note is of another head")
            if row.cosigned is not None:
                receipt = open_cosigned(
                    row.cosigned, origin=self._keys.origin, log_key=self._keys.log, cosigner_key=self._keys.cosigner
                )
                if receipt.checkpoint != expected:
                    self._report(where, "the registry's receipt is of another head")
        except Error as error:
            self._report(where, error.message)

    def _check_tiles(self, chunk: Sequence[StoredEntry]) -> None:
        """Compare the full tiles of a chunk, which begins at a tile, with its leaves."""
        for start in range(0, len(chunk) - TILE_WIDTH + 1, TILE_WIDTH):
            first = chunk[start].index
            root = subtree_root([entry.leaf_hash for entry in chunk[start : start + TILE_WIDTH]])
            where = f"{self._name} tile over {first} to {first + TILE_WIDTH}"
            try:
                if self._store.node(self._conn, self._key, first, first + TILE_WIDTH) != root:
                    self._report(where, "the stored tile differs from the records")
            except Error as error:
                self._report(where, error.message)

    def _report(self, where: str, what: str) -> None:
        self._found(Finding(where, what))
