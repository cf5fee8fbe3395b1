"""Quotas: shared by processes, kept over restarts, overshot by no more than is stated."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest
from sqlalchemy import MetaData

from elicense.errors import QuotaExceeded
from elicense.quota.leases import NUMBER_CREDIT, VERIFIER_CHUNK, Quotas
from elicense.quota.store import QuotaStore, define_quota_table
from elicense.sql.database import Database
from elicense.sql.schema import check_rules
from elicense.trust.roles import VERIFIER_RULES, Role
from tests.support.stores import EmptyStore

DAY_US = 86_400 * 10**6
#: Noon in China.
NOON_US = 18_779 * DAY_US + 4 * 3_600 * 10**6
VERIFIER = "spiffe://elicense.test/verifier/rental/r"
AT_ONE = VERIFIER_RULES[Role.RENTAL].quota.looks_at_one


class Clock:
    def __init__(self) -> None:
        self.now_us = NOON_US

    def __call__(self) -> int:
        return self.now_us


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store() -> QuotaStore:
    return QuotaStore(define_quota_table(MetaData()))


@pytest.fixture
def url(empty_store: EmptyStore) -> str:
    metadata = MetaData()
    define_quota_table(metadata)
    return empty_store.create(metadata)


@pytest.fixture
def database(url: str) -> Iterator[Database]:
    database = Database(url)
    yield database
    database.close()


def process(database: Database, store: QuotaStore, clock: Clock, looks: int | None = None) -> Quotas:
    """What one process counts with; several share a database."""
    return Quotas(database=database, store=store, clock=clock, looks=None if looks is None else {Role.RENTAL: looks})


def numbers(count: int, first: int = 0) -> list[bytes]:
    return [i.to_bytes(16, "big") for i in range(first, first + count)]


async def spent(quotas: Quotas, subjects: list[bytes], verifier: str = VERIFIER) -> int:
    """Ask about each number by itself until there is no quota; return how often it was given."""
    given = 0
    for subject in subjects:
        try:
            await quotas.spend(verifier, Role.RENTAL, [subject])
        except QuotaExceeded:
            continue
        given += 1
    return given


def test_the_schema_keeps_the_rules() -> None:
    metadata = MetaData()
    define_quota_table(metadata)
    assert check_rules(metadata) == []


async def test_a_verifier_gets_its_looks_and_not_one_more(database: Database, store: QuotaStore, clock: Clock) -> None:
    assert await spent(process(database, store, clock, 100), numbers(150)) == 100


async def test_processes_together_never_give_more_than_the_quota(
    database: Database, store: QuotaStore, clock: Clock
) -> None:
    processes = [process(database, store, clock, 400) for _ in range(4)]
    given = await asyncio.gather(
        *(spent(each, numbers(30, 1_000 * (5 * i + j))) for i, each in enumerate(processes) for j in range(5))
    )
    # All are asked for 600 in all; what one leased and another lacked is the only loss.
    assert sum(given) <= 400
    assert sum(given) >= 400 * 7 // 8 - 4 * 50
    rest = [await spent(each, numbers(500, 100_000 * (i + 1))) for i, each in enumerate(processes)]
    assert sum(given) + sum(rest) == 400


async def test_a_restart_gives_nothing_back(database: Database, store: QuotaStore, clock: Clock) -> None:
    assert await spent(process(database, store, clock, 100), numbers(60)) == 60
    after = await spent(process(database, store, clock, 100), numbers(100, 1_000))
    # What the first process had leased ahead is lost: an eighth of the rest at most.
    assert 100 - 60 - 100 // 8 <= after <= 40


async def test_verifiers_have_quotas_of_their_own(database: Database, store: QuotaStore, clock: Clock) -> None:
    quotas = process(database, store, clock, 10)
    assert await spent(quotas, numbers(20)) == 10
    assert await spent(quotas, numbers(20), "spiffe://elicense.test/verifier/rental/other") == 10


async def test_one_number_has_a_quota_of_its_own(database: Database, store: QuotaStore, clock: Clock) -> None:
    quotas = process(database, store, clock)
    assert await spent(quotas, numbers(1) * (AT_ONE + 10)) == AT_ONE
    assert await spent(quotas, numbers(1, 7)) == 1


async def test_a_number_is_overshot_by_the_credit_of_each_further_process_and_no_more(
    database: Database, store: QuotaStore, clock: Clock
) -> None:
    processes = [process(database, store, clock) for _ in range(4)]
    given = await asyncio.gather(*(spent(each, numbers(1) * (2 * AT_ONE)) for each in processes))
    assert AT_ONE <= sum(given) <= AT_ONE + 3 * NUMBER_CREDIT
    restarted = process(database, store, clock)
    assert await spent(restarted, numbers(1) * AT_ONE) <= NUMBER_CREDIT


async def test_a_batch_counts_every_question_and_is_given_whole_or_not(
    database: Database, store: QuotaStore, clock: Clock
) -> None:
    quotas = process(database, store, clock, 1_000)
    await quotas.spend(VERIFIER, Role.RENTAL, numbers(600))
    with pytest.raises(QuotaExceeded):
        await quotas.spend(VERIFIER, Role.RENTAL, numbers(600, 1_000))
    await quotas.spend(VERIFIER, Role.RENTAL, numbers(400, 2_000))
    with pytest.raises(QuotaExceeded):
        await quotas.spend(VERIFIER, Role.RENTAL, numbers(1) * (AT_ONE + 1))


async def test_the_quota_comes_back_at_midnight_in_china(database: Database, store: QuotaStore, clock: Clock) -> None:
    quotas = process(database, store, clock, 10)
    await spent(quotas, numbers(10))
    with pytest.raises(QuotaExceeded) as refused:
        await quotas.spend(VERIFIER, Role.RENTAL, numbers(1))
    assert refused.value.metadata["retryAfterSeconds"] == str(12 * 3_600)
    clock.now_us += 12 * 3_600 * 10**6 - 1
    assert await spent(quotas, numbers(1)) == 0
    clock.now_us += 1
    assert await spent(quotas, numbers(20)) == 10


async def test_old_days_are_forgotten_and_today_is_not(database: Database, store: QuotaStore, clock: Clock) -> None:
    await spent(process(database, store, clock, 10), numbers(10))
    clock.now_us += 2 * DAY_US
    quotas = process(database, store, clock, 10)
    await spent(quotas, numbers(10))
    await quotas.housekeep()
    assert await spent(quotas, numbers(10)) == 0
    assert database.write_now(lambda conn: store.drop_before(conn, 10**6)) == 1


async def test_most_looks_need_no_lease(database: Database, store: QuotaStore, clock: Clock) -> None:
    quotas = process(database, store, clock)
    await quotas.spend(VERIFIER, Role.RENTAL, numbers(1))
    database.close()  # no further lease is possible
    assert await spent(quotas, numbers(VERIFIER_CHUNK - 1, 1)) == VERIFIER_CHUNK - 1
