"""Many rows at once: what a bulk statement writes, passes over and finds."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pytest
from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Connection,
    Integer,
    LargeBinary,
    MetaData,
    PrimaryKeyConstraint,
    SmallInteger,
    String,
    Table,
    exc,
    select,
)

from elicense.sql.bulk import BulkInsert, BulkLookup, BulkMark, BulkUpdate
from elicense.sql.database import Database
from elicense.sql.schema import create_tables
from tests.support.postgres import PostgresServer
from tests.support.stores import EmptyStore

metadata = MetaData()
PERSON = Table(
    "person",
    metadata,
    Column("key", LargeBinary(16), nullable=False),
    Column("city", BigInteger, nullable=False, autoincrement=False),
    Column("state", SmallInteger, nullable=False),
    Column("note", String(20), nullable=False),
    PrimaryKeyConstraint("key"),
    info={"dist": "key"},
    sqlite_with_rowid=False,
)
SLOT = Table(
    "slot",
    metadata,
    Column("number", BigInteger, nullable=False, autoincrement=False),
    Column("hashed", LargeBinary, nullable=False),
    Column("content", LargeBinary),
    PrimaryKeyConstraint("number"),
    info={"dist": "number"},
)
ANYTHING = Table(
    "anything",
    metadata,
    Column("number", BigInteger, nullable=False, autoincrement=False),
    Column("flag", Boolean),
    Column("small", SmallInteger),
    Column("medium", Integer),
    Column("large", BigInteger),
    Column("name", String(400)),
    PrimaryKeyConstraint("number"),
    info={"dist": "number"},
)
ROWS = [(bytes([number]) * 16, 320500, 1, f"{number}") for number in range(5)]
COLUMNS = list(PERSON.c)


@pytest.fixture
def database(empty_store: EmptyStore) -> Iterator[Database]:
    database = Database(empty_store.create(metadata))
    database.write_now(lambda conn: BulkInsert(PERSON).execute(conn, ROWS))
    yield database
    database.close()


def held(database: Database) -> list[tuple[object, ...]]:
    return database.read_now(lambda conn: [tuple(row) for row in conn.execute(select(PERSON).order_by(PERSON.c.key))])


def test_a_standing_row_is_replaced_and_what_is_merged_keeps_both(database: Database) -> None:
    put = BulkInsert(PERSON, replace=True, merged={"state": "person.state | excluded.state"})
    new = [(ROWS[1][0], 120000, 4, "new"), (bytes([9]) * 16, 120000, 4, "other")]
    database.write_now(lambda conn: put.execute(conn, new))
    assert held(database) == [ROWS[0], (ROWS[1][0], 120000, 5, "new"), *ROWS[2:], new[1]]


def test_a_write_tells_how_many_rows_it_changed(database: Database) -> None:
    acquire = BulkInsert(PERSON, replace=True, only_if="person.state = 1")
    rows = [(*ROWS[0][:2], 2, "taken"), *((bytes([9 + number]) * 16, 1, 1, "new") for number in range(9))]
    assert database.write_now(lambda conn: acquire.execute(conn, rows)) == len(rows)
    # Now one of them is in another state, and stays.
    assert database.write_now(lambda conn: acquire.execute(conn, rows)) == len(rows) - 1
    assert database.write_now(lambda conn: acquire.execute(conn, [])) == 0


def test_a_row_that_does_not_meet_the_condition_stays_as_it_is(database: Database) -> None:
    put = BulkInsert(PERSON, replace=True, only_if="person.city = excluded.city")
    new = [(ROWS[0][0], 320500, 2, "mine"), (ROWS[1][0], 120000, 2, "theirs")]
    database.write_now(lambda conn: put.execute(conn, new))
    assert held(database) == [new[0], *ROWS[1:]]


@pytest.mark.parametrize("empty", [(), (3,), range(20)])
def test_bytes_and_empty_columns_are_read_as_they_were_written(database: Database, empty: Sequence[int]) -> None:
    rows = [(number, bytes([number]) * number, None if number in empty else b"\0x") for number in range(20)]
    database.write_now(lambda conn: BulkInsert(SLOT).execute(conn, rows))
    read = select(SLOT).order_by(SLOT.c.number)
    assert database.read_now(lambda conn: [tuple(row) for row in conn.execute(read)]) == rows


@pytest.mark.parametrize("empty", [(), (0,), range(300)])
def test_values_of_every_type_are_read_as_they_were_written(empty_store: EmptyStore, empty: Sequence[int]) -> None:
    texts, numbers = ("", "王 \U00020bb7", '{NULL,"\\\\}', "x" * 300), (0, -1, 2**15 - 1, -(2**15))
    rows = [
        (
            number,
            *(
                (None,) * 5
                if number in empty
                else (
                    number % 3 == 0,
                    numbers[number % 4],
                    numbers[number % 4] * 2**16,
                    numbers[number % 4] * 2**48,
                    texts[number % 4],
                )
            ),
        )
        for number in range(300)
    ]
    database = Database(empty_store.create(metadata))
    database.write_now(lambda conn: BulkInsert(ANYTHING).execute(conn, rows))
    read = select(ANYTHING).order_by(ANYTHING.c.number)
    assert database.read_now(lambda conn: [tuple(row) for row in conn.execute(read)]) == rows
    wanted = ["x" * 300, "王 \U00020bb7", "none of them"]
    lookup = BulkLookup([ANYTHING.c.number], ANYTHING.c.name)
    found = database.read_now(lambda conn: sorted(row[0] for row in lookup.execute(conn, wanted)))
    assert found == [row[0] for row in rows if row[5] in wanted]
    database.close()


@pytest.mark.parametrize("wrong", [(2**63, b"", None), ("one", b"", None), (b"\1", b"", None), (10, "text", None)])
def test_a_value_that_a_column_can_not_have_is_refused_by_the_database_and_nothing_is_written(
    postgres: PostgresServer, wrong: tuple[object, ...]
) -> None:
    with postgres.database() as url:
        create_tables(url, metadata)
        database = Database(url)
        rows = [(number, b"", None) for number in range(10)]
        with pytest.raises(exc.DBAPIError):
            database.write_now(lambda conn: BulkInsert(SLOT).execute(conn, [*rows, wrong]))  # type: ignore[list-item]
        assert database.read_now(lambda conn: list(conn.execute(select(SLOT)))) == []
        database.close()


def test_a_mark_is_set_where_the_condition_holds_and_nowhere_else(database: Database) -> None:
    put = BulkInsert(PERSON, replace=True)
    others = (ROWS[1][0], 120000, 1, "theirs")
    mark = BulkMark(COLUMNS[:1], PERSON.c.key, changes="state = 2", condition="city = ? AND state = 1")

    def write(conn: Connection) -> list[object]:
        put.execute(conn, [others])
        return [row[0] for row in mark.execute(conn, [*(row[0] for row in ROWS[:3]), bytes(16)], 320500)]

    assert sorted(map(str, database.write_now(write))) == [str(ROWS[0][0]), str(ROWS[2][0])]
    assert [row[2] for row in held(database)] == [2, 1, 2, 1, 1]
    assert database.write_now(lambda conn: mark.execute(conn, [row[0] for row in ROWS[:3]], 320500)) == []


def test_an_update_passes_over_what_is_not_found(database: Database) -> None:
    update = BulkUpdate(PERSON, values=("state", "note"), found_by=("key", "state"))
    changes = [(7, "x", ROWS[0][0], 1), (7, "x", ROWS[1][0], 2), (7, "x", bytes(15) + b"?", 1)]
    database.write_now(lambda conn: update.execute(conn, changes))
    assert held(database) == [(ROWS[0][0], 320500, 7, "x"), *ROWS[1:]]


@pytest.mark.parametrize("count", [0, 1, 2, 5, 2_048, 2_049, 5_000])
def test_any_number_of_keys_is_looked_up_and_each_row_comes_once(database: Database, count: int) -> None:
    keys = [row[0] for row in ROWS] + [number.to_bytes(16) for number in range(1, 5_000)]
    lookup = BulkLookup(COLUMNS, PERSON.c.key)
    found = database.read_now(lambda conn: [tuple(row) for row in lookup.execute(conn, keys[:count] + keys[:count])])
    assert sorted(found) == ROWS[:count]


@pytest.mark.parametrize("count", [1, 2, 5, 300])
async def test_keys_are_looked_up_by_one_query_without_a_transaction_too(database: Database, count: int) -> None:
    keys = [row[0] for row in ROWS] + [number.to_bytes(16) for number in range(1, 300)]
    lookup = BulkLookup(COLUMNS, PERSON.c.key)
    found = await database.query(lookup.query(database.dialect, keys[:count] + keys[:count]))
    assert sorted(tuple(row) for row in found) == ROWS[:count]


def test_locked_rows_come_back_like_others(database: Database) -> None:
    lookup = BulkLookup(COLUMNS, PERSON.c.key, ordered_lock=True)

    def read(conn: Connection) -> list[tuple[object, ...]]:
        return [tuple(row) for row in lookup.execute(conn, [ROWS[3][0], ROWS[1][0]])]

    assert database.write_now(read) == [ROWS[1], ROWS[3]]
