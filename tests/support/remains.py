"""What is left of erased records, and the attack of somebody who holds the true ones."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence

from sqlalchemy import MetaData

from elicense.log.entry import SALT_SIZE, leaf_hash
from elicense.log.model import StoredEntry
from elicense.sql.database import Database
from elicense.v1 import license_pb2


def stored(url: str, metadata: MetaData) -> list[bytes]:
    """Return every value of every row of a database that is bytes or text, as bytes."""
    database = Database(url, readers=1)
    try:
        return database.read_now(
            lambda conn: [
                value.encode() if isinstance(value, str) else bytes(value)
                for table in metadata.sorted_tables
                for row in conn.execute(table.select())
                for value in row
                if isinstance(value, str | bytes | memoryview)
            ]
        )
    finally:
        database.close()


def opened(remains: Iterable[bytes], records: Sequence[StoredEntry]) -> int:
    """Try whatever stands in ``remains`` as the salt of the true records; return how many it opens."""
    wanted = {record.leaf_hash for record in records}
    bodies = [record.record or b"" for record in records]
    candidates = {each[at : at + SALT_SIZE] for each in remains for at in range(len(each) - SALT_SIZE + 1)}
    return sum(leaf_hash(salt, body) in wanted for salt in candidates if any(salt) for body in bodies)


def confirmed(remains: Sequence[bytes], records: Sequence[StoredEntry]) -> list[str]:
    """Return what of the true records stands in ``remains``: as it is, or as a hash that whoever knows it can compute.

    Tried are the records, the licences and holders in them, and every word of a holder by itself.
    """
    guesses: set[tuple[str, bytes]] = set()
    for entry in records:
        message = license_pb2.LicenseRecord.FromString(entry.record or b"")
        holder = message.license.holder
        guesses |= {
            ("record", entry.record or b""),
            ("salt", entry.salt or b""),
            ("licence", message.license.SerializeToString(deterministic=True)),
            ("holder", holder.SerializeToString(deterministic=True)),
            ("name", holder.full_name.encode()),
            ("address", holder.address.encode()),
            ("photo", message.license.photo.sha256),
            ("request", message.request_digest),
        }
        for name, document in (("", holder.document), *(("earlier ", each) for each in message.earlier_documents)):
            guesses.add((f"{name}number", document.number.encode()))
            guesses.add((f"{name}document", document.SerializeToString(deterministic=True)))
    found = set()
    for name, guess in guesses:
        hashes = [hashlib.new(kind, guess).digest() for kind in ("sha256", "sha1", "md5", "sha512")]
        # A tag of 16 bytes might be a hash that was cut.
        tried = [guess, *hashes, *(each[:16] for each in hashes), hashlib.sha256(guess).hexdigest().encode()]
        if guess and any(each in part for each in tried for part in remains):
            found.add(name)
    return sorted(found)
