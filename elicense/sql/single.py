"""Single queries on connections that are kept: no transaction around them, nothing between driver and caller.

A look-up by key takes the database some microseconds; taking a connection from a
pool, a transaction and its end would cost many times that.  A single statement is
a snapshot by itself, so it needs none of them.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, NamedTuple

from sqlalchemy import exc

from elicense.sql.direct import ask_for_binary

if TYPE_CHECKING:
    from sqlalchemy import Engine, PoolProxiedConnection


class Query(NamedTuple):
    """One SELECT in the words of its driver.

    Attributes:
        statement: Text with the driver's marks.
        parameters: Their values.
    """

    statement: str
    parameters: tuple[Any, ...]


class SingleQueries:
    """Runs queries, each thread on a connection of its own.

    Args:
        engine: Where connections come from; one that only reads.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._of_thread = threading.local()
        self._kept: list[PoolProxiedConnection] = []

    def run(self, query: Query) -> list[Any] | None:
        """Return the rows; None when the query failed, whatever the reason, and the connection is given up."""
        driver_error: type[Exception] = self._engine.dialect.loaded_dbapi.Error
        try:
            connection = self._connection()
            cursor = connection.cursor()
            try:
                ask_for_binary(cursor, self._engine.dialect.name)
                cursor.execute(*query)
                return list(cursor.fetchall())
            finally:
                cursor.close()
        except (driver_error, exc.SQLAlchemyError):
            self._give_up()
            return None

    def close(self) -> None:
        """Close every connection; no thread may run a query any more."""
        while self._kept:
            self._kept.pop().invalidate()

    def _connection(self) -> PoolProxiedConnection:
        kept: PoolProxiedConnection | None = getattr(self._of_thread, "connection", None)
        if kept is None:
            kept = self._engine.raw_connection()
            self._kept.append(kept)
            self._of_thread.connection = kept
            if self._engine.dialect.name != "sqlite":
                # SQLite is in this mode anyway: transactions there are said by us.
                kept.driver_connection.autocommit = True  # type: ignore[union-attr]  # psycopg's
        return kept

    def _give_up(self) -> None:
        kept: PoolProxiedConnection | None = getattr(self._of_thread, "connection", None)
        if kept is not None:
            self._of_thread.connection = None
            self._kept.remove(kept)
            kept.invalidate()
