"""Rebuild a stored log from its records and compare everything that was derived from them.

Checked: each leaf hash against salt and record, each commit's root, every tile,
the head's root and compact range, and the signatures on notes and receipts.

A check may stop behind any entry, and go on there in another transaction: what
it must know for that is a :class:`LogProgress` of a few tiles, however long the log.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from elicense.errors import Error
from elicense.log.checkpoint import open_checkpoint, open_cosigned
from elicense.log.entry import leaf_hash
from elicense.log.model import CheckpointRow, Head, LogKey, StoredEntry
from elicense.log.store import LogStore
from elicense.log.tiles import TILE_WIDTH
from elicense.log.tree import EMPTY_RANGE, CompactRange, subtree_root
from elicense.log.verifier_key import VerifierKey

if TYPE_CHECKING:
    from sqlalchemy import Connection

#: Entries held at once: one of the registry's log may grant a thousand claims, which takes 60 kB.
_CHUNK: Final = 128
_HALF: Final = TILE_WIDTH // 2


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
    """Who signs a log.

    Attributes:
        origin: Origin of the log.
        log: Key of the log.
        cosigner: Key of the registry's receipts; None for the registry's own log.
    """

    origin: str
    log: VerifierKey
    cosigner: VerifierKey | None


@dataclass(frozen=True, slots=True)
class LogProgress:
    """How far the check of a log has come.

    Attributes:
        index: Entries checked.
        tree: The tree up to the last commit checked.
        root: The root that was stored with that commit; empty before the first.
        since: Leaf hashes since that commit.
        leaves: Leaf hashes of the tile that fills.
        subtrees: Roots of full subtrees that wait for their siblings, by tile level.
        commits: Commits checked.
        recorded_us: When the last of them was written.
        head: Size at which the head was checked; -1 before that.
        broken: Whether the log can not be followed further.
    """

    index: int = 0
    tree: CompactRange = EMPTY_RANGE
    root: bytes = b""
    since: tuple[bytes, ...] = ()
    leaves: tuple[bytes, ...] = ()
    subtrees: tuple[tuple[bytes, ...], ...] = ()
    commits: int = 0
    recorded_us: int = 0
    head: int = -1
    broken: bool = False


def position(key: LogKey, index: int) -> str:
    """Return how findings name a record: log/epoch/index, the registry's log being 0."""
    return f"record {key.log}/{key.epoch}/{index}"


