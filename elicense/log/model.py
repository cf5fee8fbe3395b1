"""The values that stores and writers of logs hand to each other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple

from elicense.errors import Aborted

if TYPE_CHECKING:
    from elicense.log.tree import CompactRange

REGISTRY_LOG: Final = 0
"""Number of the registry's own log among the logs, which cities have under their division codes."""

FIRST_EPOCH: Final = 1
"""Every log starts with this epoch."""


class HeadMoved(Aborted):
    """Another writer appended to the log since its head was read."""

    reason = "HEAD_MOVED"


@dataclass(frozen=True, slots=True, order=True)
class LogKey:
    """Which log.

    Attributes:
        log: Division code of its city; 0 is the registry's own log.
        epoch: Epoch of the log, from 1.
    """

    log: int
    epoch: int


@dataclass(frozen=True, slots=True)
class Head:
    """The durable head of a log.

    Attributes:
        key: Which log.
        frontier: Its compact range, which knows the size.
        root: Its Merkle root, 32 bytes.
        note: The signed checkpoint of exactly this head, once it is stored.
        recorded_us: When it was written, UTC microseconds; 0 for an empty log.
    """

    key: LogKey
    frontier: CompactRange
    root: bytes
    note: bytes | None
    recorded_us: int

    @property
    def size(self) -> int:
        """Number of entries."""
        return self.frontier.size


class NewEntry(NamedTuple):
    """An entry to append; a tuple, because thousands are made at once.

    Attributes:
        record: The record's bytes; None in an erased slot.
        salt: Its salt, 32 bytes; None in an erased slot.
        leaf_hash: Its leaf hash, 32 bytes.
    """

    record: bytes | None
    salt: bytes | None
    leaf_hash: bytes


@dataclass(frozen=True, slots=True)
class StoredEntry:
    """An entry as it was read back.

    Attributes:
        index: Its index in the log, from 0.
        record: The record's bytes; None in an erased slot.
        salt: Its salt, 32 bytes; None in an erased slot.
        leaf_hash: Its leaf hash, 32 bytes.
    """

    index: int
    record: bytes | None
    salt: bytes | None
    leaf_hash: bytes


@dataclass(frozen=True, slots=True)
class CheckpointRow:
    """The head of a log as one commit left it.

    Attributes:
        size: Number of entries.
        root: Merkle root, 32 bytes.
        note: Signed checkpoint, once it is stored.
        cosigned: The same with the registry's cosignature, once it is stored.
        recorded_us: When it was committed, UTC microseconds.
    """

    size: int
    root: bytes
    note: bytes | None
    cosigned: bytes | None
    recorded_us: int


@dataclass(frozen=True, slots=True)
class Census:
    """How many rows a log has.

    Attributes:
        entries: Entries.
        commits: Heads that commits left.
        tiles: Tiles.
    """

    entries: int
    commits: int
    tiles: int
