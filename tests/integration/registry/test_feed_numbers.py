"""The numbers of cities' feeds on every kind of store, also of one that was set back beneath a running registry."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from sqlalchemy import Connection

from elicense.sql.database import Database
from elicense.v1 import replication_pb2
from registry.feed_numbers import FeedNumbers
from registry.model import NotedDisposition
from registry.store import RegistryStore, metadata
from registry.told_store import Mark
from registry.unacknowledged import Acknowledgements
from tests.integration.registry.world import SUZHOU
from tests.support.stores import EmptyStore

AWAY = replication_pb2.DISPOSITION_KIND_TRANSFERRED_AWAY
#: What a city may state, so that its feed goes on behind it.
FAR = 2**40


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
    feeds = FeedNumbers(store)

    def say(conn: Connection, first: int, count: int) -> None:
        store.feeds.add(conn, SUZHOU, 1, [(first + place, AWAY, b"", "") for place in range(count)])

    def call(conn: Connection, has: int) -> list[NotedDisposition]:
        feeds.hear(conn, SUZHOU, has)
        return feeds.answer(conn, SUZHOU, has)

    await database.write(lambda conn: say(conn, 0, 12))
    assert [word.idx for word in await database.write(lambda conn: call(conn, 0))] == list(range(12))
    assert await database.write(lambda conn: call(conn, 12)) == []

    def set_back(conn: Connection) -> None:
        """To when it had said ten words."""
        conn.exec_driver_sql("DELETE FROM disposition WHERE seq > 10")
        conn.exec_driver_sql("UPDATE disposition_feed SET seq = 10")
        store.told.reach(conn, SUZHOU, Mark.ANSWERED, 10)

    await database.write(set_back)
    await database.write(lambda conn: say(conn, 20, 3))
    said = await database.write(lambda conn: call(conn, 12))
    assert [(word.seq, word.idx) for word in said] == [(13, 20), (14, 21), (15, 22)]


async def test_numbers_that_no_word_has_are_not_gone_through(database: Database, store: RegistryStore) -> None:
    feeds = FeedNumbers(store)
    await database.write(lambda conn: store.feeds.add(conn, SUZHOU, 1, [(0, AWAY, b"", "")]))
    await database.write(lambda conn: feeds.hear(conn, SUZHOU, FAR))

    def next_behind(conn: Connection, after: int, until: int) -> int:
        return store.feeds.next_behind(conn, SUZHOU, after, until=until)

    assert await database.read(lambda conn: next_behind(conn, 0, FAR)) == FAR
    assert await database.read(lambda conn: next_behind(conn, 0, FAR + 9)) == FAR
    assert await database.read(lambda conn: next_behind(conn, FAR + 1, FAR + 9)) == FAR + 9
    assert await database.read(lambda conn: next_behind(conn, 0, 7)) == 7
    # One look is enough, however far that is.
    assert await database.read(lambda conn: Acknowledgements(store).look(conn)) == ([], True)
