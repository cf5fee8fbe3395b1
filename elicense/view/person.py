"""Keyed tags of persons and names, so that no index holds a document number or a name.

A tag is an HMAC-SHA256 under the node's own index key, cut to 16 bytes: enough
that two of 500 million persons collide with a chance below 2^-68, and useless to
whoever steals the tables without the key.
"""

from __future__ import annotations

import re
import unicodedata
from hashlib import sha256
from typing import Final

TAG_SIZE: Final = 16
KEY_SIZE: Final = 32

#: Bytes of one block of SHA-256, to which HMAC fills up its key (RFC 2104, section 2).
_BLOCK_SIZE: Final = 64

#: Separating dots that input methods produce in the names of some peoples.
_DOTS: Final = re.compile("[‧•・．.]")


class PersonIndex:
    """Computes tags under one index key.

    Args:
        key: 32 secret bytes; one key a node, the same for all its processes.

    Raises:
        ValueError: The key has another length.
    """

    def __init__(self, key: bytes) -> None:
        if len(key) != KEY_SIZE:
            msg = f"an index key has {KEY_SIZE} bytes"
            raise ValueError(msg)
        filled = key.ljust(_BLOCK_SIZE, b"\0")
        inner = bytes(byte ^ 0x36 for byte in filled)
        # What all tags begin with is put together once: hmac.digest() sets up its key anew for
        # every message, which takes longer than hashing it, and two tags are made for every record.
        self._document = inner + b"document\n"
        self._name = inner + b"name\n"
        self._outer = bytes(byte ^ 0x5C for byte in filled)

    def person_key(self, document_type: int, number: str) -> bytes:
        """Return the 16-byte tag of a person by document type and normalized number."""
        return self._tag(b"%s%d\n%s" % (self._document, document_type, number.encode()))

    def name_tag(self, name: str) -> bytes:
        """Return the 16-byte tag of a name; spellings that look the same have the same tag."""
        plain = _DOTS.sub("·", unicodedata.normalize("NFC", name)).strip()
        return self._tag(self._name + plain.encode())

    def _tag(self, padded: bytes) -> bytes:
        return sha256(self._outer + sha256(padded).digest()).digest()[:TAG_SIZE]
