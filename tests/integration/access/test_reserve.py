"""The reserve: what officials are answered from when the access log is full."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry
from sqlalchemy import MetaData

from elicense.access.alarms import AccessAlarms
from elicense.access.entry import START, AccessEntry
from elicense.access.recorder import AccessRecorder
from elicense.access.reserve import AccessReserve
from elicense.access.store import AccessStore, define_access_table
from elicense.errors import StoreFull
from elicense.sql.database import Database
from elicense.sql.schema import create_tables
from tests.integration.access.test_recorder import LOOK, NODE, NOW_US

RENTAL = LOOK._replace(role="rental", caller="spiffe://elicense.test/verifier/rental/r", at_us=NOW_US + 1)
WINDOW = LOOK._replace(role="traffic-window", caller="spiffe://elicense.test/verifier/traffic-window/w")
PADDING = LOOK._replace(subjects=b"k" * 16_000, outcomes=b"\x01" * 1_000, fields=bytes(4_000))


@pytest.fixture
def store() -> AccessStore:
    return AccessStore(define_access_table(MetaData()))


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    metadata = MetaData()
    define_access_table(metadata)
    url = f"sqlite:///{tmp_path / 'access.db'}"
    create_tables(url, metadata)
    database = Database(url)
    yield database
    database.close()


@pytest.fixture
def reserve(tmp_path: Path) -> Iterator[AccessReserve]:
    reserve = AccessReserve(tmp_path / "reserve", size=64 * 1024)
    yield reserve
    reserve.close()


def recorder_of(database: Database, store: AccessStore, reserve: AccessReserve | None) -> AccessRecorder:
    return AccessRecorder(
        database=database,
        store=store,
        node=NODE,
        clock=lambda: NOW_US + 10,
        reserve=reserve,
        alarms=AccessAlarms(CollectorRegistry()),
    )


async def limit_pages(database: Database, pages: int) -> None:
    """Let the file grow to that many pages: SQLite then reports a full disk by itself."""
    await database.write(lambda conn: conn.exec_driver_sql(f"PRAGMA max_page_count = {pages}").fetchall())


async def fill(database: Database, recorder: AccessRecorder) -> None:
    """Leave no room for another look; the only connection that writes keeps the limit."""
    await limit_pages(database, 40)
    for look in (PADDING, PADDING._replace(caller="small", subjects=b"", outcomes=b"", fields=b"")):
        assert await until_refused(recorder, look._replace(role="rental")) < 1_000


async def until_refused(recorder: AccessRecorder, look: AccessEntry) -> int:
    """Record a look again and again, and return how often it went well."""
    for given in range(10_000):
        try:
            await recorder.record(look)
        except StoreFull:
            return given
    raise AssertionError("there is always room")


def logged(database: Database, store: AccessStore) -> list[AccessEntry]:
    looks = database.read_now(lambda conn: store.after(conn, NODE, START, 10_000))
    return [look.entry for look in looks if len(look.entry.outcomes) == 1]


async def test_a_full_log_still_serves_officials_and_nobody_else(
    database: Database, store: AccessStore, reserve: AccessReserve
) -> None:
    recorder = recorder_of(database, store, reserve)
    await fill(database, recorder)
    assert await recorder.record(LOOK) is None
    with pytest.raises(StoreFull):
        await recorder.record(RENTAL)
    assert await recorder.record(WINDOW) is None
    assert list(reserve.held) == [LOOK, WINDOW]
    assert logged(database, store) == []


async def test_what_is_in_the_reserve_moves_into_the_log_once_there_is_room(
    database: Database, store: AccessStore, reserve: AccessReserve
) -> None:
    recorder = recorder_of(database, store, reserve)
    await fill(database, recorder)
    await recorder.record(LOOK)
    await recorder.drain()
    assert list(reserve.held) == [LOOK]
    await limit_pages(database, 100_000)
    after = await recorder.record(RENTAL)
    assert after is not None
    assert logged(database, store) == [LOOK, RENTAL]
    assert not reserve.held
    await recorder.drain()
    assert logged(database, store) == [LOOK, RENTAL]


async def test_the_reserve_survives_a_restart(
    database: Database, store: AccessStore, reserve: AccessReserve, tmp_path: Path
) -> None:
    recorder = recorder_of(database, store, reserve)
    await fill(database, recorder)
    await recorder.record(LOOK)
    again = AccessReserve(tmp_path / "reserve", size=64 * 1024)
    assert list(again.held) == [LOOK]
    await limit_pages(database, 100_000)
    await recorder_of(database, store, again).drain()
    assert logged(database, store) == [LOOK]
    again.close()


async def test_looks_are_not_complete_while_some_lie_in_the_reserve(
    database: Database, store: AccessStore, reserve: AccessReserve
) -> None:
    recorder = recorder_of(database, store, reserve)
    assert recorder.complete_until() == NOW_US + 10
    await fill(database, recorder)
    await recorder.record(LOOK)
    assert recorder.complete_until() == LOOK.at_us


async def test_a_spent_reserve_refuses_officials_too(
    database: Database, store: AccessStore, reserve: AccessReserve
) -> None:
    recorder = recorder_of(database, store, reserve)
    await fill(database, recorder)
    given = await until_refused(recorder, LOOK)
    assert given == len(reserve.held) > 50
    with pytest.raises(StoreFull, match="reserve is spent"):
        await recorder.record(LOOK)


async def test_without_a_reserve_nobody_is_answered(database: Database, store: AccessStore) -> None:
    recorder = recorder_of(database, store, None)
    await fill(database, recorder)
    with pytest.raises(StoreFull):
        await recorder.record(LOOK)


def test_the_room_is_taken_when_the_reserve_is_made(tmp_path: Path) -> None:
    reserve = AccessReserve(tmp_path / "reserve", size=256 * 1024)
    held = (tmp_path / "reserve").stat()
    assert held.st_size == 256 * 1024
    assert held.st_blocks * 512 >= 256 * 1024
    reserve.add([LOOK] * 20)
    assert (tmp_path / "reserve").stat().st_size == 256 * 1024
    reserve.close()


def test_a_write_that_was_cut_short_loses_only_itself(tmp_path: Path) -> None:
    reserve = AccessReserve(tmp_path / "reserve", size=64 * 1024)
    reserve.add([LOOK])
    reserve.add([WINDOW])
    reserve.close()
    stored = bytearray((tmp_path / "reserve").read_bytes())
    end = bytes(stored).rindex(b"traffic-window")
    stored[end : end + 4] = bytes(4)
    (tmp_path / "reserve").write_bytes(stored)
    again = AccessReserve(tmp_path / "reserve", size=64 * 1024)
    assert list(again.held) == [LOOK]
    again.add([RENTAL])
    again.close()
    assert list(AccessReserve(tmp_path / "reserve", size=64 * 1024).held) == [LOOK, RENTAL]


def test_a_cleared_reserve_is_empty_and_stays_so(tmp_path: Path) -> None:
    reserve = AccessReserve(tmp_path / "reserve", size=64 * 1024)
    reserve.add([LOOK, WINDOW])
    reserve.clear()
    assert not reserve.held
    reserve.add([WINDOW])
    reserve.close()
    assert list(AccessReserve(tmp_path / "reserve", size=64 * 1024).held) == [WINDOW]
