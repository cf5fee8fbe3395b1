"""The numbers of cities' feeds on every kind of store, also of one that was set back beneath a running registry."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import pytest
from sqlalchemy import Connection

from elicense.clock import SECOND_US
from elicense.errors import Error, QuotaExceeded, SequenceGap, SignatureInvalid, SlotNotHeld
from elicense.sql.database import Database
from elicense.v1 import replication_pb2
from elicense.v1.replication_pb2 import AppendEntriesRequest
from elicense.verification.told import Told, sign_told
from registry.feed_numbers import RENUMBERED_EVERY_US, FeedNumbers
from registry.model import NotedDisposition
from registry.store import RegistryStore, metadata
from registry.told_store import Mark
from registry.unacknowledged import Acknowledgements, Looked
from tests.integration.registry.world import SUZHOU, World
from tests.support.city import City
from tests.support.stores import EmptyStore

AWAY = replication_pb2.DISPOSITION_KIND_TRANSFERRED_AWAY
#: What a city may state, so that its feed goes on behind it.
FAR = 2**40
NUMBERS = ("11010519491231002X", "320500199003070134", "44052418800101001X")


@dataclass
class Node:
    """A registry as far as it numbers words.

    Attributes:
        database: Its database.
        store: Its tables.
        now_us: What its clock shows.
    """

    database: Database
    store: RegistryStore
    now_us: int = 0

    def __post_init__(self) -> None:
        self.feeds = FeedNumbers(self.store, clock=lambda: self.now_us)

    async def say(self, first: int, count: int) -> None:
        notes = [(first + place, AWAY, b"", "") for place in range(count)]
        await self.database.write(lambda conn: self.store.feeds.add(conn, SUZHOU, 1, notes))

    async def call(self, has: int) -> list[NotedDisposition]:
        def answer(conn: Connection) -> list[NotedDisposition]:
            self.feeds.require_due(conn, SUZHOU, has)
            return self.feeds.answer(conn, SUZHOU, has, answered=self.feeds.hear(conn, SUZHOU, has))

        return await self.database.write(answer)


@pytest.fixture
def database(empty_store: EmptyStore) -> Iterator[Database]:
    opened = Database(empty_store.create(metadata))
    yield opened
    opened.close()


@pytest.fixture
def store() -> RegistryStore:
    return RegistryStore()


async def test_what_a_database_that_was_set_back_beneath_a_running_registry_says_anew_is_heard(
    database: Database, store: RegistryStore
) -> None:
    node = Node(database, store)
    await node.say(0, 12)
    assert [word.idx for word in await node.call(0)] == list(range(12))
    assert await node.call(12) == []

    def set_back(conn: Connection) -> None:
        """To when it had said ten words."""
        conn.exec_driver_sql("DELETE FROM disposition WHERE seq > 10")
        conn.exec_driver_sql("UPDATE disposition_feed SET seq = 10")
        store.told.reach(conn, SUZHOU, Mark.ANSWERED, 10)

    await database.write(set_back)
    await node.say(20, 3)
    said = await node.call(12)
    assert [(word.seq, word.idx) for word in said] == [(13, 20), (14, 21), (15, 22)]


async def test_a_city_that_says_again_and_again_that_it_has_more_is_renumbered_now_and_then_and_loses_nothing(
    database: Database, store: RegistryStore
) -> None:
    node = Node(database, store)
    await node.say(0, 3)
    assert [word.seq for word in await node.call(FAR)] == [FAR + 1, FAR + 2, FAR + 3]
    await node.say(3, 2)
    with pytest.raises(QuotaExceeded) as refused:
        await node.call(2 * FAR)
    assert refused.value.metadata["retryAfterSeconds"] == "300"
    # Whoever says what is true is answered all the while.
    assert [(word.seq, word.idx) for word in await node.call(FAR + 3)] == [(FAR + 4, 3), (FAR + 5, 4)]
    await node.say(5, 1)
    node.now_us += RENUMBERED_EVERY_US - SECOND_US
    with pytest.raises(QuotaExceeded):
        await node.call(2 * FAR)
    node.now_us += SECOND_US
    assert [(word.seq, word.idx) for word in await node.call(2 * FAR)] == [(2 * FAR + 1, 5)]


def beyond_what_is_held(city: City) -> AppendEntriesRequest:
    return city.batch(2)


def of_less_than_is_held(city: City) -> AppendEntriesRequest:
    return city.batch(0, 0, checkpoint=b"", tip_size=0)


def with_a_slot_emptied(city: City) -> AppendEntriesRequest:
    return replace(city, emptied={1}, receipt=(0, b"")).batch(1, 2)


def with_a_word_that_it_has_not_signed(city: City) -> AppendEntriesRequest:
    signed = sign_told(Told(city.origin, 1, 1, 0), city.signer)
    changed = sign_told(Told(city.origin, 2, 1, 0), city.signer)
    request = city.batch(1)
    request.told.append(signed.partition(b"\n\n")[0] + b"\n\n" + changed.partition(b"\n\n")[2])
    return request


@pytest.mark.parametrize(
    ("call", "refusal"),
    [
        (beyond_what_is_held, SequenceGap),
        (of_less_than_is_held, SequenceGap),
        (with_a_slot_emptied, SlotNotHeld),
        (with_a_word_that_it_has_not_signed, SignatureInvalid),
    ],
)
async def test_a_call_that_is_refused_has_no_words_numbered_anew(
    world: World, call: Callable[[City], AppendEntriesRequest], refusal: type[Error]
) -> None:
    city = await world.city(SUZHOU)
    city.issue(NUMBERS[0])
    await city.replicate()
    for number in NUMBERS[1:]:
        city.issue(number)
    refused = call(city)
    refused.dispositions_after = 2 * FAR
    with pytest.raises(refusal):
        await city.send(refused)
    # Nothing was done, and so the city need not wait for it.
    assert (await city.send(city.batch(1, dispositions_after=FAR), keep_feed=False)).next_index == city.size
    # Now it was, and who would have it again is refused before what is held is compared.
    again = of_less_than_is_held(city)
    again.dispositions_after = 2 * FAR
    for _ in range(2):
        with pytest.raises(QuotaExceeded):
            await city.send(again)
    assert not world.fsck().findings


async def test_numbers_that_no_word_has_are_not_gone_through(database: Database, store: RegistryStore) -> None:
    node = Node(database, store)
    await node.say(0, 1)
    await node.call(FAR)

    def next_behind(conn: Connection, after: int, until: int) -> int:
        return store.feeds.next_behind(conn, SUZHOU, after, until=until)

    assert await database.read(lambda conn: next_behind(conn, 0, FAR)) == FAR
    assert await database.read(lambda conn: next_behind(conn, 0, FAR + 9)) == FAR
    assert await database.read(lambda conn: next_behind(conn, FAR + 1, FAR + 9)) == FAR + 9
    assert await database.read(lambda conn: next_behind(conn, 0, 7)) == 7
    # One look is enough, however far that is.
    assert await database.read(lambda conn: Acknowledgements(store).look(conn)) == Looked([], {}, is_whole=True)
