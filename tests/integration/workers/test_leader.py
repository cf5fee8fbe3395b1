"""Leases on each kind of store, and who leads by them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from itertools import pairwise

import pytest
from sqlalchemy import MetaData

from elicense.clock import utc_micros
from elicense.sql.database import Database
from elicense.workers.leader import LEASE_US, LeasedLeadership
from elicense.workers.lease_store import LeaseStore, define_lease_table
from tests.support.stores import EmptyStore

NAME = "city-320500"


@pytest.fixture
def leases(empty_store: EmptyStore) -> Iterator[tuple[Database, LeaseStore]]:
    metadata = MetaData()
    store = LeaseStore(define_lease_table(metadata))
    database = Database(empty_store.create(metadata))
    yield database, store
    database.close()


def test_a_lease_is_held_by_one_until_it_ends_or_is_given_back(leases: tuple[Database, LeaseStore]) -> None:
    database, store = leases

    def take(holder: str, now_us: int) -> bool:
        return database.write_now(lambda conn: store.take(conn, NAME, holder, now_us=now_us, until_us=now_us + 10))

    assert take("a", 100)
    assert not take("b", 109)
    assert take("a", 105), "its holder may make it last longer"
    assert not take("b", 114)
    assert take("b", 115), "it has ended"
    assert not take("a", 116)
    database.write_now(lambda conn: store.give_back(conn, NAME, "a"))
    assert not take("a", 117), "whoever does not hold it can not give it back"
    database.write_now(lambda conn: store.give_back(conn, NAME, "b"))
    assert take("a", 118)


async def test_of_many_one_leads_and_another_follows_it(leases: tuple[Database, LeaseStore]) -> None:
    database, store = leases
    history: list[tuple[str, str]] = []
    began = asyncio.Event()

    def one(holder: str) -> LeasedLeadership:
        leadership = LeasedLeadership(database=database, store=store, name=NAME, holder=holder, clock=utc_micros)

        def begin() -> None:
            history.append((holder, "begins"))
            began.set()

        leadership.start(begin, lambda: history.append((holder, "ends")))
        return leadership

    both = {holder: one(holder) for holder in ("a", "b")}
    async with asyncio.timeout(LEASE_US / 1_000_000 * 4):
        await began.wait()
        (first, _) = history[0]
        assert [holder for holder, each in both.items() if each.leads] == [first]
        began.clear()
        await both.pop(first).close()
        await began.wait()
    (second,) = both
    assert history == [(first, "begins"), (second, "begins")]
    assert both[second].leads
    await both[second].close()
    assert all(earlier != later for earlier, later in pairwise(history))


async def test_a_leader_that_loses_its_lease_stops_its_work(leases: tuple[Database, LeaseStore]) -> None:
    database, store = leases
    began, ended = asyncio.Event(), asyncio.Event()
    leadership = LeasedLeadership(database=database, store=store, name=NAME, holder="a", clock=utc_micros)
    leadership.start(began.set, ended.set)
    async with asyncio.timeout(LEASE_US / 1_000_000 * 4):
        await began.wait()
        now_us = utc_micros() + 2 * LEASE_US
        # Another machine, whose clock is ahead.
        assert await database.write(lambda conn: store.take(conn, NAME, "b", now_us=now_us, until_us=now_us + LEASE_US))
        await ended.wait()
    assert not leadership.leads
    await leadership.close()
