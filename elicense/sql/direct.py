"""Statements on the driver's own cursor, for what runs with every commit and every look-up.

SQLAlchemy puts a statement together, and wraps what comes back, at some six times
what SQLite takes to answer it.  For a statement that never changes all of that can
be done once.  Transactions, connections and errors stay SQLAlchemy's: a failed
statement raises what it would have raised there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple, NoReturn, TypeVar

from psycopg.pq import Format
from sqlalchemy import BigInteger, Boolean, Integer, LargeBinary, SmallInteger, String, exc

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from sqlalchemy import Connection
    from sqlalchemy.engine.interfaces import DBAPICursor
    from sqlalchemy.sql.compiler import SQLCompiler
    from sqlalchemy.sql.expression import Executable
    from sqlalchemy.types import TypeEngine

_T = TypeVar("_T")

#: Types whose values both drivers take and give as Python has them.
_PLAIN: Final = (BigInteger, Integer, LargeBinary, SmallInteger, String)


class _Text(NamedTuple):
    """A statement in the words of one driver."""

    text: str
    order: Sequence[str] | None
    """Names of the parameters in the order of their marks; None where they are given by name."""
    fixed: Mapping[str, Any]
    """Values that the statement brings along."""

    def values(self, given: Mapping[str, Any]) -> Sequence[Any] | Mapping[str, Any]:
        known = {**self.fixed, **given} if self.fixed else given
        return known if self.order is None else [known[name] for name in self.order]


class FixedStatement:
    """A SELECT, UPDATE or DELETE that never changes, put into the driver's words once.

    Its columns and parameters must be integers, bytes or text: nothing is converted on the way.

    Args:
        statement: The statement; what varies are its named parameters, given on each call.
    """

    def __init__(self, statement: Executable) -> None:
        self._statement = statement
        self._texts: dict[str, _Text] = {}

    def all(self, conn: Connection, values: Mapping[str, Any] | None = None) -> list[tuple[Any, ...]]:
        """Return every row that it selects.

        Raises:
            DBAPIError: As :meth:`sqlalchemy.Connection.execute`.
        """
        text = self._text(conn)
        return query(conn, text.text, text.values(values or {}))

    def first(self, conn: Connection, values: Mapping[str, Any] | None = None) -> tuple[Any, ...] | None:
        """Return the first row that it selects, or None; meant for those that select one at most.

        Raises:
            DBAPIError: As :meth:`sqlalchemy.Connection.execute`.
        """
        rows = self.all(conn, values)
        return rows[0] if rows else None

    def scalar(self, conn: Connection, values: Mapping[str, Any] | None = None) -> Any:
        """Return the first value of the first row that it selects, or None.

        Raises:
            DBAPIError: As :meth:`sqlalchemy.Connection.execute`.
        """
        row = self.first(conn, values)
        return None if row is None else row[0]

    def run(self, conn: Connection, values: Mapping[str, Any]) -> int:
        """Write, and return how many rows that changed.

        Raises:
            DBAPIError: As :meth:`sqlalchemy.Connection.execute`.
        """
        text = self._text(conn)
        return change(conn, text.text, text.values(values))

    def _text(self, conn: Connection) -> _Text:
        found = self._texts.get(conn.dialect.name)
        if found is None:
            found = self._texts[conn.dialect.name] = _compile(self._statement, conn)
        return found


def query(conn: Connection, text: str, values: Sequence[Any] | Mapping[str, Any]) -> list[tuple[Any, ...]]:
    """Return every row of a SELECT.

    Args:
        conn: The transaction.
        text: The statement in the driver's words.
        values: Its parameters.

    Raises:
        DBAPIError: As :meth:`sqlalchemy.Connection.execute`.
    """

    def fetched(cursor: DBAPICursor) -> list[tuple[Any, ...]]:
        ask_for_binary(cursor, conn.dialect.name)
        cursor.execute(text, values)
        return cursor.fetchall()  # type: ignore[return-value]  # both drivers give a list of tuples

    return _on_cursor(conn, text, fetched)


def ask_for_binary(cursor: Any, dialect: str) -> None:
    """Have PostgreSQL answer with bytes as they are: as text each is two digits, to be written and read again.

    Args:
        cursor: The driver's.
        dialect: Name of the dialect.
    """
    if dialect != "sqlite":
        cursor.format = Format.BINARY


def change(conn: Connection, text: str, values: Sequence[Any] | Mapping[str, Any]) -> int:
    """Run an INSERT, UPDATE or DELETE and return how many rows that changed.

    Raises:
        DBAPIError: As :meth:`sqlalchemy.Connection.execute`.
    """

    def changed(cursor: DBAPICursor) -> int:
        cursor.execute(text, values)
        return cursor.rowcount

    return _on_cursor(conn, text, changed)


def change_each(conn: Connection, text: str, rows: Sequence[Sequence[Any]]) -> int:
    """Run an INSERT, UPDATE or DELETE once for each of these parameters and return how many rows that changed.

    Raises:
        DBAPIError: As :meth:`sqlalchemy.Connection.execute`.
    """

    def changed(cursor: DBAPICursor) -> int:
        cursor.executemany(text, rows)
        return cursor.rowcount

    return _on_cursor(conn, text, changed)


def begin(conn: Connection, text: str) -> None:
    """Begin a transaction in the driver; for who is told that SQLAlchemy begins one.

    Args:
        conn: Has begun none yet.
        text: What begins it.

    Raises:
        DBAPIError: As :meth:`sqlalchemy.Connection.execute`.
    """
    _on_cursor(conn, text, lambda cursor: cursor.execute(text), begun=True)


def _on_cursor(conn: Connection, text: str, use: Callable[[DBAPICursor], _T], *, begun: bool = False) -> _T:
    cursor = None
    try:
        if not (begun or conn.in_transaction()):
            # As SQLAlchemy does before a statement: without it each would be a transaction of its own.
            conn.begin()
        cursor = conn.connection.cursor()
        return use(cursor)
    except conn.dialect.loaded_dbapi.Error as error:
        _fail(conn, text, error)
    finally:
        if cursor is not None:
            cursor.close()


def _fail(conn: Connection, text: str, error: Exception) -> NoReturn:
    """Raise a driver's error as SQLAlchemy does; a connection that is lost is given up."""
    dialect = conn.dialect
    lost = dialect.is_disconnect(error, conn.connection, None)  # type: ignore[arg-type]  # no cursor is needed to tell
    raised = exc.DBAPIError.instance(
        text,
        None,
        error,
        dialect.loaded_dbapi.Error,
        hide_parameters=True,
        connection_invalidated=lost,
        dialect=dialect,
    )
    if lost:
        # As SQLAlchemy does: what ended one connection has ended those that wait in the pool, and a transaction
        # that took one of them after the other would run out of attempts.
        conn.engine.pool._invalidate(conn.connection, error)  # there is no other way to say so
        conn.invalidate(error)
    raise raised from error


def _compile(statement: Executable, conn: Connection) -> _Text:
    compiled: SQLCompiler = statement.compile(dialect=conn.dialect)  # type: ignore[attr-defined]  # all that is executable is
    for column in getattr(statement, "selected_columns", ()):
        _require_plain(column.type)
    for parameter in compiled.bind_names:
        _require_plain(parameter.type)
    fixed = {name: value for name, value in compiled.params.items() if value is not None}
    return _Text(compiled.string, compiled.positiontup, fixed)


def _require_plain(of: TypeEngine[Any]) -> None:
    if isinstance(of, Boolean) or not isinstance(of, _PLAIN):
        msg = f"a direct statement can not have a {type(of).__name__}"
        raise TypeError(msg)
