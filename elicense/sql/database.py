"""One database, its threads, and the two ways to use it: read a snapshot, write a transaction.

Statements run synchronously on a few threads of their own.  SQLite has one
writer thread, because it has one writer; PostgreSQL has several.  What is
passed in is a function over a connection: it may run again after a deadlock
or a lost connection, so it must have no effect outside the database.
"""

from __future__ import annotations

import asyncio
import random
import sqlite3
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast

from sqlalchemy import Connection, Engine, Table, exc
from sqlalchemy.dialects import postgresql, sqlite

from elicense.errors import StoreUnavailable
from elicense.sql.engines import open_engine, parse_url
from elicense.sql.faults import CommitUnknown, fault_of, retried, sqlstate_of
from elicense.sql.lanes import Lanes
from elicense.sql.single import Query, SingleQueries

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["CommitUnknown", "Database", "insert_for"]

T = TypeVar("T")
U = TypeVar("U")

MAX_ATTEMPTS: Final = 8
"""How often a transaction is tried before the caller hears of it."""

LONGEST_QUERY_S: Final = 0.05
"""A query that took longer waited for the disk: a whole batch, a thousand keys, takes a tenth of that."""

PATIENT_S: Final = 1.0
"""How long queries go to threads after that: the event loop waits for the disk once a second at most."""

_FIRST_PAUSE_S: Final = 0.002
_LONGEST_PAUSE_S: Final = 0.25


def insert_for(dialect: str, table: Table) -> postgresql.Insert:
    """Return the dialect's INSERT, which knows ``on_conflict_do_update`` and ``on_conflict_do_nothing``.

    Args:
        dialect: Name of the dialect, as ``connection.dialect.name`` gives it.
        table: Where to insert.
    """
    if dialect == "sqlite":
        # Both classes have the same methods; one type is enough for callers.
        return cast("postgresql.Insert", sqlite.insert(table))
    return postgresql.insert(table)


