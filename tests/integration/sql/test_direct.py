"""Statements on the driver's own cursor: the same rows, transactions and errors as by way of SQLAlchemy."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Connection,
    LargeBinary,
    MetaData,
    String,
    Table,
    bindparam,
    exc,
    select,
)

from elicense.sql.bulk import BulkInsert
from elicense.sql.database import MAX_ATTEMPTS, Database
from elicense.sql.direct import FixedStatement, begin
from tests.support.postgres import PostgresServer
from tests.support.stores import EmptyStore

metadata = MetaData()
THING = Table(
    "thing",
    metadata,
    Column("id", BigInteger, primary_key=True, autoincrement=False),
    Column("body", LargeBinary),
    Column("name", String(20), nullable=False),
    info={"dist": "id"},
)
ROWS = [(1, b"\x00\xff%s?", "Li %(x)s"), (2, None, "王"), (3, b"", "")]
ABOVE = FixedStatement(select(THING).where(THING.c.id > bindparam("low")).order_by(THING.c.id).limit(2))
RENAME = FixedStatement(THING.update().where(THING.c.id == bindparam("of")).values(name=bindparam("to")))


@pytest.fixture
def database(empty_store: EmptyStore) -> Iterator[Database]:
    database = Database(empty_store.create(metadata))
    database.write_now(lambda conn: BulkInsert(THING).execute(conn, ROWS))
    yield database
    database.close()


def names(conn: Connection) -> list[str]:
    return list(conn.execute(select(THING.c.name).order_by(THING.c.id)).scalars())


def test_rows_come_back_as_they_were(database: Database) -> None:
    assert database.read_now(lambda conn: ABOVE.all(conn, {"low": 0})) == ROWS[:2]
    assert database.read_now(lambda conn: ABOVE.all(conn, {"low": 2})) == ROWS[2:]
    assert database.read_now(lambda conn: ABOVE.first(conn, {"low": 1})) == ROWS[1]
    assert database.read_now(lambda conn: ABOVE.first(conn, {"low": 3})) is None
    assert database.read_now(lambda conn: ABOVE.scalar(conn, {"low": 1})) == 2
    assert database.read_now(lambda conn: ABOVE.scalar(conn, {"low": 3})) is None


def test_a_write_tells_how_many_rows_it_changed(database: Database) -> None:
    assert database.write_now(lambda conn: RENAME.run(conn, {"of": 1, "to": "x"})) == 1
    assert database.write_now(lambda conn: RENAME.run(conn, {"of": 9, "to": "x"})) == 0
    assert database.read_now(names) == ["x", "王", ""]


def test_what_is_written_belongs_to_the_transaction(database: Database) -> None:
    def write(conn: Connection) -> None:
        RENAME.run(conn, {"of": 1, "to": "x"})
        assert ABOVE.first(conn, {"low": 0}) == (*ROWS[0][:2], "x")
        raise LookupError

    with pytest.raises(LookupError):
        database.write_now(write)
    assert database.read_now(names) == [row[2] for row in ROWS]


@pytest.mark.parametrize("bulk", [False, True])
def test_a_row_that_stands_already_is_an_integrity_error_that_quotes_nothing(database: Database, *, bulk: bool) -> None:
    def write(conn: Connection) -> None:
        if bulk:
            BulkInsert(THING).execute(conn, [(1, b"secret", "secret")])
        FixedStatement(THING.insert()).run(conn, {"id": 1, "body": b"secret", "name": "secret"})

    with pytest.raises(exc.IntegrityError) as caught:
        database.write_now(write)
    assert caught.value.params is None
    assert database.read_now(names) == [row[2] for row in ROWS]


def test_a_statement_that_is_wrong_is_our_own_fault(database: Database) -> None:
    missing = Table("missing", MetaData(), Column("id", BigInteger))
    with pytest.raises(exc.DBAPIError):
        database.read_now(lambda conn: FixedStatement(select(missing.c.id)).all(conn))


def test_what_does_not_begin_a_transaction_is_raised_as_any_other_error(database: Database) -> None:
    with pytest.raises(exc.DBAPIError) as raised:
        database.read_now(lambda conn: begin(conn, "NONSENSE"))
    assert raised.value.statement == "NONSENSE"
    assert database.read_now(names) == [row[2] for row in ROWS]


def test_a_parameter_that_is_not_given_is_an_error(database: Database) -> None:
    with pytest.raises((KeyError, exc.ProgrammingError)):
        database.read_now(lambda conn: ABOVE.all(conn, {}))


def test_nothing_that_would_have_to_be_converted_is_taken(database: Database) -> None:
    flag = Table("flag", MetaData(), Column("is_set", Boolean))
    for statement in (select(flag.c.is_set), flag.update().values(is_set=bindparam("to"))):
        with pytest.raises(TypeError, match="Boolean"):
            database.read_now(lambda conn, of=statement: FixedStatement(of).all(conn, {"to": True}))  # type: ignore[misc]


def test_a_connection_that_is_lost_under_a_statement_is_replaced(postgres: PostgresServer) -> None:
    with postgres.database() as url:
        database = Database(url)
        runs: list[int] = []
        echo = FixedStatement(select(bindparam("n", type_=BigInteger)))

        def read(conn: Connection) -> Any:
            runs.append(1)
            if len(runs) == 1:
                pid = echo.scalar(conn, {"n": 1}) and conn.exec_driver_sql("SELECT pg_backend_pid()").scalar_one()
                database.write_now(
                    lambda other: other.exec_driver_sql(f"SELECT pg_terminate_backend({pid}, 30000)").close()
                )
            return echo.scalar(conn, {"n": 7})

        assert database.read_now(read) == 7
        assert len(runs) == 2
        database.close()


def test_a_server_that_ended_every_waiting_connection_costs_one_attempt(postgres: PostgresServer) -> None:
    with postgres.database() as url:
        database = Database(url, writers=2 * MAX_ATTEMPTS)
        echo = FixedStatement(select(bindparam("n", type_=BigInteger)))
        # Callers on threads of their own give their connections back.
        together = threading.Barrier(2 * MAX_ATTEMPTS)

        def take_one(conn: Connection) -> Any:
            together.wait()
            return echo.scalar(conn, {"n": 1})

        with ThreadPoolExecutor(2 * MAX_ATTEMPTS) as threads:
            list(threads.map(lambda _: database.write_now(take_one), range(2 * MAX_ATTEMPTS)))
        name = url.partition("?")[0].rpartition("/")[2]
        postgres.execute(f"SELECT pg_terminate_backend(pid, 30000) FROM pg_stat_activity WHERE datname = '{name}'")
        runs: list[int] = []

        def write(conn: Connection) -> Any:
            runs.append(1)
            return echo.scalar(conn, {"n": 7})

        assert database.write_now(write) == 7
        assert len(runs) == 2
        database.close()
