"""CBOR in its one canonical form (RFC 8949, 4.2.1), without tags and with a bounded size.

A signed object that could be written in two ways could be shown as two objects.
So what is read is written again, and must come out as the same bytes.
"""

from __future__ import annotations

from typing import Any, Final

import cbor2

from elicense.errors import Malformed

MAX_DEPTH: Final = 8

Plain = int | str | bytes | list["Plain"] | dict[int, "Plain"]
"""What may stand in a signed object: no floats, no null, no tags; keys of maps are integers."""


def encode(value: Plain) -> bytes:
    """Return the canonical bytes of a value."""
    encoded: bytes = cbor2.dumps(value, canonical=True)
    return encoded


def decode(data: bytes, *, max_size: int) -> Any:
    """Read canonical bytes.

    Returns:
        A :data:`Plain` value, to be taken apart by ``match``.

    Raises:
        Malformed: They are too many, not canonical, or hold something else than :data:`Plain`.
    """
    if not 0 < len(data) <= max_size:
        raise Malformed(f"a signed object must have 1 to {max_size} bytes")
    try:
        value = cbor2.loads(data, max_depth=MAX_DEPTH, allow_indefinite=False, allow_duplicate_keys=False)
        plain = _plain(value)
        again = plain and encode(value)
    except (cbor2.CBORError, ValueError, TypeError, OverflowError, RecursionError):
        raise Malformed("the signed object is not CBOR") from None
    if not plain or again != data:
        raise Malformed("the signed object is not in canonical CBOR")
    return value


def _plain(value: object) -> bool:
    match value:
        case bool():
            return False
        case int():
            return -(2**64) <= value < 2**64
        case str() | bytes():
            return True
        case list():
            return all(map(_plain, value))
        case dict():
            return all(type(key) is int and _plain(key) and _plain(held) for key, held in value.items())
        case _:
            return False
