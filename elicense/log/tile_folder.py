"""A log as a folder of files in the C2SP tile layout: written, read and checked without a database.

::

    checkpoint            signed head
    tile/<level>/<n>      full tiles; the last one of a level as tile/<level>/<n>.p/<width>
    tile/entries/<n>      the 33-byte entries of a tile, each after its length (16 bits)

An entry that was erased has no bytes left, only its leaf hash in the tile: it
stands with length 0.  A folder without entries proves as much about the tree.

Source: c2sp.org/tlog-tiles@v0.1.0.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from elicense.errors import Error, Malformed, NotFound, RootMismatch
from elicense.log.checkpoint import Checkpoint, parse_checkpoint
from elicense.log.entry import ENTRY_SIZE
from elicense.log.merkle import consistency_proof, inclusion_proof, root_over
from elicense.log.note import MAX_NOTE_SIZE, parse_note
from elicense.log.tiles import TILE_SIZE, TILE_WIDTH, subtree_slice, tile_path, tile_width
from elicense.log.tree import EMPTY_RANGE, HASH_SIZE, hash_leaf, subtree_root

CHECKPOINT: Final = "checkpoint"
_LENGTH: Final = 2
_MAX_BUNDLE: Final = TILE_WIDTH * (_LENGTH + ENTRY_SIZE)


class Source(Protocol):
    """Where an export comes from."""

    def head(self) -> bytes:
        """Return the signed head to export."""

    def leaf_hashes(self, start: int, stop: int) -> Sequence[bytes]:
        """Return the hashes of leaves ``start`` to ``stop - 1``."""

    def entries(self, start: int, stop: int) -> Sequence[bytes] | None:
        """Return those entries, empty where erased; None when the source has leaf hashes alone."""


class TileFolder:
    """Reads and writes one log's folder.

    Args:
        path: The folder.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._tiles: dict[tuple[int, int], list[bytes]] = {}

    def note(self) -> bytes:
        """Return the signed head.

        Raises:
            NotFound: The folder is not an export, or one that has not ended.
        """
        data = self._read(self._path / CHECKPOINT, MAX_NOTE_SIZE)
        if data is None:
            raise NotFound(f"{self._path} holds no checkpoint; the export did not end: run it again")
        return data

    def checkpoint(self) -> Checkpoint:
        """Return what the signed head says; its signatures are not checked.

        Raises:
            NotFound: As :meth:`note`.
            CheckpointInvalid: It is not a head.
        """
        return parse_checkpoint(parse_note(self.note()).text)

    def tile(self, level: int, n: int, size: int) -> list[bytes]:
        """Return the hashes of a tile in a log of ``size`` entries.

        Raises:
            NotFound: The file is missing.
            Malformed: It has another length.
        """
        width = tile_width(level, n, size)
        path = tile_path(level, n, width)
        data = self._read(self._path / path, TILE_SIZE)
        if data is None:
            raise NotFound(f"{path} is missing from the export")
        if len(data) != width * HASH_SIZE:
            raise Malformed(f"{path} has another length than its tile")
        return [data[i : i + HASH_SIZE] for i in range(0, len(data), HASH_SIZE)]

    def entries(self, n: int, size: int) -> list[bytes] | None:
        """Return the entries of tile ``n``, empty where erased; None when the export has none.

        Raises:
            Malformed: The bundle does not hold that many entries.
        """
        width = tile_width(0, n, size)
        path = bundle_path(n, width)
        data = self._read(self._path / path, _MAX_BUNDLE)
        if data is None:
            return None
        found, at = [], 0
        while at < len(data):
            end = at + _LENGTH + int.from_bytes(data[at : at + _LENGTH], "big")
            found.append(data[at + _LENGTH : end])
            at = end
        if len(found) != width or at != len(data) or any(len(entry) not in (0, ENTRY_SIZE) for entry in found):
            raise Malformed(f"{path} does not hold the entries of its tile")
        return found

    def node(self, size: int) -> Callable[[int, int], bytes]:
        """Return a reader of complete subtrees for proofs in the tree of ``size`` leaves."""

        def read(start: int, end: int) -> bytes:
            part = subtree_slice(start, end)
            key = (part.level, part.n)
            if key not in self._tiles:
                self._tiles[key] = self.tile(part.level, part.n, size)
            return subtree_root(self._tiles[key][part.first : part.first + part.count])

        return read

    def inclusion_proof(self, index: int) -> list[bytes]:
        """Return the path of an entry to the exported head.

        Raises:
            NotFound: A tile is missing.
            Malformed: The log is not that large, or a tile is damaged.
        """
        size = self.checkpoint().size
        return inclusion_proof(index, size, self.node(size))

    def consistency_proof(self, first: int) -> list[bytes]:
        """Return the proof that the first ``first`` entries begin the exported log.

        Raises:
            NotFound: A tile is missing.
            Malformed: The log is not that large, or a tile is damaged.
        """
        size = self.checkpoint().size
        return consistency_proof(first, size, self.node(size))

    def put(self, path: str, data: bytes) -> None:
        """Write one file whole, or not at all."""
        target = self._path / path
        target.parent.mkdir(parents=True, exist_ok=True)
        scratch = target.with_name(target.name + ".new")
        try:
            with scratch.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            scratch.replace(target)
        except OSError as error:
            raise Error(f"{target} can not be written: {error.strerror}") from error

    def has(self, path: str) -> bool:
        """Whether a file is there."""
        return (self._path / path).exists()

    @staticmethod
    def _read(path: Path, limit: int) -> bytes | None:
        try:
            with path.open("rb") as file:
                data = file.read(limit + 1)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise Error(f"{path} can not be read: {error.strerror}") from error
        if len(data) > limit:
            raise Malformed(f"{path} is larger than it can be")
        return data


