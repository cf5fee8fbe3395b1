"""UUIDs (RFC 9562) between their text and their 16 bytes.

:class:`uuid.UUID` takes any spelling and makes an object; identifiers of
licences and requests are made and read for every record, in one spelling.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

UUID_SIZE: Final = 16
_TEXT_SIZE: Final = 36


def uuid_text(data: bytes) -> str:
    """Return the text of a UUID, in lower case.

    Args:
        data: 16 bytes.
    """
    digits = data.hex()
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"


def uuid_bytes(text: str) -> bytes:
    """Return the 16 bytes of a UUID.

    Args:
        text: Its 36 characters, in either case.

    Raises:
        ValueError: The text is no UUID.
    """
    if len(text) != _TEXT_SIZE or not text[8] == text[13] == text[18] == text[23] == "-":
        raise _not_a_uuid()
    # fromhex() skips blanks, and then comes short.
    data = bytes.fromhex(text.replace("-", ""))
    if len(data) != UUID_SIZE:
        raise _not_a_uuid()
    return data


def _not_a_uuid() -> ValueError:
    return ValueError("give a UUID of 36 characters")


def ordered_uuids(count: int, *, now_us: int, random: Callable[[int], bytes]) -> Sequence[bytes]:
    """Return fresh UUIDs of version 7: those made together lie together in every index.

    Args:
        count: How many.
        now_us: Clock, UTC microseconds; its milliseconds stand in front.
        random: Gives that many random bytes.
    """
    prefix = (now_us // 1_000).to_bytes(6)
    drawn = random(10 * count)
    return [
        prefix
        + bytes(((drawn[at] & 0x0F) | 0x70, drawn[at + 1], (drawn[at + 2] & 0x3F) | 0x80))
        + drawn[at + 3 : at + 10]
        for at in range(0, 10 * count, 10)
    ]
