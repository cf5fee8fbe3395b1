"""Databases: durability settings, snapshots, retries and what their errors become."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import (
    Column,
    Connection,
    Integer,
    LargeBinary,
    MetaData,
    PrimaryKeyConstraint,
    String,
    Table,
    exc,
    select,
)

from elicense.errors import Error, Malformed, StoreCorrupt, StoreFull, StoreUnavailable
from elicense.sql.bulk import BulkInsert
from elicense.sql.database import MAX_ATTEMPTS, CommitUnknown, Database, insert_for
from elicense.sql.faults import fault_of
from elicense.sql.schema import create_tables
from elicense.sql.single import Query
from tests.support.postgres import PostgresServer
from tests.support.stores import EmptyStore

metadata = MetaData()
ITEM = Table(
    "item",
    metadata,
    Column("id", Integer, nullable=False, autoincrement=False),
    Column("name", String(20), nullable=False),
    Column("body", LargeBinary),
    PrimaryKeyConstraint("id"),
    info={"dist": "id"},
)


@pytest.fixture
def database(empty_store: EmptyStore) -> Iterator[Database]:
    database = Database(empty_store.create(metadata))
    yield database
    database.close()


@pytest.fixture
def postgres_database(postgres: PostgresServer) -> Iterator[Database]:
    with postgres.database() as url:
        create_tables(url, metadata)
        database = Database(url)
        yield database
        database.close()


def add(database: Database, *ids: int) -> None:
    database.write_now(lambda conn: BulkInsert(ITEM).execute(conn, [(i, f"n{i}", None) for i in ids]))


def ids(conn: Connection) -> list[int]:
    return list(conn.execute(select(ITEM.c.id).order_by(ITEM.c.id)).scalars())


async def test_a_write_is_seen_by_the_next_read(database: Database) -> None:
    def write(conn: Connection) -> str:
        conn.execute(ITEM.insert(), {"id": 1, "name": "one", "body": b"\x00"})
        return "done"

    assert await database.write(write) == "done"
    assert await database.read(ids) == [1]
    assert await database.write_then(ids, len) == 1


async def test_a_function_that_raises_leaves_nothing(database: Database) -> None:
    def write(conn: Connection) -> None:
        conn.execute(ITEM.insert(), {"id": 1, "name": "one", "body": None})
        raise KeyError("no")

    with pytest.raises(KeyError):
        await database.write(write)
    assert await database.read(ids) == []


def test_what_runs_then_runs_after_the_commit_is_durable(database: Database) -> None:
    def then(_result: None) -> list[int]:
        return database.read_now(ids)

    async def run() -> list[int]:
        return await database.write_then(
            lambda conn: conn.execute(ITEM.insert(), {"id": 5, "name": "n", "body": None}).close(), then
        )

    assert asyncio.run(run()) == [5]


async def test_a_read_sees_one_snapshot(database: Database) -> None:
    add(database, 1)
    seen, written = threading.Event(), threading.Event()

    def read(conn: Connection) -> tuple[list[int], list[int]]:
        before = ids(conn)
        seen.set()
        assert written.wait(30)
        return before, ids(conn)

    reading = asyncio.create_task(database.read(read))
    await asyncio.to_thread(seen.wait, 30)
    await asyncio.to_thread(add, database, 2)
    written.set()
    assert await reading == ([1], [1])
    assert await database.read(ids) == [1, 2]


async def test_a_closed_database_has_closed_its_connections_whoever_refers_to_one_still(database: Database) -> None:
    held: list[Connection] = []
    await database.read(held.append)
    await database.write(held.append)
    await asyncio.to_thread(database.close)
    assert [connection.closed for connection in held] == [True, True]


async def test_a_single_query_sees_what_was_committed_before_it(database: Database) -> None:
    for number in range(1, 4):
        add(database, number)
        rows = await database.query(Query("SELECT id FROM item ORDER BY id", ()))
        assert rows == [(each,) for each in range(1, number + 1)]


async def test_a_single_query_can_not_write(database: Database) -> None:
    with pytest.raises((exc.SQLAlchemyError, StoreUnavailable)):
        await database.query(Query("DELETE FROM item", ()))
    add(database, 1)
    assert await database.query(Query("SELECT id FROM item", ())) == [(1,)]


async def test_a_single_query_finds_another_way_when_its_connection_is_gone(postgres_database: Database) -> None:
    add(postgres_database, 1)
    query = Query("SELECT id FROM item", ())
    # One at a time, so that every reader thread has kept a connection.
    for _ in range(4):
        assert await postgres_database.query(query) == [(1,)]
    ended = (
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE pid <> pg_backend_pid() AND datname = current_database()"
    )
    postgres_database.write_now(lambda conn: conn.exec_driver_sql(ended).all())
    for _ in range(4):
        assert await postgres_database.query(query) == [(1,)]


async def test_a_reader_can_not_write(database: Database) -> None:
    with pytest.raises(StoreUnavailable):
        await database.read(lambda conn: conn.execute(ITEM.insert(), {"id": 1, "name": "n", "body": None}).close())
    assert await database.read(ids) == []


async def test_writers_of_two_processes_wait_for_each_other(empty_store: EmptyStore) -> None:
    url = empty_store.create(metadata)
    databases = [Database(url), Database(url)]
    try:

        def write(number: int) -> object:
            def run(conn: Connection) -> None:
                held = ids(conn)  # a read first: a deferred SQLite transaction would fail here
                BulkInsert(ITEM).execute(conn, [(number, f"{len(held)}", None)])

            return run

        await asyncio.gather(*[databases[i % 2].write(write(i)) for i in range(40)])  # type: ignore[arg-type]
        assert await databases[0].read(ids) == list(range(40))
    finally:
        for database in databases:
            database.close()


def test_bulk_rows_come_back_as_they_were(database: Database) -> None:
    rows = [(1, "一", b"\x00\xff'\\"), (2, "", None), (3, "'; --", b"")]
    database.write_now(lambda conn: BulkInsert(ITEM).execute(conn, rows))
    database.write_now(lambda conn: BulkInsert(ITEM).execute(conn, [(4, "n", None), (5, "n", None)]))
    database.write_now(lambda conn: BulkInsert(ITEM).execute(conn, []))
    found = database.read_now(lambda conn: conn.execute(select(ITEM).order_by(ITEM.c.id)).all())
    assert [tuple(row) for row in found] == [*rows, (4, "n", None), (5, "n", None)]


def test_one_refused_row_refuses_the_whole_bulk(database: Database) -> None:
    add(database, 3)
    with pytest.raises(exc.IntegrityError) as caught:
        add(database, 1, 2, 3, 4)
    assert "n4" not in str(caught.value), "values must not reach error messages"
    assert database.read_now(ids) == [3]


def test_an_upsert_is_written_the_same_way_everywhere(database: Database) -> None:
    statement = insert_for(database.dialect, ITEM)
    upsert = statement.on_conflict_do_update(
        index_elements=["id"], set_={"name": statement.excluded.name}, where=ITEM.c.name < statement.excluded.name
    )

    def write(conn: Connection) -> None:
        for name in ("b", "a", "c"):
            conn.execute(upsert, [{"id": 1, "name": name, "body": None}])

    database.write_now(write)
    assert database.read_now(lambda conn: conn.execute(select(ITEM.c.name)).scalar_one()) == "c"


def test_sqlite_commits_reach_the_disk(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'a.db'}"
    create_tables(url, metadata)
    database = Database(url)
    names = ("journal_mode", "synchronous", "fullfsync", "checkpoint_fullfsync")

    def settings(conn: Connection) -> list[object]:
        return [conn.exec_driver_sql(f"PRAGMA {name}").scalar_one() for name in names]

    try:
        assert database.write_now(settings) == ["wal", 2, 1, 1]
        assert database.read_now(settings) == ["wal", 2, 1, 1]
    finally:
        database.close()


@pytest.mark.parametrize("weak", ["off", "local"])
def test_postgresql_commits_reach_the_disk_whatever_the_database_says(postgres: PostgresServer, weak: str) -> None:
    with postgres.database() as url:
        name = url.split("?")[0].rsplit("/", 1)[1]
        setting = Database(url)
        alter = f"ALTER DATABASE {name} SET synchronous_commit = {weak}"
        setting.write_now(lambda conn: conn.exec_driver_sql(alter).close())
        setting.close()
        database = Database(url)
        shown = database.write_now(lambda conn: conn.exec_driver_sql("SHOW synchronous_commit").scalar_one())
        isolation = database.read_now(lambda conn: conn.exec_driver_sql("SHOW transaction_isolation").scalar_one())
        database.close()
    assert (shown, isolation) == ("on", "repeatable read")


def test_a_missing_sqlite_file_is_not_mistaken_for_an_empty_log(tmp_path: Path) -> None:
    path = tmp_path / "missing.db"
    database = Database(f"sqlite:///{path}")
    for run in (database.read_now, database.write_now):
        with pytest.raises(StoreUnavailable):
            run(ids)
    database.close()
    assert not path.exists()


def test_a_file_that_is_no_database_is_damage(tmp_path: Path) -> None:
    path = tmp_path / "garbage.db"
    path.write_bytes(b"not a database at all " * 500)
    database = Database(f"sqlite:///{path}")
    with pytest.raises(StoreCorrupt):
        database.read_now(ids)
    database.close()


def test_a_damaged_sqlite_page_is_damage(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    create_tables(f"sqlite:///{path}", metadata)
    database = Database(f"sqlite:///{path}")
    add(database, *range(2_000))
    database.close()
    data = bytearray(path.read_bytes())
    for start in range(8_192, len(data), 4_096):
        data[start : start + 64] = b"\xff" * 64
    path.write_bytes(data)
    database = Database(f"sqlite:///{path}")
    with pytest.raises(StoreCorrupt):
        database.read_now(ids)
    database.close()


def test_a_server_that_is_away_is_said_to_be_so(tmp_path: Path) -> None:
    database = Database(f"postgresql+psycopg://postgres@/x?host={tmp_path}")
    with pytest.raises(StoreUnavailable):
        database.read_now(ids)
    with pytest.raises(StoreUnavailable):
        database.write_now(ids)
    database.close()


@pytest.mark.parametrize(
    "url",
    [
        "sqlite://",
        "sqlite:///:memory:",
        "mysql://host/x",
        "postgresql://host/x",
        "postgresql+asyncpg://h/x",
        "nonsense",
    ],
)
def test_other_urls_are_refused(url: str) -> None:
    with pytest.raises(Malformed):
        Database(url)


def test_the_password_of_a_url_that_can_not_be_read_is_not_repeated() -> None:
    with pytest.raises(Malformed) as caught:
        Database("postgresql+psycopg://user:secret@host:port/x")
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("sqlstate", ["40001", "40P01"])
def test_a_transaction_that_was_rolled_back_for_others_runs_again(postgres_database: Database, sqlstate: str) -> None:
    runs: list[int] = []

    def write(conn: Connection) -> int:
        runs.append(len(runs))
        BulkInsert(ITEM).execute(conn, [(len(runs), "n", None)])
        if len(runs) < 3:
            conn.exec_driver_sql(f"DO $$ BEGIN RAISE EXCEPTION 'x' USING ERRCODE = '{sqlstate}'; END $$")
        return len(runs)

    assert postgres_database.write_now(write) == 3
    assert postgres_database.read_now(ids) == [3]


def test_a_transaction_that_never_comes_through_is_given_up(postgres_database: Database) -> None:
    runs: list[int] = []

    def write(conn: Connection) -> None:
        runs.append(1)
        conn.exec_driver_sql("DO $$ BEGIN RAISE EXCEPTION 'x' USING ERRCODE = '40001'; END $$")

    with pytest.raises(StoreUnavailable):
        postgres_database.write_now(write)
    assert len(runs) == MAX_ATTEMPTS


def test_two_transactions_that_block_each_other_both_come_through(postgres_database: Database) -> None:
    add(postgres_database, 1, 2)
    both = threading.Barrier(2)

    def write(first: int, second: int) -> None:
        runs: list[int] = []

        def run(conn: Connection) -> None:
            conn.execute(ITEM.update().where(ITEM.c.id == first).values(name=f"{first}"))
            if not runs:
                runs.append(1)
                both.wait(30)
            conn.execute(ITEM.update().where(ITEM.c.id == second).values(name=f"{first}"))

        postgres_database.write_now(run)

    threads = [threading.Thread(target=write, args=order) for order in ((1, 2), (2, 1))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    names = postgres_database.read_now(lambda conn: set(conn.execute(select(ITEM.c.name)).scalars()))
    assert len(names) == 1
    assert names <= {"1", "2"}


def test_a_connection_that_was_lost_before_the_commit_is_replaced(postgres_database: Database) -> None:
    runs: list[int] = []

    def write(conn: Connection) -> None:
        runs.append(1)
        BulkInsert(ITEM).execute(conn, [(len(runs), "n", None)])
        if len(runs) == 1:
            conn.exec_driver_sql("SELECT pg_terminate_backend(pg_backend_pid())")

    postgres_database.write_now(write)
    assert postgres_database.read_now(ids) == [2]


def test_a_connection_that_is_lost_at_the_commit_leaves_the_outcome_unknown(postgres_database: Database) -> None:
    def write(conn: Connection) -> None:
        BulkInsert(ITEM).execute(conn, [(1, "n", None)])
        pid = conn.exec_driver_sql("SELECT pg_backend_pid()").scalar_one()
        postgres_database.read_now(
            lambda other: other.exec_driver_sql(f"SELECT pg_terminate_backend({pid}, 30000)").close()
        )

    with pytest.raises(CommitUnknown):
        postgres_database.write_now(write)
    assert postgres_database.read_now(ids) == []


def test_whoever_cares_hears_that_the_database_was_lost_and_is_there_again(postgres_database: Database) -> None:
    heard: list[str] = []
    postgres_database.on_reconnect(lambda: heard.append("again"))
    postgres_database.write_now(lambda conn: BulkInsert(ITEM).execute(conn, [(1, "n", None)]))
    assert not heard
    runs: list[int] = []

    def lose_it_once(conn: Connection) -> None:
        runs.append(1)
        if len(runs) == 1:
            conn.exec_driver_sql("SELECT pg_terminate_backend(pg_backend_pid())")

    postgres_database.read_now(lose_it_once)
    assert heard == ["again"]
    postgres_database.read_now(ids)
    assert heard == ["again"]


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (sqlite3.SQLITE_FULL, StoreFull),
        (sqlite3.SQLITE_IOERR, StoreCorrupt),
        (sqlite3.SQLITE_IOERR_FSYNC, StoreCorrupt),
        (sqlite3.SQLITE_CORRUPT, StoreCorrupt),
        (sqlite3.SQLITE_NOTADB, StoreCorrupt),
        (sqlite3.SQLITE_BUSY, StoreUnavailable),
        (sqlite3.SQLITE_BUSY_SNAPSHOT, StoreUnavailable),
        (sqlite3.SQLITE_READONLY, StoreUnavailable),
        (sqlite3.SQLITE_CANTOPEN, StoreUnavailable),
        (sqlite3.SQLITE_CONSTRAINT_UNIQUE, None),
        (sqlite3.SQLITE_ERROR, None),
    ],
)
def test_sqlite_errors_mean_what_their_code_says(code: int, kind: type[Error] | None) -> None:
    original = sqlite3.OperationalError("some text")
    original.sqlite_errorcode = code
    fault = fault_of(exc.OperationalError("INSERT", {}, original))
    assert fault is None if kind is None else type(fault) is kind


def test_a_server_without_fsync_is_refused(postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch) -> None:
    from elicense.sql import engines

    monkeypatch.setattr(engines, "_DURABILITY", "SELECT 'off', 'on'")
    with postgres.database() as url:
        database = Database(url)
        with pytest.raises(StoreUnavailable, match="fsync"):
            database.write_now(ids)
        database.close()
