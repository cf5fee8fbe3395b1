"""The table of leases and its queries: the only SQL over it.

A lease says which process does what must be done by one alone.  It is taken by
compare-and-set and ends by itself, so that nobody has to notice a death.
"""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Connection, MetaData, PrimaryKeyConstraint, String, Table, or_

from elicense.sql.database import insert_for

MAX_LEASE_NAME = 64
MAX_HOLDER = 128


def define_lease_table(metadata: MetaData) -> Table:
    """Add ``lease`` to ``metadata`` and return it."""
    return Table(
        "lease",
        metadata,
        Column("name", String(MAX_LEASE_NAME), nullable=False),
        Column("holder", String(MAX_HOLDER), nullable=False),
        Column("until_us", BigInteger, nullable=False),
        PrimaryKeyConstraint("name"),
        info={"dist": "name"},
        sqlite_with_rowid=False,
    )


class LeaseStore:
    """Takes and gives back leases inside a caller's transaction.

    Args:
        table: Where they are.
    """

    def __init__(self, table: Table) -> None:
        self._table = table

    def take(self, conn: Connection, name: str, holder: str, *, now_us: int, until_us: int) -> bool:
        """Take a lease, or make it last longer; False while another holds it.

        Args:
            conn: A writing transaction.
            name: What is leased.
            holder: By whom.
            now_us: A lease that ends by then is free.
            until_us: When this one is to end.
        """
        new = insert_for(conn.dialect.name, self._table).on_conflict_do_nothing(index_elements=["name"])
        conn.execute(new, [{"name": name, "holder": "", "until_us": 0}])
        c = self._table.c
        taken = (
            self._table.update()
            .where(c.name == name, or_(c.holder == holder, c.until_us <= now_us))
            .values(holder=holder, until_us=until_us)
        )
        return conn.execute(taken).rowcount == 1

    def give_back(self, conn: Connection, name: str, holder: str) -> None:
        """End a lease, if ``holder`` has it."""
        c = self._table.c
        conn.execute(self._table.update().where(c.name == name, c.holder == holder).values(until_us=0))
