"""Where the registry's log decided about custody, by what a record without custody would follow: the only SQL over it.

It says nothing that the log does not: whoever judges a record need not read the whole log for it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    Integer,
    LargeBinary,
    MetaData,
    PrimaryKeyConstraint,
    Table,
    select,
    tuple_,
)

from elicense.errors import Malformed
from elicense.sql.database import insert_for
from elicense.sql.row import Row
from elicense.v1 import log_pb2
from elicense.verification.custody_evidence import read_decision

if TYPE_CHECKING:
    from elicense.log.model import StoredEntry


@dataclass(frozen=True, slots=True, order=True)
class CustodyDecision(Row):
    """A decision on a take-over.

    Attributes:
        license_id: The licence.
        city: City that has no custody by it.
        upon: Leaf hash of the entry upon which that city may write no more: its take-over that was refused, or its
            last record that counts.
        epoch: Epoch of the registry's log.
        idx: Index of the decision.
    """

    license_id: bytes
    city: int
    upon: bytes
    epoch: int
    idx: int

    @classmethod
    def read(cls, epoch: int, entry: StoredEntry) -> CustodyDecision | None:
        """Read an entry of the registry's log; None when it is no such decision."""
        try:
            return cls.of(read_decision(entry.record or b"").transfer_decided, epoch, entry.index)
        except Malformed:
            return None

    @classmethod
    def of(cls, decided: log_pb2.TransferDecided, epoch: int, index: int) -> CustodyDecision:
        """Return what a decision comes to that stands at a place of the registry's log."""
        if decided.refusal != log_pb2.TRANSFER_REFUSAL_UNSPECIFIED:
            return cls(decided.license_id, decided.position.city, decided.entry_hash, epoch, index)
        return cls(decided.license_id, decided.source.city, decided.source_entry_hash, epoch, index)


def define_custody_table(metadata: MetaData) -> Table:
    """Add ``custody_decision`` to ``metadata`` and return it."""
    return Table(
        "custody_decision",
        metadata,
        Column("license_id", LargeBinary(16), nullable=False),
        Column("city", Integer, nullable=False, autoincrement=False),
        Column("upon", LargeBinary(32), nullable=False),
        Column("epoch", BigInteger, nullable=False, autoincrement=False),
        Column("idx", BigInteger, nullable=False, autoincrement=False),
        PrimaryKeyConstraint("license_id", "city", "upon", "epoch", "idx"),
        info={"dist": "license_id"},
        sqlite_with_rowid=False,
    )


class CustodyStore:
    """Reads and writes it inside a caller's transaction.

    Args:
        table: From :func:`define_custody_table`.
    """

    def __init__(self, table: Table) -> None:
        self._table = table
        self._key = [table.c[name] for name in CustodyDecision.__dataclass_fields__]

    def add(self, conn: Connection, rows: Iterable[CustodyDecision]) -> None:
        """Note decisions; one that is noted already stays."""
        values = [row.as_dict() for row in rows]
        if values:
            conn.execute(insert_for(conn.dialect.name, self._table).on_conflict_do_nothing(), values)

    def latest(self, conn: Connection, license_id: bytes, city: int, upon: bytes) -> tuple[int, int] | None:
        """Return epoch and index of the last decision by which a city may not write upon an entry, or None."""
        c = self._table.c
        query = select(c.epoch, c.idx).where(c.license_id == license_id, c.city == city, c.upon == upon)
        row = conn.execute(query.order_by(c.epoch.desc(), c.idx.desc()).limit(1)).first()
        return None if row is None else (row[0], row[1])

    def page(self, conn: Connection, *, after: CustodyDecision | None, limit: int) -> list[CustodyDecision]:
        """Return up to ``limit`` rows behind one, in order."""
        query = select(*self._key).order_by(*self._key).limit(limit)
        if after is not None:
            query = query.where(tuple_(*self._key) > tuple_(*after.as_dict().values()))
        return [CustodyDecision(*row) for row in conn.execute(query)]

    def held(self, conn: Connection, rows: Sequence[CustodyDecision]) -> set[CustodyDecision]:
        """Return which of some rows there are."""
        if not rows:
            return set()
        query = select(*self._key).where(tuple_(*self._key).in_([tuple(row.as_dict().values()) for row in rows]))
        return {CustodyDecision(*row) for row in conn.execute(query)}
