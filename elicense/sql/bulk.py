"""Write and look up many rows at little cost a row.

A batch of the log is thousands of rows of plain integers and bytes; preparing
each as named parameters would take longer than storing it.  SQLite takes the
rows as they are.  PostgreSQL takes one array a column, in one statement and
one round trip, however many rows there are.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import BigInteger, Boolean, Column, Integer, LargeBinary, SmallInteger, String

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from sqlalchemy import Connection, Table

    Values = tuple[bytes | int | str | None, ...]

_ARRAY_TYPES: Final = {
    BigInteger: "bigint[]",
    Boolean: "boolean[]",
    Integer: "integer[]",
    LargeBinary: "bytea[]",
    SmallInteger: "smallint[]",
    String: "text[]",
}

#: Keys of one look-up on SQLite.  Few sizes, because each is a statement of its own that every
#: connection keeps prepared, at some hundred bytes a key; what is missing is filled up with a key once more.
_LOOKUP_SIZES: Final = (1, 8, 64, 512, 2_048)


class _Written:
    """Statements that take many rows: one text for SQLite, one for PostgreSQL."""

    _each: str
    _arrays: str

    def execute(self, conn: Connection, rows: Sequence[Values]) -> None:
        """Write the rows; none at all when one of them is refused.

        Args:
            conn: The transaction.
            rows: Values in the order that the statement was made for.
        """
        if not rows:
            return
        if conn.dialect.name == "sqlite":
            conn.exec_driver_sql(self._each, list(rows))
        else:
            conn.exec_driver_sql(self._arrays, tuple([list(values) for values in zip(*rows, strict=True)]))


class BulkInsert(_Written):
    """INSERT of many rows into one table; each gives all its columns, in their order.

    Args:
        table: Where to insert.
        replace: A row whose primary key stands already replaces it, instead of being refused.  On
            PostgreSQL no key may then come twice in one call.
        merged: What a column becomes then, in place of the new value: SQL over ``excluded`` and the table.
        only_if: SQL condition over both, without which a standing row stays as it is.
    """

    def __init__(
        self, table: Table, *, replace: bool = False, merged: Mapping[str, str] | None = None, only_if: str = ""
    ) -> None:
        columns = ", ".join(column.name for column in table.columns)
        tail = _on_conflict(table, merged or {}, only_if) if replace else ""
        marks = ", ".join("?" for _ in table.columns)
        self._each = f"INSERT INTO {table.name} ({columns}) VALUES ({marks}){tail}"  # noqa: S608  # our own names, no data
        self._arrays = f"INSERT INTO {table.name} ({columns}) SELECT * FROM {_unnest(table.columns)}{tail}"  # noqa: S608


class BulkUpdate(_Written):
    """UPDATE of many rows; each gives the new values, then those by which its row is found.

    Args:
        table: Where to update.
        values: Columns that get a new value.
        found_by: Columns that must have the given value; a row that is not found is passed over.
    """

    def __init__(self, table: Table, *, values: Sequence[str], found_by: Sequence[str]) -> None:
        names = [f"v{position}" for position in range(len(values) + len(found_by))]
        given = _unnest([table.c[name] for name in (*values, *found_by)])
        old = names[len(values) :]
        self._each = (
            f"UPDATE {table.name} SET {', '.join(f'{name} = ?' for name in values)} "  # noqa: S608  # our own names, no data
            f"WHERE {' AND '.join(f'{name} = ?' for name in found_by)}"
        )
        self._arrays = (
            f"UPDATE {table.name} SET {', '.join(f'{n} = given.{v}' for n, v in zip(values, names, strict=False))} "  # noqa: S608
            f"FROM {given} AS given({', '.join(names)}) "
            f"WHERE {' AND '.join(f'{table.name}.{n} = given.{v}' for n, v in zip(found_by, old, strict=True))}"
        )


class BulkLookup:
    """SELECT of the rows that have one of many keys.

    Args:
        columns: What to read, all of one table.
        key: Column of the keys.
        ordered_lock: Lock the rows, in the order of their keys.
    """

    def __init__(self, columns: Sequence[Column[Any]], key: Column[Any], *, ordered_lock: bool = False) -> None:
        names = ", ".join(column.name for column in columns)
        self._select = f"SELECT {names} FROM {key.table.name} WHERE {key.name}"  # noqa: S608  # our own names, no data
        self._lock = f" ORDER BY {key.name} FOR UPDATE" if ordered_lock else ""
        self._array = f"{self._select} = ANY(%b::{_ARRAY_TYPES[type(key.type)]}){self._lock}"
        self._in = {size: f"{self._select} IN ({', '.join('?' * size)})" for size in _LOOKUP_SIZES}

    def execute(self, conn: Connection, keys: Iterable[bytes | int | str]) -> list[Any]:
        """Return the rows, as tuples, in any order.

        Args:
            conn: The transaction.
            keys: The keys; one that comes twice counts once.
        """
        wanted = sorted(set(keys))
        if not wanted:
            return []
        if conn.dialect.name != "sqlite":
            return list(conn.exec_driver_sql(self._array, (wanted,)))
        found: list[Any] = []
        largest = _LOOKUP_SIZES[-1]
        for start in range(0, len(wanted), largest):
            part = wanted[start : start + largest]
            size = next(size for size in _LOOKUP_SIZES if size >= len(part))
            part += part[-1:] * (size - len(part))
            found += conn.exec_driver_sql(self._in[size], tuple(part))
        return found


def _unnest(columns: Iterable[Column[Any]]) -> str:
    # %b asks psycopg for binary: as text, every byte would be escaped.
    return f"unnest({', '.join(f'%b::{_ARRAY_TYPES[type(column.type)]}' for column in columns)})"


def _on_conflict(table: Table, merged: Mapping[str, str], only_if: str) -> str:
    key = [column.name for column in table.primary_key.columns]
    new = {column.name: f"excluded.{column.name}" for column in table.columns if column.name not in key}
    changes = ", ".join(f"{name} = {value}" for name, value in (new | dict(merged)).items())
    return f" ON CONFLICT ({', '.join(key)}) DO UPDATE SET {changes}{f' WHERE {only_if}' if only_if else ''}"
