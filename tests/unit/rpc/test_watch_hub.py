"""Who is woken, when, and who is not."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Hashable, Mapping, Sequence

import pytest

from elicense.errors import ShuttingDown, StoreUnavailable, WatchesExhausted
from elicense.rpc.watch_hub import Subscription, WatchHub

ANNA, BERT = b"a" * 16, b"b" * 16
DEADLINE_S = 10


class Store:
    """Rows and positions, and how often they were read."""

    def __init__(self) -> None:
        self.position = 0
        self.marks: dict[bytes, int] = {}
        self.as_of: dict[int, int] = {}
        self.now_us = 1_000
        self.read: list[bytes] = []
        self.away = False
        self.looked = asyncio.Event()

    async def positions(self) -> Hashable:
        self.looked.set()
        if self.away:
            raise StoreUnavailable("away")
        return self.position

    async def read_marks(self, keys: Sequence[bytes]) -> Mapping[bytes, Hashable]:
        self.read.extend(keys)
        return {key: self.marks[key] for key in keys if key in self.marks}

    async def cities(self) -> Mapping[int, int]:
        return self.as_of

    def write(self, key: bytes) -> None:
        self.position += 1
        self.marks[key] = self.marks.get(key, 0) + 1

    async def seen(self) -> None:
        """Return once the hub has looked anew, and once more, so that the first look is done."""
        for _ in range(2):
            self.looked.clear()
            await self.looked.wait()


@pytest.fixture
def store() -> Store:
    return Store()


@pytest.fixture
async def hub(store: Store) -> AsyncIterator[WatchHub]:
    running = WatchHub(
        positions=store.positions,
        marks=store.read_marks,
        as_of=store.cities,
        clock=lambda: store.now_us,
        poll_s=0.01,
    )
    running.start()
    yield running
    await running.close()


async def settled(hub: WatchHub, store: Store, *watchers: Subscription) -> None:
    """Let the first look pass, which wakes everybody once."""
    async with asyncio.timeout(DEADLINE_S):
        for watcher in watchers:
            await watcher.wait()
            watcher.taken()
        await store.seen()
    assert not any(woken(watcher) for watcher in watchers)


def woken(watcher: Subscription) -> bool:
    return watcher._event.is_set()


async def test_only_whoever_follows_the_changed_person_is_woken(hub: WatchHub, store: Store) -> None:
    anna, bert = hub.subscribe("v", ANNA, limit=9), hub.subscribe("v", BERT, limit=9)
    await settled(hub, store, anna, bert)
    store.write(ANNA)
    async with asyncio.timeout(DEADLINE_S):
        await anna.wait()
        await store.seen()
    assert not woken(bert)


async def test_a_write_that_nobody_told_of_is_found(hub: WatchHub, store: Store) -> None:
    anna = hub.subscribe("v", ANNA, limit=9)
    await settled(hub, store, anna)
    store.write(ANNA)
    async with asyncio.timeout(DEADLINE_S):
        await anna.wait()


async def test_rows_are_read_only_when_some_log_has_moved(hub: WatchHub, store: Store) -> None:
    anna = hub.subscribe("v", ANNA, limit=9)
    await settled(hub, store, anna)
    store.read.clear()
    async with asyncio.timeout(DEADLINE_S):
        for _ in range(5):
            await store.seen()
    assert store.read == []


async def test_a_verdict_that_time_alone_would_change_is_looked_at_when_it_is_due(hub: WatchHub, store: Store) -> None:
    anna, bert = hub.subscribe("v", ANNA, limit=9), hub.subscribe("v", BERT, limit=9)
    await settled(hub, store, anna, bert)
    hub.expect(anna, due_us=2_000)
    hub.expect(bert, due_us=2_000)
    hub.expect(bert, due_us=3_000)  # the later word holds
    store.now_us = 2_000
    async with asyncio.timeout(DEADLINE_S):
        await anna.wait()
        await store.seen()
    assert not woken(bert)


async def test_a_silent_city_that_is_heard_again_wakes_those_who_wait_for_it(hub: WatchHub, store: Store) -> None:
    anna, bert = hub.subscribe("v", ANNA, limit=9), hub.subscribe("v", BERT, limit=9)
    await settled(hub, store, anna, bert)
    hub.expect(anna, due_us=9_000, silent_city=1, recovered_us=10)
    hub.expect(bert, due_us=9_000, silent_city=2, recovered_us=10)
    store.as_of = {1: 995, 2: 900}
    async with asyncio.timeout(DEADLINE_S):
        await anna.wait()
        await store.seen()
    assert not woken(bert)


async def test_what_happened_while_the_database_was_away_is_found_afterwards(hub: WatchHub, store: Store) -> None:
    anna = hub.subscribe("v", ANNA, limit=9)
    await settled(hub, store, anna)
    store.away = True
    store.write(ANNA)
    async with asyncio.timeout(DEADLINE_S):
        await store.seen()
        store.away = False
        await anna.wait()


async def test_a_verifier_has_its_own_limit_and_gets_places_back(hub: WatchHub) -> None:
    first = hub.subscribe("v", ANNA, limit=1)
    with pytest.raises(WatchesExhausted):
        hub.subscribe("v", BERT, limit=1)
    hub.subscribe("w", BERT, limit=1)
    hub.leave(first)
    hub.subscribe("v", BERT, limit=1)
    assert hub.watches == 2


async def test_many_wakings_are_one(hub: WatchHub) -> None:
    anna = hub.subscribe("v", ANNA, limit=1)
    for _ in range(1_000):
        anna.wake()
    async with asyncio.timeout(DEADLINE_S):
        await anna.wait()
    anna.taken()
    assert not woken(anna)


async def test_the_end_ends_every_watch_and_admits_no_more(hub: WatchHub) -> None:
    anna = hub.subscribe("v", ANNA, limit=1)
    await hub.close()
    with pytest.raises(ShuttingDown):
        await anna.wait()
    with pytest.raises(ShuttingDown):
        hub.subscribe("v", BERT, limit=9)
