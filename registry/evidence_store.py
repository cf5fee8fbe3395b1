"""The table of evidence, what shows that a city broke the rules: the only SQL over it."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from typing import Final

from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    Integer,
    LargeBinary,
    MetaData,
    PrimaryKeyConstraint,
    String,
    Table,
    func,
    select,
)

from elicense.sql.database import insert_for
from registry.quarantine_model import Quarantine

#: Objects of one kind kept as evidence against one city.
EVIDENCE_PER_REASON: Final = 16
#: Digests that one query looks up.
_MAX_DIGESTS: Final = 1_000


def define_evidence_table(metadata: MetaData) -> Table:
    """Add ``evidence`` to ``metadata`` and return it."""
    return Table(
        "evidence",
        metadata,
        Column("city", Integer, nullable=False, autoincrement=False),
        Column("digest", LargeBinary(32), nullable=False),
        Column("reason", String(63), nullable=False),
        Column("body", LargeBinary, nullable=False),
        Column("noted_us", BigInteger, nullable=False),
        PrimaryKeyConstraint("city", "digest"),
        info={"dist": "city"},
    )


class EvidenceStore:
    """Queries over evidence, each inside a caller's transaction.

    Args:
        table: From :func:`define_evidence_table`.
    """

    def __init__(self, table: Table) -> None:
        self._table = table

    def add(
        self, conn: Connection, *, city: int, digest: bytes, reason: str, body: bytes, now_us: int, cited: bool = False
    ) -> bool:
        """Keep what shows a city breaking the rules; the same object is kept once.  Tells whether it is new.

        Of one kind a city has no more than :data:`EVIDENCE_PER_REASON` kept: the first ones prove
        as much as any number, and no city may fill the registry's disk.  What a decision cites is kept
        whatever else there is: a city that does small wrongs first must not push out what proves a great one.
        """
        of_kind = (self._table.c.city == city, self._table.c.reason == reason)
        count = select(func.count()).select_from(self._table).where(*of_kind)
        if not cited and conn.execute(count).scalar_one() >= EVIDENCE_PER_REASON:
            return False
        values = {"city": city, "digest": digest, "reason": reason, "body": body, "noted_us": now_us}
        statement = insert_for(conn.dialect.name, self._table)
        kept = conn.execute(statement.on_conflict_do_nothing(index_elements=["city", "digest"]), values)
        return kept.rowcount == 1

    def body(self, conn: Connection, city: int, digest: bytes) -> bytes | None:
        """Return what is kept as evidence against a city, or None."""
        table = self._table
        query = select(table.c.body).where(table.c.city == city, table.c.digest == digest)
        return conn.execute(query).scalar_one_or_none()

    def bodies(self, conn: Connection, digests: Collection[bytes], *, most_bytes: int) -> list[bytes]:
        """Return what is kept of these digests, against whatever city, up to so many bytes together."""
        table, room = self._table, most_bytes
        found: list[bytes] = []
        wanted = sorted(set(digests))
        for start in range(0, len(wanted), _MAX_DIGESTS):
            part = table.c.digest.in_(wanted[start : start + _MAX_DIGESTS])
            sizes = select(table.c.city, table.c.digest, func.length(table.c.body)).where(part).order_by(table.c.digest)
            for city, digest, size in conn.execute(sizes).all():
                body = self.body(conn, city, digest) if size <= room else None
                if body is not None:
                    found.append(body)
                    room -= size
        return found

    def all(self, conn: Connection) -> Iterator[tuple[int, bytes, bytes]]:
        """Yield everything that is kept as evidence: city, digest, body."""
        table = self._table
        query = select(table.c.city, table.c.digest, table.c.body).order_by(table.c.city, table.c.digest)
        for row in conn.execute(query):
            yield row[0], row[1], row[2]

    def reasons(self, conn: Connection) -> list[tuple[int, bytes, str]]:
        """Return why each piece of evidence is kept: city, digest, reason."""
        table = self._table
        return [(row[0], row[1], row[2]) for row in conn.execute(select(table.c.city, table.c.digest, table.c.reason))]

    def digests(self, conn: Connection, city: int, reasons: Collection[str]) -> list[bytes]:
        """Return the digests of what is kept as evidence against a city for one of these reasons, in order."""
        table = self._table
        query = select(table.c.digest).where(table.c.city == city, table.c.reason.in_(reasons))
        return [row[0] for row in conn.execute(query.order_by(table.c.digest))]

    def counts(self, conn: Connection, reason: str) -> dict[int, int]:
        """Return how many pieces of evidence are kept for a reason, by city."""
        table = self._table
        query = select(table.c.city, func.count()).where(table.c.reason == reason).group_by(table.c.city)
        return {row[0]: row[1] for row in conn.execute(query)}

    def kept_for(self, conn: Connection, reason: str) -> list[tuple[bytes, int]]:
        """Return body and time of all evidence that is kept for a reason, the oldest first of each city."""
        table = self._table
        query = select(table.c.body, table.c.noted_us).where(table.c.reason == reason)
        return [(row[0], row[1]) for row in conn.execute(query.order_by(table.c.city, table.c.noted_us))]

    def lacking(self, conn: Connection, quarantines: Iterable[Quarantine]) -> list[Quarantine]:
        """Return those quarantines of which the evidence that they rest on is not kept."""
        kept = select(self._table.c.city, self._table.c.digest)
        held = {(row[0], row[1]) for row in conn.execute(kept)}
        return [each for each in quarantines if (each.city, each.digest) not in held]
