"""What the backup verbs of both sides share."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from elicense.errors import Error, StoreCorrupt
from elicense.log.store import LogStore
from elicense.sql.backup import backup
from elicense.sql.database import Database
from elicense.sql.engines import sqlite_url


def back_up(url: str, out: Path, logs: LogStore | None) -> int:
    """Back up a store into ``out``, check the heads of the logs in the copy, and return how many entries it holds.

    Args:
        url: The store.
        out: The new file.
        logs: Its tables of logs; None for a store without.

    Raises:
        Error: See :func:`elicense.sql.backup.backup`; or a head in the copy contradicts itself.
    """
    backup(url, out, progress=_show)
    return 0 if logs is None else _entries(out, logs)


def _entries(out: Path, logs: LogStore) -> int:
    database = Database(sqlite_url(out), readers=1, writers=1)
    try:
        return database.read_now(lambda conn: sum(head.size for head in logs.heads(conn)))
    except Error as error:
        raise StoreCorrupt(f"the backup can not be used: {error.message}") from error
    finally:
        database.close()


def _show(done: int, of: int) -> None:
    if sys.stderr.isatty():
        click.echo(f"\r{done:,} of {of:,} pages", nl=done == of, err=True)
