"""What a store takes to make one small row durable, with nothing around it: the reference of measurements."""

from __future__ import annotations

import secrets
from contextlib import closing
from pathlib import Path
from typing import Final

from elicense.sql.engines import open_engine, parse_url, sqlite_url

_ROW_BYTES: Final = 512
"""About as large as a record."""


def flush_rows(path: Path, count: int) -> None:
    """Commit that many rows, one after the other, each flushed to the disk, with the settings of every store.

    Args:
        path: An SQLite file, which is made when it is missing.
        count: Rows, and so commits.
    """
    engine = open_engine(parse_url(sqlite_url(path)), connections=1, create=True)
    try:
        with closing(engine.raw_connection()) as connection, closing(connection.cursor()) as cursor:
            cursor.execute("CREATE TABLE IF NOT EXISTS flushed (id INTEGER PRIMARY KEY, body BLOB NOT NULL)")
            for _ in range(count):
                # No BEGIN: a statement of its own is a transaction of its own.
                cursor.execute("INSERT INTO flushed (body) VALUES (?)", (secrets.token_bytes(_ROW_BYTES),))
    finally:
        engine.dispose()
