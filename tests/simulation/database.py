"""Databases of nodes: the real ones, whose COMMIT may go unheard, on connections that cost less.

A seed is thousands of small statements, and most of its time would go into what
SQLAlchemy does around each.  So a statement is compiled by SQLAlchemy as ever, and
then given to the driver at once, which takes and gives integers, strings and bytes
as they are; so are the words that begin and end a transaction.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import Enum
from functools import cached_property
from typing import Any, Final, TypeVar
from weakref import WeakKeyDictionary

from sqlalchemy import Connection, Engine, LargeBinary
from sqlalchemy.engine.result import IteratorResult, SimpleResultMetaData
from sqlalchemy.sql.compiler import SQLCompiler

from elicense.sql.database import CommitUnknown, Database
from elicense.sql.lanes import Lanes
from elicense.sql.single import Query, SingleQueries
from tests.simulation.loop import READING

T = TypeVar("T")

#: What is known of statements, so as to be found out once: whether they are plain, and the names of their columns.
_PLAIN: Final[WeakKeyDictionary[SQLCompiler, bool]] = WeakKeyDictionary()
_COLUMNS: Final[dict[str, SimpleResultMetaData]] = {}


class Fate(Enum):
    """What becomes of a COMMIT."""

    HEARD = "done, and heard"
    UNHEARD = "done, and not heard"
    UNDONE = "not done, and not heard"


class SimDatabase(Database):
    """A database whose connection is sometimes lost at COMMIT, as that to a server may be."""

    fate: Callable[[], Fate] = staticmethod(lambda: Fate.HEARD)

    def __init__(self, url: str) -> None:
        super().__init__(url, readers=1)
        self._idle: dict[Engine, Connection] = {}
        for engine in (self._reading, self._writing):
            engine._connection_cls = _QuickConnection

    def close(self) -> None:
        """Close every connection; the next transaction opens them again."""
        while self._idle:
            self._idle.popitem()[1].close()
        super().close()
        self._queries = SingleQueries(self._reading)

    def forget_work(self) -> None:
        """Drop what a node that crashed still had before it.

        Its connections serve the next node: each transaction runs whole, so that a crash leaves none open.
        """
        self._write_lanes = Lanes(self._write_threads)

    async def read(self, fn: Callable[[Connection], T]) -> T:
        """Run ``fn`` where the loop knows that nothing is changed."""
        return await asyncio.get_running_loop().run_in_executor(READING, self.read_now, fn)

    async def query(self, query: Query) -> list[Any]:
        """Run one query at once, as a database does whose disk is never slow."""
        return self.query_now(query)

    @contextmanager
    def _connection(self, engine: Engine) -> Iterator[Connection]:
        """Yield a connection, and keep it as each thread of a database does; there is one thread here."""
        connection = self._idle.pop(engine, None) or engine.connect()
        try:
            yield connection
        except BaseException:
            connection.close()
            raise
        if engine in self._idle:
            connection.close()
        else:
            self._idle[engine] = connection

    def _commit(self, connection: Connection) -> None:
        fate = self.fate()
        if fate is Fate.UNDONE:
            connection.rollback()
        else:
            super()._commit(connection)
        if fate is not Fate.HEARD:
            raise CommitUnknown("the database did not say whether it committed")


class _QuickResult(IteratorResult[Any]):
    """Rows, or how many were changed."""

    rowcount: int = -1


class _QuickConnection(Connection):
    """Leaves out what SQLAlchemy does around a statement for other drivers and types.

    Whatever is not as plain as that, and whatever fails, is left to SQLAlchemy.
    """

    _begun = False

    def begin(self) -> Any:
        """Begin a transaction, in the words of whoever listens for that."""
        self._begun = True
        self.dispatch.begin(self)

    def in_transaction(self) -> bool:
        """Whether one has begun."""
        return self._begun

    def commit(self) -> None:
        """Make it durable."""
        self._end(sqlite3.Connection.commit)

    def rollback(self) -> None:
        """Leave nothing of it."""
        self._end(sqlite3.Connection.rollback)

    def close(self) -> None:
        """Give the connection back to the pool, which rolls back what was not committed."""
        self._begun = False
        super().close()

    def _autobegin(self) -> None:
        if not self._begun:
            self.begin()

    def _end(self, how: Callable[[sqlite3.Connection], None]) -> None:
        if not self._begun:
            return
        try:
            how(self._driver)
        except sqlite3.Error as error:
            self._handle_dbapi_exception(error, None, None, None, None)
        self._begun = False

    @cached_property
    def _driver(self) -> Any:
        return self.connection.driver_connection

    def _execute_clauseelement(self, elem: Any, distilled_parameters: Any, execution_options: Any) -> Any:
        several = len(distilled_parameters) > 1
        compiled, extracted, collected, _ = elem._compile_w_cache(
            dialect=self.dialect,
            compiled_cache=self.engine._compiled_cache,
            column_keys=sorted(distilled_parameters[0]) if distilled_parameters else [],
            for_executemany=several,
        )
        plain = _PLAIN.get(compiled)
        if plain is None:
            plain = _PLAIN[compiled] = _is_plain(compiled)
        if not plain or (several and compiled.post_compile_params):
            return super()._execute_clauseelement(elem, distilled_parameters, execution_options)
        named = [
            compiled.construct_params(
                given, escape_names=False, extracted_parameters=extracted, _collected_params=collected
            )
            for given in distilled_parameters or (None,)
        ]
        text, order = compiled.string, compiled.positiontup
        if compiled.post_compile_params:
            expanded = compiled._process_parameters_for_postcompile(named[0])
            text, order = expanded.statement, expanded.positiontup
        values = [tuple([each[name] for name in order]) for each in named]
        result = self._told_at_once(text, values if several else values[0])
        return result or super()._execute_clauseelement(elem, distilled_parameters, execution_options)

    def exec_driver_sql(self, statement: str, parameters: Any = None, execution_options: Any = None) -> Any:
        """Run a statement in the driver's words."""
        result = self._told_at_once(statement, parameters or ())
        return result or super().exec_driver_sql(statement, parameters, execution_options)

    def _told_at_once(self, statement: str, values: Any) -> _QuickResult | None:
        driver = self._driver
        try:
            cursor = (driver.executemany if type(values) is list else driver.execute)(statement, values)
            rows = cursor.fetchall() if cursor.description else []
        except sqlite3.Error:
            return None
        columns = _COLUMNS.get(statement)
        if columns is None:
            columns = _COLUMNS[statement] = SimpleResultMetaData([column[0] for column in cursor.description or ()])
        result = _QuickResult(columns, iter(rows))
        result.rowcount = cursor.rowcount
        return result


def _is_plain(compiled: SQLCompiler) -> bool:
    """Whether nothing has to be done to the values of a statement, nor to those of its rows."""
    types = {name: bind.type for bind, name in compiled.bind_names.items()}
    # Bytes would be wrapped, which changes nothing; of several values in one the parts are bytes at most.
    changed = [name for name, how in compiled._bind_processors.items() if not isinstance(how, tuple)]
    return not (
        compiled.insert_prefetch
        or compiled.update_prefetch
        or compiled.literal_execute_params
        or any(not isinstance(types[name], LargeBinary) for name in changed)
        or any(column.type._cached_result_processor(compiled.dialect, None) for column in compiled._result_columns)
    )
