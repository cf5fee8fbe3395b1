"""The access log: durable before the answer, numbered without repetition, one row a batch."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import TypeVar

import pytest
from sqlalchemy import Connection, MetaData

from elicense.access.entry import START, AccessEntry, AccessPosition, RecordedAccess, split_subjects
from elicense.access.recorder import AccessRecorder
from elicense.access.store import AccessStore, define_access_table
from elicense.errors import Exhausted, ShuttingDown, StoreFull, StoreUnavailable
from elicense.sql.database import CommitUnknown, Database
from elicense.sql.schema import check_rules
from tests.support.stores import EmptyStore

T = TypeVar("T")

DAY_US = 86_400 * 10**6
NOW_US = 18_779 * DAY_US + 5
NODE = "registry/0"
LOOK = AccessEntry(
    at_us=NOW_US,
    caller="spiffe://elicense.test/verifier/police/p",
    via="",
    role="police",
    purpose=1,
    case_number="c-1",
    method="VerifyLicense",
    subjects=b"k" * 16,
    outcomes=b"\x01",
    fields=bytes(4),
)


class FaultyDatabase(Database):
    """A database whose next writes fail as the test says: before the commit, or after it with the answer lost."""

    before: Exception | None = None
    after: Exception | None = None
    writes = 0

    def write_now(self, fn: Callable[[Connection], T]) -> T:
        self.writes += 1
        if self.before is not None:
            error, self.before = self.before, None
            raise error
        result = super().write_now(fn)
        if self.after is not None:
            error, self.after = self.after, None
            raise error
        return result


class Clock:
    def __init__(self) -> None:
        self.now_us = NOW_US

    def __call__(self) -> int:
        return self.now_us


@pytest.fixture
def store() -> AccessStore:
    return AccessStore(define_access_table(MetaData()))


@pytest.fixture
def url(empty_store: EmptyStore) -> str:
    metadata = MetaData()
    define_access_table(metadata)
    return empty_store.create(metadata)


@pytest.fixture
def database(url: str) -> Iterator[FaultyDatabase]:
    database = FaultyDatabase(url)
    yield database
    database.close()


@pytest.fixture
def clock() -> Clock:
    return Clock()


class Recorder(AccessRecorder):
    async def put(self, entry: AccessEntry) -> RecordedAccess:
        """Record a look that gets a number at once."""
        recorded = await self.record(entry)
        assert recorded is not None
        return recorded


def recorder_of(database: Database, store: AccessStore, clock: Clock, node: str = NODE) -> Recorder:
    return Recorder(database=database, store=store, node=node, clock=clock)


def held(database: Database, store: AccessStore, node: str = NODE) -> list[RecordedAccess]:
    return database.read_now(lambda c: store.after(c, node, START, 10_000))


def test_the_schema_keeps_the_rules() -> None:
    metadata = MetaData()
    define_access_table(metadata)
    assert check_rules(metadata) == []


async def test_a_look_is_durable_before_it_may_be_answered(
    url: str, database: FaultyDatabase, store: AccessStore, clock: Clock
) -> None:
    recorded = await recorder_of(database, store, clock).put(LOOK)
    other = Database(url)  # another connection sees only what has been committed
    try:
        assert held(other, store) == [recorded]
    finally:
        other.close()
    assert recorded == RecordedAccess(NODE, AccessPosition(18_779, 1), LOOK)


async def test_a_batch_is_one_row(database: FaultyDatabase, store: AccessStore, clock: Clock) -> None:
    subjects = b"".join(bytes([i % 256]) * 16 for i in range(1000))
    batch = LOOK._replace(method="BatchVerifyLicenses", subjects=subjects, outcomes=b"\x01" * 1000)
    await recorder_of(database, store, clock).put(batch)
    (row,) = held(database, store)
    assert row.entry == batch
    assert len(split_subjects(row.entry.subjects)) == 1000


async def test_looks_that_wait_together_share_a_commit(
    database: FaultyDatabase, store: AccessStore, clock: Clock
) -> None:
    recorder = recorder_of(database, store, clock)
    looks = [LOOK._replace(case_number=f"c-{i}") for i in range(200)]
    recorded = await asyncio.gather(*(recorder.put(look) for look in looks))
    assert [r.position.sequence for r in recorded] == list(range(1, 201))
    assert held(database, store) == list(recorded)
    assert database.writes < 5


async def test_numbers_go_on_after_a_restart(database: FaultyDatabase, store: AccessStore, clock: Clock) -> None:
    await recorder_of(database, store, clock).put(LOOK)
    clock.now_us += DAY_US
    again = await recorder_of(database, store, clock).put(LOOK)
    assert again.position == AccessPosition(18_780, 2)


async def test_a_clock_that_was_set_back_repeats_no_number(
    database: FaultyDatabase, store: AccessStore, clock: Clock
) -> None:
    await recorder_of(database, store, clock).put(LOOK)
    clock.now_us -= 3 * DAY_US
    again = await recorder_of(database, store, clock).put(LOOK)
    assert again.position == AccessPosition(18_779, 2)


async def test_nodes_count_for_themselves(database: FaultyDatabase, store: AccessStore, clock: Clock) -> None:
    for node in ("registry/0", "registry/1"):
        recorded = await recorder_of(database, store, clock, node).put(LOOK)
        assert recorded.position.sequence == 1
    assert len(held(database, store, "registry/1")) == 1


async def test_without_room_the_look_is_refused_and_the_next_one_goes_on(
    database: FaultyDatabase, store: AccessStore, clock: Clock
) -> None:
    recorder = recorder_of(database, store, clock)
    await recorder.put(LOOK)
    database.before = StoreFull("full")
    with pytest.raises(Exhausted):
        await recorder.put(LOOK)
    assert (await recorder.put(LOOK)).position.sequence == 2


async def test_with_the_log_away_nothing_is_answered(
    database: FaultyDatabase, store: AccessStore, clock: Clock
) -> None:
    database.before = StoreUnavailable("away")
    with pytest.raises(StoreUnavailable):
        await recorder_of(database, store, clock).put(LOOK)
    assert held(database, store) == []


async def test_a_commit_whose_answer_was_lost_loses_no_look(
    database: FaultyDatabase, store: AccessStore, clock: Clock
) -> None:
    recorder = recorder_of(database, store, clock)
    database.after = CommitUnknown("lost")
    recorded = await recorder.put(LOOK)
    rows = held(database, store)
    assert recorded in rows
    assert {row.entry for row in rows} == {LOOK}
    assert (await recorder.put(LOOK)).position.sequence == len(rows) + 1


async def test_closing_keeps_what_was_accepted(database: FaultyDatabase, store: AccessStore, clock: Clock) -> None:
    recorder = recorder_of(database, store, clock)
    tasks = [asyncio.create_task(recorder.put(LOOK)) for _ in range(3)]
    await asyncio.sleep(0)
    await recorder.close()
    assert len(await asyncio.gather(*tasks)) == len(held(database, store)) == 3
    with pytest.raises(ShuttingDown):
        await recorder.put(LOOK)


async def test_looks_are_read_in_pages_and_dropped_by_day(
    database: FaultyDatabase, store: AccessStore, clock: Clock
) -> None:
    recorder = recorder_of(database, store, clock)
    recorded = []
    for _ in range(3):
        recorded += [await recorder.put(LOOK) for _ in range(2)]
        clock.now_us += DAY_US
    page = database.read_now(lambda c: store.after(c, NODE, recorded[0].position, 3))
    assert page == recorded[1:4]
    assert database.write_now(lambda c: store.drop_before(c, NODE, 18_781)) == 4
    assert held(database, store) == recorded[4:]
    assert (await recorder.put(LOOK)).position.sequence == 7
