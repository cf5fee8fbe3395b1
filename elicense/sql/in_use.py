"""Whether anybody else works with a database: a process of any release, on any machine.

A lock of our own would only be heeded by releases that know it.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from sqlalchemy.exc import DBAPIError

from elicense.errors import Refused, StoreUnavailable
from elicense.sql.faults import sqlstate_of
from elicense.sql.schema_version import VERSION_TABLE, transaction

if TYPE_CHECKING:
    from sqlalchemy import Connection

LEAVE_S: Final = 5.0
"""How long whoever was just stopped may take to be gone: PostgreSQL ends a session after its client has left."""

_LOOK_S: Final = 0.1

# Sessions of other roles watch or copy; a node has the role that its URL names.
_SESSIONS: Final = (
    "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND usename = current_user "
    "AND backend_type = 'client backend' AND pid <> pg_backend_pid()"
)

# Every start reads it first.
_LOCK: Final = f"LOCK TABLE {VERSION_TABLE} IN ACCESS EXCLUSIVE MODE NOWAIT"

_LOCK_NOT_AVAILABLE: Final = "55P03"


class DatabaseInUse(Refused):
    """Somebody else works with the database."""

    reason = "DATABASE_IN_USE"


def require_unused(url: str) -> None:
    """Refuse a database that another process has open.

    Raises:
        DatabaseInUse: A node runs on it, or a command does.
        StoreUnavailable: It can not be reached.
        StoreCorrupt: The file is damaged.
    """
    with sole_transaction(url):
        pass


@contextmanager
def sole_transaction(url: str) -> Iterator[Connection]:
    """Yield a connection in a transaction for as long as which nobody else begins to work with a database.

    A process that starts on it meanwhile, of whatever release, waits, and then finds what was
    committed, or that the database can not be used now.

    Args:
        url: As for :class:`~elicense.sql.database.Database`; one that has a schema.

    Raises:
        DatabaseInUse: A node runs on it, or a command does.
        StoreUnavailable: It can not be reached.
        StoreFull: There is no room.
        StoreCorrupt: The file is damaged.
    """
    try:
        with transaction(url, alone_wait_s=LEAVE_S) as connection:
            if connection.dialect.name != "sqlite":
                _keep_others_out(connection)
            yield connection
    except StoreUnavailable as error:
        if not str(error.metadata.get("code", "")).startswith("SQLITE_BUSY"):
            raise
        raise DatabaseInUse(
            "another process has this database open: a node runs on it, or a command works with it; "
            "stop the node, end the command, then repeat this"
        ) from error


def _keep_others_out(connection: Connection) -> None:
    until = time.monotonic() + LEAVE_S
    while (used := _try_to_keep_others_out(connection)) is not None:
        if time.monotonic() >= until:
            raise DatabaseInUse(used)
        time.sleep(_LOOK_S)


def _try_to_keep_others_out(connection: Connection) -> str | None:
    """Lock the table that every start reads, unless somebody is there; return who is, None once it is locked.

    It never waits for the lock: whoever starts meanwhile would wait behind it.
    """
    if used := _others(connection):
        return used
    attempt = connection.begin_nested()
    try:
        connection.exec_driver_sql(_LOCK)
    except DBAPIError as error:
        attempt.rollback()
        if sqlstate_of(error) != _LOCK_NOT_AVAILABLE:
            raise
        return (
            "a session of another role reads or changes this database: pg_dump copies it, or somebody left a "
            "transaction open; wait for its end, then repeat this"
        )
    # One may have come before the lock, and read already which schema there is.
    used = _others(connection)
    if used is None:
        attempt.commit()
    else:
        attempt.rollback()
    return used


def _others(connection: Connection) -> str | None:
    # Within a transaction the view stays as it was first seen.
    connection.exec_driver_sql("SELECT pg_stat_clear_snapshot()")
    others = connection.exec_driver_sql(_SESSIONS).scalar_one()
    if not others:
        return None
    return (
        f"{others} other sessions of the same role are in this database: a node runs on it, or a command "
        "works with it; stop the node, end the command, then repeat this"
    )
