"""A registry of several processes that was set back gets its log back, over the death of the one that takes it in."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from city_node.config import load_city_config
from city_node.store import CityStore
from elicense.log.model import LogKey, StoredEntry
from elicense.sql.database import Database
from registry.config import load
from registry.store import RegistryStore
from tests.support.postgres import PostgresServer
from tests.support.served import Pair, pair, until
from tests.system.test_workers import counter, people

WORKERS = 2
_OWN = LogKey(0, 1)


@contextmanager
def looking(url: str, store: RegistryStore | CityStore) -> Iterator[Callable[[], list[StoredEntry]]]:
    """Read the registry's own log beside the processes of a node."""
    database = Database(url, readers=1, writers=1)
    try:
        yield lambda: database.read_now(lambda conn: store.logs.entries(conn, _OWN, 0, 10_000))
    finally:
        database.close()


async def issue(served: Pair, count: int, seed: int) -> None:
    async with counter(served) as clerks:
        await clerks.issue_all(people(count, seed))


def test_a_set_back_registry_of_several_processes_gets_its_log_back_over_the_death_of_one(
    tmp_path: Path, postgres: PostgresServer
) -> None:
    with pair(tmp_path, workers=WORKERS, postgres=postgres) as served:
        registry = served.registry
        own = load(Path(registry.config)).database.url
        name = own.partition("?")[0].rpartition("/")[2]
        assert registry.stop() == 0
        postgres.execute(f"CREATE DATABASE {name}_kept TEMPLATE {name}")
        restart(served)
        asyncio.run(issue(served, 6, seed=5))
        decided = mirrored_whole(served, own)
        postgres.execute(f"DROP DATABASE {name} WITH (FORCE)")
        postgres.execute(f"ALTER DATABASE {name}_kept RENAME TO {name}")
        restart(served)
        with looking(own, RegistryStore()) as held:
            registry.kill(2)
            until(lambda: held()[: len(decided)] == decided, "every decision is back")
            # The city asks for each person first: whichever process answers, it decides again.
            asyncio.run(issue(served, 6, seed=6))
            until(lambda: len(held()) > len(decided), "the registry decides again")
        assert registry.stop() == 0
        registry.run("fsck", "--config", registry.config)


def restart(served: Pair) -> None:
    # What it said before must not count as said now.
    served.registry.log.unlink()
    served.registry.start(WORKERS)


def mirrored_whole(served: Pair, own: str) -> list[StoredEntry]:
    """Stop the registry once the city has mirrored everything; return all that it decided."""
    mirror = load_city_config(Path(served.city.config)).database_url
    with looking(own, RegistryStore()) as held, looking(mirror, CityStore()) as mirrored:
        while True:
            until(lambda: mirrored() == held(), "the mirror is whole")
            assert served.registry.stop() == 0
            if mirrored() == held():
                return held()
            restart(served)  # a vector of heads came last