def bundle_path(n: int, width: int) -> str:
    """The path of a bundle of entries, such as ``tile/entries/x001/067.p/40``."""
    return tile_path(0, n, width).replace("tile/0/", "tile/entries/", 1)


class _Levels:
    """The tiles above the leaves, as the leaves go by: at most 256 hashes a level."""

    def __init__(self, full: Callable[[int, int, list[bytes]], None]) -> None:
        self._full = full
        self._hashes: list[list[bytes]] = []
        self._counts: list[int] = []

    def add(self, root: bytes, level: int = 1) -> None:
        if level > len(self._hashes):
            self._hashes.append([])
            self._counts.append(0)
        hashes = self._hashes[level - 1]
        hashes.append(root)
        if len(hashes) == TILE_WIDTH:
            self._full(level, self._counts[level - 1], hashes)
            self._counts[level - 1] += 1
            self._hashes[level - 1] = []
            self.add(subtree_root(hashes), level + 1)

    def rest(self) -> Iterator[tuple[int, int, list[bytes]]]:
        for level, hashes in enumerate(self._hashes, 1):
            if hashes:
                yield level, self._counts[level - 1], hashes


def write_export(folder: TileFolder, source: Source, progress: Callable[[int], None]) -> Checkpoint:
    """Write a log to a folder; what an earlier run has written there is used.

    Args:
        folder: Where to.
        source: Where from.
        progress: Called with the number of entries done since the last call.

    Returns:
        The exported head.

    Raises:
        RootMismatch: What was exported does not lead to the head; nothing says that it is complete.
        Malformed: The folder holds another log, or damaged files.
    """
    note = source.head()
    head = parse_checkpoint(parse_note(note).text)
    if folder.has(CHECKPOINT) and folder.checkpoint().origin != head.origin:
        raise Malformed("the folder holds the export of another log; name a new one")
    levels = _Levels(lambda level, n, hashes: folder.put(tile_path(level, n), b"".join(hashes)))
    tree = EMPTY_RANGE
    for n in range(-(-head.size // TILE_WIDTH)):
        hashes = _export_tile(folder, source, n, head.size)
        tree = tree.append_leaves(hashes)
        if len(hashes) == TILE_WIDTH:
            levels.add(subtree_root(hashes))
        progress(len(hashes))
    for level, n, hashes in levels.rest():
        folder.put(tile_path(level, n, len(hashes)), b"".join(hashes))
    if tree.root() != head.root:
        raise RootMismatch("the exported entries do not lead to the signed head; run fsck, or export to a new folder")
    folder.put(CHECKPOINT, note)
    return head


def _export_tile(folder: TileFolder, source: Source, n: int, size: int) -> list[bytes]:
    width = tile_width(0, n, size)
    start = n * TILE_WIDTH
    path = tile_path(0, n, width)
    # A full tile never changes; the head says whether what is found there is right.
    if folder.has(path) and width == TILE_WIDTH:
        return folder.tile(0, n, size)
    hashes = list(source.leaf_hashes(start, start + width))
    entries = source.entries(start, start + width)
    if entries is not None:
        bundle = b"".join(len(entry).to_bytes(_LENGTH, "big") + entry for entry in entries)
        folder.put(bundle_path(n, width), bundle)
    folder.put(path, b"".join(hashes))
    return hashes


@dataclass(frozen=True, slots=True)
class Checked:
    """What a check of an export found to be right.

    Attributes:
        head: The head that everything leads to; who signed it is another question.
        entries: Entries whose bytes were there and give their leaf hash.
        erased: Entries of which only the leaf hash is left.
    """

    head: Checkpoint
    entries: int
    erased: int


def check_export(folder: TileFolder, progress: Callable[[int], None]) -> Checked:
    """Check every file of an export against every other.

    Args:
        folder: The export.
        progress: Called with the number of entries done since the last call.

    Raises:
        NotFound: A file is missing.
        Malformed: A file is damaged; it is named.
        RootMismatch: The entries do not lead to the head.
    """
    head = folder.checkpoint()
    entries = erased = 0

    def compare(level: int, n: int, hashes: list[bytes]) -> None:
        if folder.tile(level, n, head.size) != hashes:
            raise Malformed(f"{tile_path(level, n, len(hashes))} differs from the tiles below it")

    levels = _Levels(compare)
    tree = EMPTY_RANGE
    for n in range(-(-head.size // TILE_WIDTH)):
        hashes = folder.tile(0, n, head.size)
        bundle = folder.entries(n, head.size)
        for index, entry in enumerate(bundle or ()):
            if not entry:
                erased += 1
            elif hash_leaf(entry) != hashes[index]:
                raise Malformed(f"entry {n * TILE_WIDTH + index} does not give its leaf hash")
            else:
                entries += 1
        tree = tree.append_leaves(hashes)
        if len(hashes) == TILE_WIDTH:
            levels.add(subtree_root(hashes))
        progress(len(hashes))
    for level, n, hashes in levels.rest():
        compare(level, n, hashes)
    if tree.root() != head.root:
        raise RootMismatch("the tiles do not lead to the root of the checkpoint")
    return Checked(head, entries, erased)


def root_of_first(folder: TileFolder, size: int) -> bytes:
    """Return the root over the first ``size`` entries of an export.

    Raises:
        Malformed: It has fewer.
        NotFound: A tile is missing.
    """
    head = folder.checkpoint()
    if size > head.size:
        raise Malformed("the export has fewer entries than the head it is compared with")
    return root_over(size, folder.node(head.size))
