"""Taking certificates out of force: one by its fingerprint, or all that a SPIFFE ID has."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from elicense.errors import Malformed
from elicense.trust.spiffe import parse_spiffe_id
from elicense.trust.store import TrustStore

if TYPE_CHECKING:
    from sqlalchemy import Connection

_FINGERPRINT_BYTES: Final = 32


def revoke(conn: Connection, store: TrustStore, whom: str) -> int:
    """Revoke certificates and return how many there were; felt on every process within a second.

    Args:
        conn: A writing transaction.
        store: The node's table of certificates.
        whom: A SHA-256 fingerprint in hexadecimal digits, colons allowed, or a SPIFFE ID.

    Raises:
        Malformed: It is neither.
    """
    if whom.startswith("spiffe://"):
        return store.revoke_subject(conn, str(parse_spiffe_id(whom)))
    digits = whom.replace(":", "")
    try:
        fingerprint = bytes.fromhex(digits)
    except ValueError:
        fingerprint = b""
    # Of the text as well: fromhex() passes over blanks.
    if len(fingerprint) != _FINGERPRINT_BYTES or len(digits) != 2 * _FINGERPRINT_BYTES:
        raise Malformed("a fingerprint is 64 hexadecimal digits; a subject starts with spiffe://")
    return int(store.revoke(conn, fingerprint))
