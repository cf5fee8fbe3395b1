"""Where quota leases are: never behind a write that has nothing to do with them.

A lease is taken before an answer, so it must not wait for a batch that is being
folded.  SQLite has one writer a file: leases have a file of their own there, which
all processes of the node share.  On PostgreSQL they stand in the node's database
and have a connection of their own.
"""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import MetaData

from elicense.quota.store import define_quota_table
from elicense.sql.database import Database
from elicense.sql.engines import parse_url, sqlite_url
from elicense.sql.schema import create_tables


def open_quota_database(url: str) -> Database:
    """Open the leases of the node whose database is at ``url``; a file that is missing is made.

    Leases are good for a day: a file that is lost gives every verifier its looks of that day again.

    Raises:
        StoreUnavailable: The file can not be made.
    """
    parsed = parse_url(url)
    if parsed.get_backend_name() == "sqlite":
        main = Path(parsed.database or "")
        url = sqlite_url(main.with_name(f"{main.stem}-quotas{main.suffix}"))
        metadata = MetaData()
        define_quota_table(metadata)
        create_tables(url, metadata)
    return Database(url, readers=1, writers=1)
