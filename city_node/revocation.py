"""Taking certificates of the city's own people out of force."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from city_node.store import CityStore
from elicense.errors import Malformed
from elicense.trust.spiffe import parse_spiffe_id

if TYPE_CHECKING:
    from sqlalchemy import Connection

_FINGERPRINT_BYTES: Final = 32


def revoke(conn: Connection, store: CityStore, whom: str) -> int:
    """Revoke one certificate by its fingerprint, or every one of a SPIFFE ID; return how many there were.

    Raises:
        Malformed: ``whom`` is neither.
    """
    if whom.startswith("spiffe://"):
        return store.trust.revoke_subject(conn, str(parse_spiffe_id(whom)))
    try:
        fingerprint = bytes.fromhex(whom.replace(":", ""))
    except ValueError:
        fingerprint = b""
    if len(fingerprint) != _FINGERPRINT_BYTES:
        raise Malformed("a fingerprint is 64 hexadecimal digits; a subject starts with spiffe://")
    return int(store.trust.revoke(conn, fingerprint))
