"""The table of quota leases and its queries: the only SQL over it."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    Integer,
    LargeBinary,
    MetaData,
    PrimaryKeyConstraint,
    Table,
    bindparam,
    delete,
    select,
)

from elicense.errors import StoreUnavailable
from elicense.sql.database import insert_for

SCOPE_BYTES = 16
_ATTEMPTS = 8


def define_quota_table(metadata: MetaData) -> Table:
    """Add ``quota`` to ``metadata`` and return it."""
    return Table(
        "quota",
        metadata,
        Column("scope", LargeBinary(SCOPE_BYTES), nullable=False),
        Column("day", Integer, nullable=False),
        Column("leased", BigInteger, nullable=False),
        PrimaryKeyConstraint("scope", "day"),
        info={"dist": "scope"},
        sqlite_with_rowid=False,
    )


class QuotaStore:
    """Hands out parts of quotas inside a caller's transaction.

    Args:
        table: Where it is noted how much has been handed out.
    """

    def __init__(self, table: Table) -> None:
        self._table = table
        c = table.c
        self._leased = select(c.leased).where(c.scope == bindparam("of_scope"), c.day == bindparam("on_day"))
        self._advance = (
            table.update()
            .where(c.scope == bindparam("of_scope"), c.day == bindparam("on_day"), c.leased == bindparam("seen"))
            .values(leased=bindparam("new_leased"))
        )

    def lease(self, conn: Connection, *, scope: bytes, day: int, limit: int, need: int, chunk: int) -> int:
        """Take looks out of a quota by compare-and-set and return how many: 0 when it is used up.

        Args:
            conn: A writing transaction.
            scope: What is counted.
            day: Day whose quota it is.
            limit: The whole quota.
            need: Looks that wait for it.
            chunk: Looks to take ahead, so that the next ones need no lease; less when little is left.

        Raises:
            StoreUnavailable: Others were faster again and again.
        """
        key = {"of_scope": scope, "on_day": day}
        first = insert_for(conn.dialect.name, self._table).on_conflict_do_nothing(index_elements=["scope", "day"])
        conn.execute(first, [{"scope": scope, "day": day, "leased": 0}])
        for _ in range(_ATTEMPTS):
            seen = int(conn.execute(self._leased, key).scalar_one())
            left = limit - seen
            if left <= 0:
                return 0
            # An eighth of what is left at most: what a process takes and does not use is lost to the others.
            granted = min(left, max(need, min(chunk, left // 8)))
            values = {**key, "seen": seen, "new_leased": seen + granted}
            if conn.execute(self._advance, values).rowcount == 1:
                return granted
        raise StoreUnavailable("too many processes lease the same quota at once; try again")

    def drop_before(self, conn: Connection, day: int) -> int:
        """Delete the quotas of days before ``day`` and return how many there were."""
        return conn.execute(delete(self._table).where(self._table.c.day < day)).rowcount
