"""What one call to the registry carries."""

from __future__ import annotations

from types import SimpleNamespace
from typing import cast

import pytest

from city_node.batches import BatchReader
from city_node.store import CityStore
from tests.integration.log.world import KEY, LogWorld


@pytest.mark.parametrize(
    ("start", "wanted", "ends"),
    [
        (0, 0, 107),  # as many as a call carries
        (0, 1, 2),  # a commit goes whole
        (0, 6, 5),  # as many commits as fit
        (5, 50, 105),  # one that has more than was wanted
        (105, 50, 107),
        (107, 50, 107),  # a heartbeat
    ],
)
async def test_a_registry_that_is_busy_gets_fewer_entries_but_whole_commits(
    sqlite_world: LogWorld, start: int, wanted: int, ends: int
) -> None:
    writer = await sqlite_world.started()
    for commit, count in enumerate((2, 3, 100, 2)):
        await writer.submit(b"many:%d:%d" % (count, commit), weight=count)
    store = cast("CityStore", SimpleNamespace(logs=sqlite_world.store))
    batches = BatchReader(database=sqlite_world.database, store=store, sign=lambda *_: b"note", max_entries=200)
    batch = await batches.read(KEY, start, wanted=wanted)
    assert batch.size == ends
    assert len(batch.entries) == ends - start


async def test_a_registry_that_lost_what_ends_within_a_commit_gets_the_whole_commit(sqlite_world: LogWorld) -> None:
    writer = await sqlite_world.started()
    for commit, count in enumerate((5, 100, 2)):
        await writer.submit(b"many:%d:%d" % (count, commit), weight=count)
    logs = sqlite_world.store
    await sqlite_world.database.write(lambda conn: logs.commits.store_cosigned(conn, KEY, 50, b"receipt"))
    store = cast("CityStore", SimpleNamespace(logs=logs))
    batches = BatchReader(database=sqlite_world.database, store=store, sign=lambda *_: b"note", max_entries=200)
    batch = await batches.read(KEY, 5)
    assert (batch.size, len(batch.entries)) == (105, 100)
    assert batch.held_before is not None
    assert (await batches.read(KEY, 107)).entries == []