class LogCheck:
    """Checks one log, record by record, in one transaction.

    Args:
        conn: The transaction.
        store: The tables of logs.
        key: Which log.
        keys: Who signs it.
        found: Called with each finding.
        since: How far an earlier check of this log has come.
    """

    def __init__(
        self,
        conn: Connection,
        store: LogStore,
        key: LogKey,
        *,
        keys: LogKeys,
        found: Callable[[Finding], None],
        since: LogProgress,
    ) -> None:
        self._conn = conn
        self._store = store
        self._key = key
        self._keys = keys
        self._found = found
        self._before = since
        self._index = since.index
        self._tree = since.tree
        self._root = since.root
        self._since = list(since.since)
        self._subtrees = [list(level) for level in since.subtrees]
        self._leaves = list(since.leaves)
        self._commits: dict[int, CheckpointRow] = {}
        self._seen = since.commits
        self._recorded_us = since.recorded_us
        self._checked = since.head
        self._broken = since.broken

    @property
    def progress(self) -> LogProgress:
        """How far it has come, behind the entries that were yielded last."""
        return replace(
            self._before,
            index=self._index,
            tree=self._tree,
            root=self._root,
            since=tuple(self._since),
            leaves=tuple(self._leaves),
            subtrees=tuple(map(tuple, self._subtrees)),
            commits=self._seen,
            recorded_us=self._recorded_us,
            head=self._checked,
            broken=self._broken,
        )

    def entries(self) -> Iterator[Sequence[StoredEntry]]:
        """Check the log from where an earlier check stopped; yield its entries in order for whoever folds them."""
        head = None if self._broken else self._head()
        if head is None:
            self._broken = True
            return
        while chunk := self._store.entries(self._conn, self._key, self._index, _CHUNK):
            self._commits = self._store.commits.between(self._conn, self._key, self._index, self._index + _CHUNK)
            for entry in chunk:
                if entry.index != self._index:
                    self._break_off("the entry is missing")
                    return
                if self._index >= head.size:
                    self._break_off(f"the entry lies beyond the head, which has {head.size}")
                    return
                self._grow(entry)
                self._index += 1
            yield chunk
        if self._index < head.size:
            self._break_off("the entry is missing")
            return
        self._check_head(head)
        self._checked = head.size

    def _break_off(self, what: str) -> None:
        self._broken = True
        self._report(self._index, what)

    def _head(self) -> Head | None:
        try:
            head = self._store.head(self._conn, self._key)
        except Error as error:
            self._found(Finding(self._name, error.message))
            return None
        if head is None:
            self._found(Finding(self._name, "the log has no head"))
        return head

    @property
    def _name(self) -> str:
        return f"log {self._key.log}/{self._key.epoch}"

    def _report(self, index: int, what: str) -> None:
        self._found(Finding(position(self._key, index), what))

    def _grow(self, entry: StoredEntry) -> None:
        # An erased slot has neither record nor salt: its leaf hash is all there is.
        erased = entry.record is None and entry.salt is None
        if not erased:
            try:
                computed = leaf_hash(entry.salt or b"", entry.record or b"")
            except Error as error:
                self._report(entry.index, error.message)
            else:
                if computed != entry.leaf_hash:
                    self._report(entry.index, "record and salt do not give the stored leaf hash")
        # The stored hash goes into the tree: one damaged record is reported once, not with every root after it.
        self._since.append(entry.leaf_hash)
        self._leaves.append(entry.leaf_hash)
        if len(self._leaves) == TILE_WIDTH:
            self._check_tile(entry.index + 1)
        row = self._commits.get(entry.index + 1)
        if row is not None:
            self._tree = self._tree.append_leaves(self._since)
            self._since = []
            self._root = row.root
            self._check_commit(row, self._tree)

    def _check_tile(self, end: int) -> None:
        """Compare a full tile of leaves, and what it completes above, with the stored tiles."""
        start = end - TILE_WIDTH
        middle = start + _HALF
        if not self._store.has_tile(self._conn, self._key, 0, start // TILE_WIDTH):
            self._found(Finding(f"{self._name} tile over {start} to {end}", "the tile is missing"))
        self._check_node(start, middle, subtree_root(self._leaves[:_HALF]))
        self._check_node(middle, end, subtree_root(self._leaves[_HALF:]))
        root, width, level = subtree_root(self._leaves), TILE_WIDTH, 0
        self._leaves = []
        while True:
            self._check_node(end - width, end, root)
            if level == len(self._subtrees):
                self._subtrees.append([])
            siblings = self._subtrees[level]
            siblings.append(root)
            if len(siblings) < TILE_WIDTH:
                return
            root, width, level = subtree_root(siblings), width * TILE_WIDTH, level + 1
            self._subtrees[level - 1] = []

    def _check_node(self, start: int, end: int, root: bytes) -> None:
        try:
            stored = self._store.node(self._conn, self._key, start, end)
        except Error as error:
            self._found(Finding(f"{self._name} tile over {start} to {end}", error.message))
            return
        if stored != root:
            self._found(Finding(f"{self._name} tile over {start} to {end}", "the stored tile differs from the records"))

    def _check_commit(self, row: CheckpointRow, tree: CompactRange) -> None:
        where = f"{self._name} checkpoint {row.size}"
        root = tree.root()
        self._seen += 1
        if row.recorded_us < self._recorded_us:
            self._found(Finding(where, "it is older than the commit before it"))
        self._recorded_us = row.recorded_us
        if row.root != root:
            self._found(Finding(where, "the stored root differs from the records"))
        if row.note is not None:
            self._check_note(where, row.note, row.size, root)
        if row.cosigned is not None:
            self._check_receipt(where, row.cosigned, row.size, root)

    def _check_head(self, head: Head) -> None:
        tree = self._tree.append_leaves(self._since)
        if head.root != tree.root() or head.frontier != tree:
            self._found(Finding(self._name, "the stored head differs from the records"))
        if head.note is not None:
            self._check_note(f"{self._name} head", head.note, head.size, tree.root())
        if head.size and self._store.commits.at(self._conn, self._key, head.size) is None:
            self._found(Finding(f"{self._name} checkpoint {head.size}", "the commit's checkpoint is missing"))
        if head.recorded_us != self._recorded_us:
            self._found(Finding(self._name, "the head is not as old as its last commit"))
        self._check_census(head.size)
        cosigned_size, cosigned = self._store.commits.cosigned_head(self._conn, self._key)
        if (cosigned_size == 0) != (cosigned is None):
            self._found(Finding(f"{self._name} receipt {cosigned_size}", "a receipt and its size do not go together"))
        latest = self._store.commits.latest_cosigned(self._conn, self._key)
        if latest is not None:
            row = self._store.commits.at(self._conn, self._key, latest[0])
            if row is None:
                self._found(Finding(f"{self._name} receipt {latest[0]}", "no commit ended at this size"))
            else:
                # The row's root was compared with the records on the way.
                self._check_receipt(f"{self._name} receipt {latest[0]}", latest[1], row.size, row.root)

    def _check_census(self, size: int) -> None:
        """Compare how many rows there are with how many there must be: none may stand where nobody looks."""
        held = self._store.census(self._conn, self._key)
        if held.entries != size:
            self._found(Finding(self._name, f"it has {held.entries} entries, not {size}"))
        if held.commits != self._seen:
            self._found(Finding(self._name, f"it has {held.commits} checkpoints, but only {self._seen} in their place"))
        tiles = nodes = size // TILE_WIDTH
        while nodes:
            # Above the leaves the last tile of a level is kept while it fills.
            tiles += -(-nodes // TILE_WIDTH)
            nodes //= TILE_WIDTH
        if held.tiles != tiles:
            self._found(Finding(self._name, f"it has {held.tiles} tiles, not {tiles}"))

    def _check_note(self, where: str, note: bytes, size: int, root: bytes) -> None:
        try:
            signed = open_checkpoint(note, origin=self._keys.origin, key=self._keys.log)
        except Error as error:
            self._found(Finding(where, f"the signed note is not valid: {error.message}"))
            return
        if (signed.size, signed.root) != (size, root):
            self._found(Finding(where, "the signed note is for another head"))

    def _check_receipt(self, where: str, note: bytes, size: int, root: bytes) -> None:
        if self._keys.cosigner is None:
            self._found(Finding(where, "a receipt on a log that nobody cosigns"))
            return
        try:
            opened = open_cosigned(
                note, origin=self._keys.origin, log_key=self._keys.log, cosigner_key=self._keys.cosigner
            )
        except Error as error:
            self._found(Finding(where, f"the receipt is not valid: {error.message}"))
            return
        if (opened.checkpoint.size, opened.checkpoint.root) != (size, root):
            self._found(Finding(where, "the receipt is for another head"))
