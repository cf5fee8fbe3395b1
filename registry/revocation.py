"""Revoking certificates: one by its fingerprint, or all that a SPIFFE ID has."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from elicense.errors import Malformed
from elicense.sql.database import Database
from elicense.trust.spiffe import parse_spiffe_id
from registry.store import RegistryStore

if TYPE_CHECKING:
    from sqlalchemy import Connection

_FINGERPRINT_DIGITS: Final = 64


def revoke(database: Database, store: RegistryStore, whom: str) -> int:
    """Revoke certificates and return how many there were; felt on every process within a second.

    Args:
        database: The registry's database.
        store: Its tables.
        whom: A SHA-256 fingerprint in hexadecimal digits, colons allowed, or a SPIFFE ID.

    Raises:
        Malformed: It is neither.
        StoreUnavailable: The database is away.
    """

    def write(conn: Connection) -> int:
        if whom.startswith("spiffe://"):
            return store.trust.revoke_subject(conn, str(parse_spiffe_id(whom)))
        return int(store.trust.revoke(conn, _fingerprint(whom)))

    return database.write_now(write)


def _fingerprint(text: str) -> bytes:
    digits = text.replace(":", "").lower()
    try:
        fingerprint = bytes.fromhex(digits)
    except ValueError:
        fingerprint = b""
    if len(digits) != _FINGERPRINT_DIGITS or not fingerprint:
        raise Malformed(f"a fingerprint is {_FINGERPRINT_DIGITS} hexadecimal digits; a subject starts with spiffe://")
    return fingerprint
