"""The public keys that check notes, in C2SP form, and the text rules that keys and notes share.

Source: c2sp.org/signed-note@v1.0.0.
"""

from __future__ import annotations

import re
from base64 import b64decode, b64encode
from dataclasses import dataclass, field
from functools import lru_cache
from hashlib import sha256
from typing import Final

from elicense.errors import Malformed

ED25519: Final = 0x01
"""Signature over the text of the note."""

COSIGNATURE: Final = 0x04
"""Ed25519 signature over a stated time and the text of the note."""

KEY_ID_SIZE: Final = 4
"""Bytes of a key id."""

CONTROLS: Final = r"\x00-\x1f\x7f-\x9f"
"""Control characters (C0, DEL, C1), for a set of a regular expression.

The specification refuses C0 alone; the others have no place in a name or a head either.
"""

_UNFIT_FOR_A_NAME: Final = re.compile(rf"[+\s{CONTROLS}]")

_PUBLIC_KEY_SIZE: Final = 32

#: Keys that stay parsed: with every batch a registry reads that of its city.
_KEPT_KEYS: Final = 1_024

# The curve has eight points of small order.  Under such a key one signature
# fits every text, so its holder could deny whatever was signed.
_FIELD_PRIME: Final = 2**255 - 19
_ORDER_EIGHT_Y: Final = 0x05FC536D880238B13933C6D305ACDFD5F098EFF289F4C345B027B2C28F95E826
_SMALL_ORDER_Y: Final = frozenset({0, 1, _FIELD_PRIME - 1, _ORDER_EIGHT_Y, _FIELD_PRIME - _ORDER_EIGHT_Y})


@dataclass(frozen=True, slots=True)
class VerifierKey:
    """A public key with its name, as a C2SP vkey states it.

    Attributes:
        name: Name of the key; for a log its origin.
        algorithm: ``ED25519`` or ``COSIGNATURE``.
        public_key: Ed25519 public key, 32 bytes.
        key_id: First 4 bytes of SHA-256 over name, algorithm and key; a hint, not a proof.

    Raises:
        Malformed: A part is not what it has to be, or the key has a small order.
    """

    name: str
    algorithm: int
    public_key: bytes
    key_id: bytes = field(init=False)

    def __post_init__(self) -> None:
        if not is_key_name(self.name):
            raise Malformed("a key name must be without spaces, plus signs and control characters")
        if self.algorithm not in (ED25519, COSIGNATURE):
            raise Malformed("the algorithm of a key must be Ed25519 (1) or cosignature/v1 (4)")
        if len(self.public_key) != _PUBLIC_KEY_SIZE:
            raise Malformed(f"an Ed25519 public key must be {_PUBLIC_KEY_SIZE} bytes")
        y = int.from_bytes(self.public_key, "little") & (2**255 - 1)
        if y >= _FIELD_PRIME or y in _SMALL_ORDER_Y:
            raise Malformed("the public key is not a safe point of the curve")
        digest = sha256(self.name.encode() + b"\n" + bytes([self.algorithm]) + self.public_key)
        object.__setattr__(self, "key_id", digest.digest()[:KEY_ID_SIZE])


@lru_cache(maxsize=_KEPT_KEYS)
def parse_vkey(vkey: str) -> VerifierKey:
    """Read a key from its C2SP text ``name+hex key id+base64(algorithm || key)``.

    Raises:
        Malformed: The text is not in that form, or its key id is wrong.
    """
    # Base64 has plus signs of its own; a name has none.
    parts = vkey.split("+", 2)
    blob = canonical_base64(parts[2]) if len(parts) == 3 else None
    if not blob:
        raise Malformed("a verifier key must read name+key id+base64")
    key = VerifierKey(parts[0], blob[0], blob[1:])
    if format_vkey(key) != vkey:
        raise Malformed("the key id of a verifier key does not fit its name and key")
    return key


def format_vkey(key: VerifierKey) -> str:
    """Write a key as C2SP text."""
    return f"{key.name}+{key.key_id.hex()}+{encode_base64(bytes([key.algorithm]) + key.public_key)}"


def canonical_base64(text: str) -> bytes | None:
    """Decode base64 that is written in its one canonical form.

    Python's decoder lets stray final bits pass, so one value would have
    several texts; encoding again shows them.

    Returns:
        The bytes, or None when the text is anything else.
    """
    try:
        data = b64decode(text, validate=True)
    except ValueError:
        return None
    return data if encode_base64(data) == text else None


def encode_base64(data: bytes) -> str:
    """Write bytes in the one form that :func:`canonical_base64` reads."""
    return b64encode(data).decode()


def is_key_name(name: str) -> bool:
    """Whether a key may have this name: not empty, no space, no plus sign, no control character."""
    return name != "" and is_unicode(name) and not _UNFIT_FOR_A_NAME.search(name)


def is_unicode(text: str) -> bool:
    """Whether the text can be written as UTF-8; a lone surrogate can not."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