class Database:
    """A database by URL.

    Commits are durable when a write returns: SQLite runs with WAL and
    ``synchronous=FULL``, PostgreSQL with ``synchronous_commit=on``.

    Every method raises :class:`~elicense.errors.StoreUnavailable` when the database can not be used,
    :class:`CommitUnknown` when the connection was lost during COMMIT,
    :class:`~elicense.errors.StoreFull` when there is no room, and
    :class:`~elicense.errors.StoreCorrupt` on I/O errors and damaged data.

    Args:
        url: ``sqlite:////path`` (the file must exist) or ``postgresql+psycopg://...``.
        readers: Threads and connections for reading.
        writers: Threads and connections for writing; always one on SQLite.

    Raises:
        Malformed: The URL is not of these forms.
    """

    def __init__(self, url: str, *, readers: int = 2, writers: int = 4) -> None:
        parsed = parse_url(url)
        self.dialect: Final = parsed.get_backend_name()
        if self.dialect == "sqlite":
            writers = 1
        # Each reader thread may keep a connection for single queries beside the one of its snapshot.
        self._reading = open_engine(parsed, connections=2 * readers, read_only=True)
        self._queries = SingleQueries(self._reading)
        self._writing = open_engine(parsed, connections=writers)
        self._own = threading.local()
        self._kept: set[Connection] = set()
        self._read_threads = self._threads(readers, self._reading, "sql-read")
        self._write_threads = self._threads(writers, self._writing, "sql-write")
        self._write_lanes = Lanes(self._write_threads)
        self._patient_until = 0.0
        self._lost = False
        self._on_reconnect: list[Callable[[], None]] = []
        self._jitter = random.Random()  # noqa: S311  # spreads retries, hides nothing

    def on_reconnect(self, listener: Callable[[], None]) -> None:
        """Have ``listener`` called, on a thread of the database, whenever it is reached again after it was lost.

        What is reached may be another server, or the same one set back.
        """
        self._on_reconnect.append(listener)

    async def read(self, fn: Callable[[Connection], T]) -> T:
        """Run ``fn`` on a reader thread, in one snapshot, and return its result."""
        return await asyncio.get_running_loop().run_in_executor(self._read_threads, self.read_now, fn)

    async def query(self, query: Query) -> list[Any]:
        """Run one query, a snapshot of its own, and return its rows as tuples.

        For look-ups by key that must cost no more than the database makes of them; anything
        that asks twice needs :meth:`read`.  SQLite answers from memory in less time than it
        takes to hand the question to a thread, and no writer holds a reader up, so it is asked
        at once, on the calling thread; when it had to wait for the disk, a thread waits for it
        for the next while.
        """
        if self.dialect == "sqlite":
            began = time.monotonic()
            if began >= self._patient_until:
                rows = self._queries.run(query)
                ended = time.monotonic()
                if ended - began > LONGEST_QUERY_S:
                    self._patient_until = ended + PATIENT_S
                if rows is not None:
                    return rows
        return await asyncio.get_running_loop().run_in_executor(self._read_threads, self.query_now, query)

    async def write(self, fn: Callable[[Connection], T]) -> T:
        """Run ``fn`` on a writer thread in one transaction; it is committed and durable on return."""
        return await self._write_lanes.run(lambda: self.write_now(fn))

    async def write_then(self, fn: Callable[[Connection], T], then: Callable[[T], U], *, gives_way: bool = False) -> U:
        """Like :meth:`write`, and run ``then`` on the same thread once the result of ``fn`` is durable.

        What ``gives_way`` is begun only when no other write waits for a thread.
        """

        def both() -> U:
            return then(self.write_now(fn))

        return await self._write_lanes.run(both, gives_way=gives_way)

    def read_now(self, fn: Callable[[Connection], T]) -> T:
        """Like :meth:`read`, on the calling thread."""
        return self._retry(self._reading, fn, self._end_read)

    def query_now(self, query: Query) -> list[Any]:
        """Like :meth:`query`, on the calling thread."""
        rows = self._queries.run(query)
        if rows is None:
            # The kept connection is of no use any more, or the query is at fault: the long way tries again and says.
            return self.read_now(lambda conn: [tuple(row) for row in conn.exec_driver_sql(*query)])
        return rows

    def write_now(self, fn: Callable[[Connection], T]) -> T:
        """Like :meth:`write`, on the calling thread."""
        return self._retry(self._writing, fn, self._commit)

    def close(self) -> None:
        """Wait for what is running, then close every connection."""
        self._read_threads.shutdown()
        self._write_threads.shutdown()
        self._queries.close()
        # What its thread leaves behind may be collected only when the pool is gone, and then nobody closes it.
        while self._kept:
            self._kept.pop().close()
        self._reading.dispose()
        self._writing.dispose()

    def _threads(self, count: int, engine: Engine, name: str) -> ThreadPoolExecutor:
        def begin() -> None:
            self._own.engine = engine

        return ThreadPoolExecutor(count, thread_name_prefix=name, initializer=begin)

    @contextmanager
    def _connection(self, engine: Engine) -> Iterator[Connection]:
        """Yield a connection; a thread of the database keeps its own as long as nothing goes wrong on it.

        Taking one from the pool and giving it back would cost as much as a small transaction.
        """
        kept: Connection | None = getattr(self._own, "connection", None)
        connection = kept or engine.connect()
        self._own.connection = None
        try:
            yield connection
        except BaseException:
            self._kept.discard(connection)
            connection.close()
            raise
        if getattr(self._own, "engine", None) is engine:
            self._own.connection = connection
            self._kept.add(connection)
        else:
            connection.close()

    def _commit(self, connection: Connection) -> None:
        """Commit; tests of lost connections override this."""
        try:
            connection.commit()
        except exc.DBAPIError as error:
            if self.dialect != "sqlite" and _leaves_unknown(error):
                self._lost = True
                raise CommitUnknown("the database did not say whether it committed; ask again what it holds") from error
            raise

    def _end_read(self, connection: Connection) -> None:
        connection.rollback()

    def _retry(self, engine: Engine, fn: Callable[[Connection], T], end: Callable[[Connection], None]) -> T:
        pause = _FIRST_PAUSE_S
        for attempt in range(1, MAX_ATTEMPTS + 1):
            try:
                # No context manager for the transaction: how it ends is the caller's business.
                with self._connection(engine) as connection:
                    connection.begin()
                    result = fn(connection)
                    end(connection)
            except exc.SQLAlchemyError as error:
                self._lost = self._lost or _is_away(error)
                again = isinstance(error, exc.DBAPIError) and retried(error) and attempt < MAX_ATTEMPTS
                if not again:
                    fault = fault_of(error)
                    if fault is None:
                        raise
                    raise fault from error
            else:
                if self._lost:
                    self._lost = False
                    for listener in self._on_reconnect:
                        listener()
                return result
            time.sleep(pause * self._jitter.uniform(0.5, 1.0))
            pause = min(pause * 2, _LONGEST_PAUSE_S)
        raise StoreUnavailable("the database keeps refusing the transaction; repeat the request later")


def _is_away(error: exc.SQLAlchemyError) -> bool:
    """Whether the server could not be reached, or no longer: only then is there no SQLSTATE, or one of its ending."""
    if not isinstance(error, exc.DBAPIError) or isinstance(error.orig, sqlite3.Error):
        return False
    return error.connection_invalidated or sqlstate_of(error) is None or str(sqlstate_of(error)).startswith("57P")


def _leaves_unknown(error: exc.DBAPIError) -> bool:
    sqlstate = sqlstate_of(error)
    return error.connection_invalidated or sqlstate is None or sqlstate[:2] in ("08", "57") or sqlstate == "40003"
