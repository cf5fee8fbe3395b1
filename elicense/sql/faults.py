"""What a database error means, told by its code and never by its text."""

from __future__ import annotations

import sqlite3
from typing import Final

from sqlalchemy import exc

from elicense.errors import Error, StoreCorrupt, StoreFull, StoreUnavailable


class CommitUnknown(StoreUnavailable):
    """The connection was lost while a COMMIT was under way: it may or may not have happened."""


RETRIED_SQLSTATES: Final = frozenset({"40001", "40P01", "23505"})
"""Serialization failure, deadlock, and a key that another transaction has just taken, which the next try sees.

The transaction is rolled back for certain and may simply run again (PostgreSQL manual, 13.5).
"""

_SQLITE_FAULTS: Final[dict[int, type[Error]]] = {
    sqlite3.SQLITE_FULL: StoreFull,
    sqlite3.SQLITE_IOERR: StoreCorrupt,
    sqlite3.SQLITE_CORRUPT: StoreCorrupt,
    sqlite3.SQLITE_NOTADB: StoreCorrupt,
    sqlite3.SQLITE_BUSY: StoreUnavailable,
    sqlite3.SQLITE_LOCKED: StoreUnavailable,
    sqlite3.SQLITE_CANTOPEN: StoreUnavailable,
    sqlite3.SQLITE_READONLY: StoreUnavailable,
    sqlite3.SQLITE_PERM: StoreUnavailable,
    sqlite3.SQLITE_NOMEM: StoreUnavailable,
    sqlite3.SQLITE_PROTOCOL: StoreUnavailable,
    sqlite3.SQLITE_INTERRUPT: StoreUnavailable,
}

# The longest prefix decides (PostgreSQL manual, appendix A).
_POSTGRES_FAULTS: Final[dict[str, type[Error]]] = {
    "08": StoreUnavailable,
    "25006": StoreUnavailable,
    "28": StoreUnavailable,
    "3D000": StoreUnavailable,
    "40001": StoreUnavailable,
    "40P01": StoreUnavailable,
    "40003": StoreUnavailable,
    "53": StoreUnavailable,
    "53100": StoreFull,
    "55P03": StoreUnavailable,
    "57": StoreUnavailable,
    "58": StoreUnavailable,
    "58030": StoreCorrupt,
    "XX001": StoreCorrupt,
    "XX002": StoreCorrupt,
}

_MESSAGES: Final[dict[type[Error], str]] = {
    StoreFull: "the database is full; free some space, then repeat the request",
    StoreCorrupt: "the database reported an I/O error or damaged data; check the disk and verify the log first",
    StoreUnavailable: "the database can not be used now; repeat the request later",
}


def sqlstate_of(error: exc.DBAPIError) -> str | None:
    """Return the SQLSTATE of a PostgreSQL error, or None."""
    return getattr(error.orig, "sqlstate", None)


def retried(error: exc.DBAPIError) -> bool:
    """Tell whether the whole transaction may run again: it was certainly rolled back, by no fault of its own."""
    return error.connection_invalidated or sqlstate_of(error) in RETRIED_SQLSTATES


def fault_of(error: exc.SQLAlchemyError) -> Error | None:
    """Return the project's error for a database error, or None when it is a fault of our own statements.

    The database's message is left out: it may quote values.
    """
    kind = _kind(error)
    if kind is None:
        return None
    detail = _code(error)
    return kind(_MESSAGES[kind], code=detail) if detail else kind(_MESSAGES[kind])


def _kind(error: exc.SQLAlchemyError) -> type[Error] | None:
    if isinstance(error, exc.TimeoutError):
        return StoreUnavailable
    if not isinstance(error, exc.DBAPIError):
        return None
    if isinstance(error.orig, sqlite3.Error):
        # Extended result codes keep the primary code in their low byte.
        return _SQLITE_FAULTS.get(getattr(error.orig, "sqlite_errorcode", 0) & 0xFF)
    sqlstate = sqlstate_of(error)
    if sqlstate is None:
        # Only a connection that failed or was lost has no SQLSTATE; everything else is a fault of ours.
        return StoreUnavailable if isinstance(error, exc.OperationalError) or error.connection_invalidated else None
    for length in (5, 2):
        if found := _POSTGRES_FAULTS.get(sqlstate[:length]):
            return found
    return None


def _code(error: exc.SQLAlchemyError) -> str:
    if not isinstance(error, exc.DBAPIError):
        return ""
    return str(sqlstate_of(error) or getattr(error.orig, "sqlite_errorname", ""))
