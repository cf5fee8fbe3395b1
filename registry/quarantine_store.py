"""The table of quarantines: the only SQL over it."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    Integer,
    LargeBinary,
    MetaData,
    PrimaryKeyConstraint,
    SmallInteger,
    String,
    Table,
    bindparam,
    select,
)

from elicense.sql.database import insert_for
from elicense.sql.direct import FixedStatement
from elicense.trust.spiffe import MAX_SPIFFE_ID
from registry.quarantine_model import Quarantine


def define_quarantine_table(metadata: MetaData) -> Table:
    """Add ``quarantine`` to ``metadata`` and return it."""
    return Table(
        "quarantine",
        metadata,
        Column("city", Integer, nullable=False, autoincrement=False),
        Column("epoch", BigInteger, nullable=False),
        Column("kind", SmallInteger, nullable=False),
        Column("state", SmallInteger, nullable=False),
        Column("size", BigInteger, nullable=False),
        Column("root", LargeBinary(32), nullable=False),
        Column("digest", LargeBinary(32), nullable=False),
        Column("opened_us", BigInteger, nullable=False),
        Column("asked_by", String(MAX_SPIFFE_ID), nullable=False),
        Column("ended_by", String(MAX_SPIFFE_ID), nullable=False),
        Column("ended_us", BigInteger, nullable=False),
        PrimaryKeyConstraint("city", "epoch"),
        info={"dist": "city"},
        sqlite_with_rowid=False,
    )


class QuarantineStore:
    """Reads and writes quarantines inside a caller's transaction.

    Args:
        table: From :func:`define_quarantine_table`.
    """

    def __init__(self, table: Table) -> None:
        self._table = table
        columns = [table.c[name] for name in Quarantine.__dataclass_fields__]
        self._all = FixedStatement(select(*columns).order_by(table.c.city, table.c.epoch))
        of_city = select(*columns).where(table.c.city == bindparam("of_city"))
        self._of = FixedStatement(of_city.order_by(table.c.epoch.desc()).limit(1))

    def of(self, conn: Connection, city: int) -> Quarantine | None:
        """Return the last quarantine of a city, or None."""
        row = self._of.first(conn, {"of_city": city})
        return None if row is None else Quarantine(*row)

    def all(self, conn: Connection) -> list[Quarantine]:
        """Return every quarantine that is kept, in order."""
        return [Quarantine(*row) for row in self._all.all(conn)]

    def put(self, conn: Connection, quarantine: Quarantine) -> None:
        """Insert or replace the quarantine of an epoch."""
        statement = insert_for(conn.dialect.name, self._table)
        replaced = {c.name: statement.excluded[c.name] for c in self._table.c if not c.primary_key}
        upsert = statement.on_conflict_do_update(index_elements=["city", "epoch"], set_=replaced)
        conn.execute(upsert, [quarantine.as_dict()])
