"""Write and look up many rows at little cost a row.

A batch of the log is thousands of rows of plain integers and bytes; preparing
each as named parameters would take longer than storing it.  SQLite takes the
rows as they are.  PostgreSQL takes one array a column, in one statement and
one round trip, however many rows there are.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import Column, LargeBinary

from elicense.sql.arrays import ARRAY_TYPES, array_of
from elicense.sql.direct import change, change_each, query
from elicense.sql.single import Query

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from sqlalchemy import Connection, Table

    Values = tuple[bytes | int | str | None, ...]

#: Keys of one look-up on SQLite.  Few sizes, because each is a statement of its own that every
#: connection keeps prepared, at some hundred bytes a key; what is missing is filled up with a key once more.
_LOOKUP_SIZES: Final = (1, 8, 64, 512, 2_048)


#: Rows from which on it pays to turn them into columns and back.
_WORTH_TURNING: Final = 8


class _Written:
    """Statements that take many rows: one text for SQLite, one for PostgreSQL.

    Args:
        columns: Where the values of a row go, in their order.
    """

    _each: str
    _arrays: str

    def __init__(self, columns: Sequence[Column[Any]]) -> None:
        self._kinds = [ARRAY_TYPES[type(column.type)] for column in columns]
        self._blobs = [
            (position, bool(column.nullable))
            for position, column in enumerate(columns)
            if isinstance(column.type, LargeBinary)
        ]

    def execute(self, conn: Connection, rows: Sequence[Values]) -> int:
        """Write the rows, none at all when one of them is refused, and return how many that changed.

        Args:
            conn: The transaction.
            rows: Values in the order that the statement was made for.
        """
        if not rows:
            return 0
        if conn.dialect.name == "sqlite":
            return change_each(conn, self._each, self._for_sqlite(rows))
        columns = zip(*rows, strict=True)
        return change(
            conn, self._arrays, [array_of(kind, values) for kind, values in zip(self._kinds, columns, strict=True)]
        )

    def _for_sqlite(self, rows: Sequence[Values]) -> list[Any]:
        """Return the rows with bytes as the driver takes them at once.

        It asks of every value that is no number, text or bytearray whether it can be adapted, which for bytes
        takes several times as long as to bind them.
        """
        if not self._blobs or len(rows) < _WORTH_TURNING:
            return list(rows)
        columns: list[Any] = list(zip(*rows, strict=True))
        for position, nullable in self._blobs:
            values = columns[position]
            if not nullable or None not in values:
                columns[position] = map(bytearray, values)
        return list(zip(*columns, strict=True))


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
        super().__init__(list(table.columns))
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
        columns = [table.c[name] for name in (*values, *found_by)]
        super().__init__(columns)
        names = [f"v{position}" for position in range(len(columns))]
        given = _unnest(columns)
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


class _ByKeys:
    """Statements about the rows that have one of many keys: one text for PostgreSQL, some for SQLite.

    Args:
        key: Column of the keys.
        start: The statement up to its condition; it may end in conditions of its own.
        end: What follows the condition.
    """

    def __init__(self, key: Column[Any], start: str, end: str) -> None:
        self._kind = ARRAY_TYPES[type(key.type)]
        self._array = f"{start.replace('?', '%b')} {key.name} = ANY(%b::{self._kind.name}){end}"
        self._is_bytes = isinstance(key.type, LargeBinary)
        self._in = {size: f"{start} {key.name} IN ({', '.join('?' * size)}){end}" for size in _LOOKUP_SIZES}

    def execute(self, conn: Connection, keys: Iterable[bytes | int | str], *given: bytes | int | str) -> list[Any]:
        """Return the rows, as tuples, in any order.

        Args:
            conn: The transaction.
            keys: The keys; one that comes twice counts once.
            given: Values of the statement's own conditions, in their order.
        """
        wanted = sorted(set(keys))
        if not wanted:
            return []
        if conn.dialect.name != "sqlite":
            return query(conn, self._array, (*given, array_of(self._kind, wanted)))
        found: list[Any] = []
        largest = _LOOKUP_SIZES[-1]
        for start in range(0, len(wanted), largest):
            bound = self._filled(wanted[start : start + largest])
            found += query(conn, self._in[len(bound)], (*given, *bound))
        return found

    def _filled(self, part: list[Any]) -> list[Any]:
        """Return keys in a number for which there is a statement, as SQLite's driver takes them at once."""
        size = next(size for size in _LOOKUP_SIZES if size >= len(part))
        part += part[-1:] * (size - len(part))
        # As in _for_sqlite().
        return list(map(bytearray, part)) if self._is_bytes else part


class BulkLookup(_ByKeys):
    """SELECT of the rows that have one of many keys.

    Args:
        columns: What to read, all of one table.
        key: Column of the keys.
        condition: SQL before that of the keys, with a question mark for each value that is given with them.
        ordered_lock: Lock the rows, in the order of their keys.
    """

    def __init__(
        self, columns: Sequence[Column[Any]], key: Column[Any], *, condition: str = "", ordered_lock: bool = False
    ) -> None:
        # SQLite has no row locks, and needs none: it has one writer.
        lock = f" ORDER BY {key.name} FOR UPDATE" if ordered_lock else ""
        start = f"SELECT {_names(columns)} FROM {key.table.name} WHERE {condition}"  # noqa: S608  # our own names, no data
        super().__init__(key, start, "")
        self._array += lock

    def query(self, dialect: str, keys: Iterable[bytes | int | str]) -> Query:
        """Return the look-up as one query, for those who need no transaction around it.

        Args:
            dialect: Name of the dialect.
            keys: The keys, at least one and at most 2,048 of them; one that comes twice counts once.
        """
        wanted = sorted(set(keys))
        if dialect != "sqlite":
            return Query(self._array, (array_of(self._kind, wanted),))
        filled = self._filled(wanted)
        return Query(self._in[len(filled)], tuple(filled))


class BulkMark(_ByKeys):
    """UPDATE of the rows that have one of many keys and meet a condition.

    Args:
        columns: What to read of each row that was written.
        key: Column of the keys.
        changes: What to set, in SQL.
        condition: SQL condition, with a question mark for each value that is given with the keys.
    """

    def __init__(self, columns: Sequence[Column[Any]], key: Column[Any], *, changes: str, condition: str) -> None:
        start = f"UPDATE {key.table.name} SET {changes} WHERE {condition} AND"  # noqa: S608  # our own names, no data
        super().__init__(key, start, f" RETURNING {_names(columns)}")


def _names(columns: Iterable[Column[Any]]) -> str:
    return ", ".join(column.name for column in columns)


def _unnest(columns: Iterable[Column[Any]]) -> str:
    # %b asks psycopg for binary: as text, every byte would be escaped.
    return f"unnest({', '.join(f'%b::{ARRAY_TYPES[type(column.type)].name}' for column in columns)})"


def _on_conflict(table: Table, merged: Mapping[str, str], only_if: str) -> str:
    key = [column.name for column in table.primary_key.columns]
    new = {column.name: f"excluded.{column.name}" for column in table.columns if column.name not in key}
    changes = ", ".join(f"{name} = {value}" for name, value in (new | dict(merged)).items())
    return f" ON CONFLICT ({', '.join(key)}) DO UPDATE SET {changes}{f' WHERE {only_if}' if only_if else ''}"
