"""Insert many rows at little cost a row.

A batch of the log is thousands of rows of plain integers and bytes; preparing
each as named parameters would take longer than storing it.  SQLite takes the
rows as they are.  PostgreSQL takes one array a column, in one statement and
one round trip, however many rows there are.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from sqlalchemy import BigInteger, Boolean, Integer, LargeBinary, SmallInteger, String

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import Connection, Table

_ARRAY_TYPES: Final = {
    BigInteger: "bigint[]",
    Boolean: "boolean[]",
    Integer: "integer[]",
    LargeBinary: "bytea[]",
    SmallInteger: "smallint[]",
    String: "text[]",
}


class BulkInsert:
    """Plain INSERT of many rows into one table.

    Args:
        table: Where to insert; every row gives all its columns, in their order.
    """

    def __init__(self, table: Table) -> None:
        columns = ", ".join(column.name for column in table.columns)
        marks = ", ".join("?" for _ in table.columns)
        arrays = ", ".join(f"%b::{_ARRAY_TYPES[type(column.type)]}" for column in table.columns)
        # %b asks psycopg for binary: as text, every byte would be escaped.
        self._each = f"INSERT INTO {table.name} ({columns}) VALUES ({marks})"  # noqa: S608  # names of our own tables, no data
        self._arrays = f"INSERT INTO {table.name} ({columns}) SELECT * FROM unnest({arrays})"  # noqa: S608  # likewise

    def execute(self, conn: Connection, rows: Sequence[tuple[bytes | int | str | None, ...]]) -> None:
        """Insert the rows; none at all when one of them is refused.

        Args:
            conn: The transaction.
            rows: Values in the order of the table's columns.
        """
        if not rows:
            return
        if conn.dialect.name == "sqlite":
            conn.exec_driver_sql(self._each, list(rows))
        else:
            conn.exec_driver_sql(self._arrays, tuple([list(values) for values in zip(*rows, strict=True)]))
