"""How connections are opened: the settings that durability and snapshots rest on."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any, Final

from sqlalchemy import URL, Connection, Engine, QueuePool, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError

from elicense.errors import Malformed, StoreUnavailable
from elicense.sql import direct
from elicense.sql.arrays import send_arrays

LOCK_WAIT_S: Final = 10
"""How long a statement waits for a lock of another process."""

POOL_WAIT_S: Final = 10
"""How long a caller waits for a free connection."""

_EXTRA_CONNECTIONS: Final = 4  # for callers on threads of their own (commands, checks)
_STATEMENT_CACHE: Final = 512

_SQLITE_PRAGMAS: Final = (
    "PRAGMA journal_mode = WAL",
    # FULL syncs the write-ahead log on every commit; NORMAL would lose acknowledged commits in a power cut.
    "PRAGMA synchronous = FULL",
    # Apple's fsync does not reach the platter; without effect elsewhere.
    "PRAGMA fullfsync = ON",
    "PRAGMA checkpoint_fullfsync = ON",
    "PRAGMA foreign_keys = OFF",
    # What is deleted is overwritten: an erased record must not stay readable in the file.
    "PRAGMA secure_delete = ON",
    "PRAGMA temp_store = MEMORY",
    # A batch of replication dirties some thousand pages: at the default of 1,000 each commit would be followed by
    # a checkpoint of its own, at the writer's expense.  The log may grow to 16 MiB instead.
    "PRAGMA wal_autocheckpoint = 4000",
)

_READER_CACHE_KIB: Final = 16_384
_WRITER_CACHE_KIB: Final = 32_768
"""A batch dirties more pages than a reader's cache has, and what does not fit is written twice."""

_POSTGRES_SETTINGS: Final = (
    # Rows are found by keys alone, however many there are.  Of two thousand keys and a table of some hundred thousand
    # rows PostgreSQL would rather read the whole table, for every batch again.  Where no index serves it still does.
    "enable_seqscan = off",
    "enable_hashjoin = off",
    "enable_mergejoin = off",
    # Up to version 17 a plan of a kind that is off has a cost beyond every threshold for compiling it.
    "jit = off",
)

_DURABILITY: Final = "SELECT current_setting('fsync'), current_setting('synchronous_commit')"


def parse_url(url: str) -> URL:
    """Read a database URL: ``sqlite:////absolute/path`` or ``postgresql+psycopg://...``.

    Raises:
        Malformed: It is neither, or names an in-memory database.
    """
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):
        # The text may hold a password, so neither it nor the cause is repeated.
        raise Malformed("the database URL can not be read; write sqlite:////path or postgresql+psycopg://") from None
    if parsed.drivername in ("sqlite", "sqlite+pysqlite"):
        if not parsed.database or parsed.database == ":memory:":
            raise Malformed("an in-memory database keeps nothing; write sqlite:////path/to/file")
        return parsed
    if parsed.drivername == "postgresql+psycopg":
        return parsed
    raise Malformed("the database URL must start with sqlite:/// or postgresql+psycopg://")


def sqlite_url(path: Path) -> str:
    """Return the URL of an SQLite file, whatever characters its path has."""
    return URL.create("sqlite", database=str(path.absolute())).render_as_string()


def open_engine(
    url: URL, *, connections: int, read_only: bool = False, create: bool = False, alone_wait_s: float | None = None
) -> Engine:
    """Make an engine; nothing connects yet.

    Args:
        url: From :func:`parse_url`.
        connections: How many are kept open.
        read_only: Every transaction is one snapshot and can not write.
        create: Make a missing SQLite file; otherwise a missing file is an error, so
            that a wrong path is never mistaken for a new, empty log.
        alone_wait_s: Keep everybody else out of an SQLite file while a connection is open, and wait
            so many seconds for them to leave; None to share it.  Without effect on PostgreSQL.
    """
    if url.get_backend_name() == "sqlite":
        return _open_sqlite(url, connections=connections, read_only=read_only, create=create, alone_wait_s=alone_wait_s)
    return _open_postgres(url, connections=connections, read_only=read_only)


def _open_sqlite(url: URL, *, connections: int, read_only: bool, create: bool, alone_wait_s: float | None) -> Engine:
    mode = "rwc" if create else "rw"
    location = f"{Path(url.database or '').absolute().as_uri()}?mode={mode}"

    def connect() -> sqlite3.Connection:
        connection = sqlite3.connect(
            location,
            uri=True,
            # Begin and commit are said by us: the driver's own BEGIN is deferred and comes too late for a lock.
            isolation_level=None,
            timeout=LOCK_WAIT_S if alone_wait_s is None else alone_wait_s,
            check_same_thread=False,
            cached_statements=_STATEMENT_CACHE,
        )
        try:
            if alone_wait_s is not None:
                # Before the write-ahead log is touched: whoever has the file open in that mode shares a lock on it.
                connection.execute("PRAGMA locking_mode = EXCLUSIVE").close()
            for pragma in _SQLITE_PRAGMAS:
                connection.execute(pragma).close()
            cache_kib = _READER_CACHE_KIB if read_only else _WRITER_CACHE_KIB
            connection.execute(f"PRAGMA cache_size = -{cache_kib}").close()
            if read_only:
                connection.execute("PRAGMA query_only = ON").close()
        except sqlite3.Error:
            connection.close()
            raise
        return connection

    engine = create_engine("sqlite://", creator=connect, poolclass=QueuePool, **_pool(connections))
    # A deferred transaction that turns to writing fails at once when another has written; IMMEDIATE waits in turn.
    begin = "BEGIN" if read_only else "BEGIN IMMEDIATE"

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        direct.begin(connection, begin)

    return engine


def _open_postgres(url: URL, *, connections: int, read_only: bool) -> Engine:
    engine = create_engine(
        url,
        isolation_level="REPEATABLE READ" if read_only else "READ COMMITTED",
        connect_args={
            "connect_timeout": 5,
            # What is sent as text is in UTF-8, whatever the database or the environment would have.
            "client_encoding": "utf8",
            # A dead peer must become an error, not a wait without end.
            "keepalives_idle": 10,
            "keepalives_interval": 5,
            "keepalives_count": 3,
            "tcp_user_timeout": 15_000,
        },
        **_pool(connections),
    )

    @event.listens_for(engine, "connect")
    def _check(connection: Any, _record: object) -> None:
        send_arrays(connection)
        connection.autocommit = True
        fsync, synchronous = connection.execute(_DURABILITY).fetchone()
        if fsync != "on":
            raise StoreUnavailable("the PostgreSQL server runs with fsync off; set fsync = on in its configuration")
        if synchronous in ("off", "local"):
            connection.execute("SET synchronous_commit = on")
        connection.execute(f"SET lock_timeout = '{LOCK_WAIT_S}s'")
        for setting in _POSTGRES_SETTINGS:
            connection.execute(f"SET {setting}")
        if not read_only:
            # A plan that was kept from when a table was nearly empty would be another one than it needs now.
            connection.execute("SET plan_cache_mode = force_custom_plan")
        connection.autocommit = False
        connection.read_only = read_only

    return engine


def _pool(connections: int) -> dict[str, Any]:
    return {
        "pool_size": connections,
        "max_overflow": _EXTRA_CONNECTIONS,
        "pool_timeout": POOL_WAIT_S,
        # Parameters may be personal data and must not reach an error message.
        "hide_parameters": True,
    }
