"""Page tokens that bind a place in a list to the query that it belongs to."""

from __future__ import annotations

import hmac
from base64 import urlsafe_b64decode, urlsafe_b64encode
from binascii import Error as Base64Error
from typing import Final

from elicense.errors import Malformed, Violation

_TAG_BYTES: Final = 8


class PageTokens:
    """Seals and opens page tokens.

    Args:
        key: Secret that binds them to their query.
    """

    def __init__(self, key: bytes) -> None:
        self._key = key

    def seal(self, query: bytes, place: bytes) -> str:
        """Return the token of a place in the list that ``query`` names."""
        tag = hmac.digest(self._key, b"page\n" + query + place, "sha256")[:_TAG_BYTES]
        return urlsafe_b64encode(tag + place).decode()

    def open(self, query: bytes, token: str, size: int) -> bytes:
        """Return the place in a token, which has ``size`` bytes; nothing for no token.

        Raises:
            Malformed: The token is not one of this list.
        """
        if not token:
            return b""
        try:
            opened = urlsafe_b64decode(token)
        except (Base64Error, ValueError):
            opened = b""
        place = opened[_TAG_BYTES:]
        if len(place) != size or not hmac.compare_digest(self.seal(query, place), token):
            raise Malformed(
                "the page token is not one of this list",
                violations=[Violation("page_token", "TOKEN_INVALID", "send the token of the page before, unchanged")],
            )
        return place
