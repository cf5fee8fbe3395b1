"""One flipped bit in one column of one row, on a copy of an SQLite database, and whether the self-check finds it."""

from __future__ import annotations

import random
import sqlite3
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

from sqlalchemy import MetaData, Table

from elicense.log.check_run import Report
from elicense.sql.database import Database


@dataclass(frozen=True, slots=True)
class Flips:
    """Which columns of a side are flipped.

    Attributes:
        metadata: Its tables.
        unchecked: Columns in which a flipped bit may go unnoticed, and why that is borne.
        empty: Tables and columns in which a filled database has nothing, and why.
        only: Rows of a column that are flipped, as a condition, where not all are.
    """

    metadata: MetaData
    unchecked: Mapping[str, str]
    empty: Mapping[str, str]
    only: Mapping[str, str] = field(default_factory=dict)

    @property
    def columns(self) -> list[tuple[str, str]]:
        """Table and column of everything that is flipped."""
        left_out = self.unchecked.keys() | self.empty.keys()
        return [
            (table.name, column.name)
            for table in self.metadata.sorted_tables
            for column in table.columns
            if not {f"{table.name}.{column.name}", table.name} & left_out
        ]


@dataclass(frozen=True, slots=True)
class Filled:
    """A database with something in every table.

    Attributes:
        database: Its file.
        flips: What is flipped in it.
        check: The self-check of its side.
    """

    database: Path
    flips: Flips
    check: Callable[[Database], Report]

    def fsck(self, database: Path) -> Report:
        """Run the self-check over a copy."""
        opened = Database(f"sqlite:///{database}", readers=1, writers=1)
        try:
            return self.check(opened)
        finally:
            opened.close()

    def missed(self, copy: Path, table: str, column: str, chance: random.Random) -> dict[str, object] | None:
        """Flip one bit of a column in a copy; return the key of its row if the self-check does not find it."""
        copy_database(self.database, copy)
        only = self.flips.only.get(f"{table}.{column}", "1")
        where = flip(copy, self.flips.metadata.tables[table], column, chance, only=only)
        assert where is not None, f"{table}.{column} is empty"
        return None if self.fsck(copy).findings else where


def copy_database(source: Path, target: Path) -> None:
    """Copy a database with what its write-ahead log holds."""
    with closing(sqlite3.connect(source)) as old, closing(sqlite3.connect(target)) as new:
        old.backup(new)


def flip(
    database: Path, table: Table, column: str, chance: random.Random, *, only: str = "1"
) -> dict[str, object] | None:
    """Flip one bit of one value that is not null and return the key of its row; None when there is no such value.

    Only rows are taken for which the condition ``only`` holds.
    """
    keys = [key.name for key in table.primary_key.columns]
    names = ", ".join(f'"{name}"' for name in [*keys, column])
    with closing(sqlite3.connect(database)) as connection:
        rows = connection.execute(
            f'SELECT {names} FROM "{table.name}" WHERE "{column}" IS NOT NULL AND {only}'
        ).fetchall()
        rows = [row for row in rows if row[-1] not in ("", b"")]
        if not rows:
            return None
        row = chance.choice(rows)
        # A flip may give a key that is taken: that one shows itself by the constraint, so another bit is taken.
        for _ in range(100):
            where = " AND ".join(f'"{key}" = ?' for key in keys)
            statement = f'UPDATE "{table.name}" SET "{column}" = ? WHERE {where}'
            try:
                connection.execute(statement, [flipped(row[-1], chance), *row[:-1]])
            except sqlite3.IntegrityError:
                continue
            connection.commit()
            return dict(zip(keys, row, strict=False))
    raise AssertionError("every flip of this value was refused")


def flipped(value: object, chance: random.Random) -> object:
    """Return a value with one bit flipped."""
    if isinstance(value, int):
        return value ^ 1 << chance.randrange(max(16, value.bit_length()))
    if isinstance(value, str):
        # A bit that leaves ASCII ASCII, so that the text can still be read.
        at = chance.randrange(len(value))
        return value[:at] + chr(ord(value[at]) ^ 1 << chance.randrange(3)) + value[at + 1 :]
    assert isinstance(value, bytes)
    at = chance.randrange(len(value))
    return value[:at] + bytes([value[at] ^ 1 << chance.randrange(8)]) + value[at + 1 :]
