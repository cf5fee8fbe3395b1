"""Keyed tags of persons and names, so that no index holds a document number or a name.

A tag is an HMAC-SHA256 under the node's own index key, cut to 16 bytes: enough
that two of 500 million persons collide with a chance below 2^-68, and useless to
whoever steals the tables without the key.
"""

from __future__ import annotations

import hmac
import unicodedata
from typing import Final

TAG_SIZE: Final = 16
KEY_SIZE: Final = 32

#: Separating dots that input methods produce in the names of some peoples.
_DOTS: Final = str.maketrans({"‧": "·", "•": "·", "・": "·", "．": "·", ".": "·"})


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
        self._key = key

    def person_key(self, document_type: int, number: str) -> bytes:
        """Return the 16-byte tag of a person by document type and normalized number."""
        return hmac.digest(self._key, b"document\n%d\n%s" % (document_type, number.encode()), "sha256")[:TAG_SIZE]

    def name_tag(self, name: str) -> bytes:
        """Return the 16-byte tag of a name; spellings that look the same have the same tag."""
        plain = unicodedata.normalize("NFC", name).translate(_DOTS).strip()
        return hmac.digest(self._key, b"name\n" + plain.encode(), "sha256")[:TAG_SIZE]
