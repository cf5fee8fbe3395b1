"""What a log holds in place of a record: a salted commitment of 33 bytes.

An entry is ``0x01 || SHA-256(salt || record)``.  With a fresh random salt per
record the tree holds no personal data: once record and salt are deleted, no
one can link the entry to a person, and every proof stays valid.
"""

from __future__ import annotations

from hashlib import sha256
from typing import TYPE_CHECKING, Final

from elicense.errors import Malformed

if TYPE_CHECKING:
    from collections.abc import Iterable

SALT_SIZE: Final = 32
"""Bytes of a salt.  The size is fixed, so that salt and record can not be split in two ways."""

ENTRY_VERSION: Final = 1
"""First byte of every entry."""

ENTRY_SIZE: Final = 33
"""Bytes of an entry: the version and one SHA-256 digest."""

_VERSION_BYTE: Final = bytes([ENTRY_VERSION])
# RFC 6962 hashes a leaf as H(0x00 || entry).  An entry starts with its
# version, so both bytes go before the digest in one step.
_LEAF_PREFIX: Final = b"\x00" + _VERSION_BYTE


def commitment(salt: bytes, record: bytes) -> bytes:
    """The entry that stands for a record.

    Args:
        salt: 32 random bytes, used for this record alone.
        record: The record's bytes exactly as they are stored.

    Returns:
        33 bytes: the version and SHA-256 over salt and record.

    Raises:
        Malformed: The salt is not 32 bytes.
    """
    if len(salt) != SALT_SIZE:
        raise _wrong_salt()
    return _VERSION_BYTE + sha256(salt + record).digest()


def leaf_hash(salt: bytes, record: bytes) -> bytes:
    """The RFC 6962 leaf hash of a record's entry.

    Args:
        salt: 32 random bytes, used for this record alone.
        record: The record's bytes exactly as they are stored.

    Returns:
        32 bytes: ``SHA-256(0x00 || entry)``.

    Raises:
        Malformed: The salt is not 32 bytes.
    """
    if len(salt) != SALT_SIZE:
        raise _wrong_salt()
    return sha256(_LEAF_PREFIX + sha256(salt + record).digest()).digest()


def leaf_hashes(pairs: Iterable[tuple[bytes, bytes]]) -> list[bytes]:
    """The leaf hashes of a batch, in order.

    Args:
        pairs: ``(salt, record)`` of each record.

    Raises:
        Malformed: A salt is not 32 bytes.
    """
    digest, prefix, size = sha256, _LEAF_PREFIX, SALT_SIZE
    hashes = []
    for salt, record in pairs:
        if len(salt) != size:
            raise _wrong_salt()
        hashes.append(digest(prefix + digest(salt + record).digest()).digest())
    return hashes


def _wrong_salt() -> Malformed:
    return Malformed(f"a salt must be {SALT_SIZE} bytes")
