"""A file of a long job: tables of integers, texts and bytes that would not fit into memory, and that outlive a crash.

It is SQLite whatever the database of the node is, holds little of it in memory,
and everything since the last :meth:`Scratch.commit` is gone after a crash.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Final

from elicense.errors import StoreCorrupt, Unavailable

Value = int | str | bytes
Values = tuple[Value, ...]

#: What SQLite may keep of the file in memory, KiB.
_CACHE_KIB: Final = 8_192
_MAX_KEYS: Final = 500


class Scratch:
    """Opens or makes the file; one process alone has it open.

    Args:
        path: Where; None for one that is gone when it is closed.

    Raises:
        Unavailable: Another process has it open.
        StoreCorrupt: It is no such file, or a damaged one.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        if path is not None:
            # Made before SQLite does it, which would let others read it.
            os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
        # An empty name is a file of its own that SQLite deletes by itself.
        self._connection = sqlite3.connect("" if path is None else path, isolation_level=None, timeout=0)
        try:
            self._connection.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
            self._connection.execute("PRAGMA locking_mode = EXCLUSIVE")
            self._connection.execute("PRAGMA synchronous = NORMAL")
            self._connection.execute("BEGIN EXCLUSIVE")
        except sqlite3.OperationalError as error:
            self._connection.close()
            raise Unavailable(f"{path} is in use; wait until the other run has ended, or stop it") from error
        except sqlite3.DatabaseError as error:
            self._connection.close()
            raise StoreCorrupt(f"{path} is damaged") from error

    def shelf(self, name: str, *, keys: int, values: int = 0) -> Shelf:
        """Return a table, made and committed if there is none: ask for it before anything is written."""
        shelf = Shelf(self._connection, name, keys, values)
        self.commit()
        return shelf

    def commit(self) -> None:
        """Keep everything so far, also through a crash."""
        self._connection.execute("COMMIT")
        self._connection.execute("BEGIN EXCLUSIVE")

    def rollback(self) -> None:
        """Forget everything since the last commit."""
        self._connection.execute("ROLLBACK")
        self._connection.execute("BEGIN EXCLUSIVE")

    def close(self) -> None:
        """Close the file; it stays."""
        self._connection.close()

    def remove(self) -> None:
        """Close the file and delete it."""
        self.close()
        if self._path is not None:
            for suffix in ("", "-journal"):
                Path(f"{self._path}{suffix}").unlink(missing_ok=True)


class Shelf:
    """One table: rows in the order of their first columns, which no two rows share.  Made by :meth:`Scratch.shelf`.

    Its statements are put together from names of this program and marks for values alone.
    """

    def __init__(self, connection: sqlite3.Connection, name: str, keys: int, values: int) -> None:
        self._connection = connection
        self._name = name
        self._keys = keys
        columns = [f"c{n}" for n in range(keys + values)]
        self._key = ", ".join(columns[:keys])
        self._put = f"INSERT OR REPLACE INTO {name} VALUES ({', '.join('?' * len(columns))})"  # noqa: S608
        self._get = f"SELECT * FROM {name} WHERE ({self._key}) = ({', '.join('?' * keys)})"  # noqa: S608
        self._add = self._put.replace("REPLACE", "IGNORE")
        made = f"CREATE TABLE IF NOT EXISTS {name} ({', '.join(columns)}, PRIMARY KEY ({self._key})) WITHOUT ROWID"
        try:
            connection.execute(made)
        except sqlite3.DatabaseError as error:
            raise StoreCorrupt("the file is damaged") from error

    def put(self, rows: Iterable[Sequence[Value]]) -> None:
        """Insert rows, in place of those with the same keys."""
        self._connection.executemany(self._put, rows)

    def add(self, row: Sequence[Value]) -> bool:
        """Insert a row unless one with its keys is there; return whether it was inserted."""
        return self._connection.execute(self._add, row).rowcount == 1

    def drop(self, keys: Iterable[Sequence[Value]]) -> None:
        """Delete the rows with these keys."""
        marks = ", ".join("?" * self._keys)
        self._connection.executemany(f"DELETE FROM {self._name} WHERE ({self._key}) = ({marks})", keys)  # noqa: S608

    def get(self, *key: Value) -> Values | None:
        """Return the row with these keys, or None."""
        found: Values | None = self._connection.execute(self._get, key).fetchone()
        return found

    def of(self, keys: Iterable[Sequence[Value]]) -> list[Values]:
        """Return the rows whose first columns are one of ``keys``, all of one length, in order."""
        wanted = sorted(set(map(tuple, keys)))
        found: list[Any] = []
        for start in range(0, len(wanted), _MAX_KEYS):
            part = wanted[start : start + _MAX_KEYS]
            width = len(part[0])
            left = ", ".join(f"c{n}" for n in range(width))
            places = ", ".join([f"({', '.join('?' * width)})"] * len(part))
            query = f"SELECT * FROM {self._name} WHERE ({left}) IN (VALUES {places}) ORDER BY {self._key}"  # noqa: S608
            found += self._connection.execute(query, [value for key in part for value in key]).fetchall()
        return found

    def page(self, after: Sequence[Value] | None, limit: int) -> list[Values]:
        """Return up to ``limit`` rows behind a key, in order."""
        where, values = self._behind(after)
        query = f"SELECT * FROM {self._name}{where} ORDER BY {self._key} LIMIT {limit}"  # noqa: S608
        return self._connection.execute(query, values).fetchall()

    def firsts(self, after: Value | None, limit: int) -> list[Any]:
        """Return up to ``limit`` different values of the first column behind ``after``, in order."""
        where = "" if after is None else " WHERE c0 > ?"
        query = f"SELECT DISTINCT c0 FROM {self._name}{where} ORDER BY c0 LIMIT {limit}"  # noqa: S608
        return [row[0] for row in self._connection.execute(query, [] if after is None else [after])]

    def __len__(self) -> int:
        query = f"SELECT COUNT(*) FROM {self._name}"  # noqa: S608
        return int(self._connection.execute(query).fetchone()[0])

    def _behind(self, after: Sequence[Value] | None) -> tuple[str, list[Value]]:
        if after is None:
            return "", []
        left = ", ".join(f"c{n}" for n in range(len(after)))
        return f" WHERE ({left}) > ({', '.join('?' * len(after))})", list(after)
