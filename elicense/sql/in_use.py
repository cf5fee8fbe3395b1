"""Whether anybody else works with a database: a process of any release, on any machine.

A lock of our own would only be heeded by releases that know it.
"""

from __future__ import annotations

import sqlite3
import time
from contextlib import closing
from pathlib import Path
from typing import Final

from elicense.errors import Refused, StoreCorrupt, StoreUnavailable
from elicense.sql.engines import parse_url
from elicense.sql.schema_version import transaction

LEAVE_S: Final = 5.0
"""How long whoever was just stopped may take to be gone: PostgreSQL ends a session after its client has left."""

_LOOK_S: Final = 0.1

# Sessions of other roles watch or copy; a node has the role that its URL names.
_SESSIONS: Final = (
    "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND usename = current_user "
    "AND backend_type = 'client backend' AND pid <> pg_backend_pid()"
)


class DatabaseInUse(Refused):
    """Somebody else works with the database."""

    reason = "DATABASE_IN_USE"


def require_unused(url: str, *, wait_s: float = LEAVE_S) -> None:
    """Refuse a database that another process has open.

    Args:
        url: As for :class:`~elicense.sql.database.Database`.
        wait_s: Seconds to wait for others to leave.

    Raises:
        DatabaseInUse: A node runs on it, or a command does.
        StoreUnavailable: It can not be reached.
        StoreCorrupt: The file is damaged.
    """
    parsed = parse_url(url)
    if parsed.get_backend_name() == "sqlite":
        _require_file_unused(Path(parsed.database or ""), wait_s)
        return
    until = time.monotonic() + wait_s
    with transaction(url) as connection:
        while (others := connection.exec_driver_sql(_SESSIONS).scalar_one()) > 0:
            if time.monotonic() >= until:
                raise DatabaseInUse(
                    f"{others} other sessions of the same role are in this database: a node runs on it, or a command "
                    "works with it; stop the node, end the command, then repeat this"
                )
            time.sleep(_LOOK_S)
            # Within a transaction the view stays as it was first seen.
            connection.exec_driver_sql("SELECT pg_stat_clear_snapshot()")


def _require_file_unused(path: Path, wait_s: float) -> None:
    try:
        with closing(
            sqlite3.connect(f"{path.absolute().as_uri()}?mode=rw", uri=True, isolation_level=None, timeout=wait_s)
        ) as connection:
            # Whoever has the file open in its write-ahead mode shares a lock on it for as long.
            connection.execute("PRAGMA locking_mode = EXCLUSIVE").close()
            connection.execute("BEGIN EXCLUSIVE").close()
            connection.execute("ROLLBACK").close()
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY:
            raise DatabaseInUse(
                "another process has this database open: a node runs on it, or a command works with it; "
                "stop the node, end the command, then repeat this"
            ) from error
        raise StoreUnavailable("the database can not be opened now") from error
    except sqlite3.DatabaseError as error:
        raise StoreCorrupt("the database is damaged; restore it from a backup") from error
