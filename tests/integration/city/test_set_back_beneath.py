"""A PostgreSQL database that is set back beneath the node that uses it, which finds it so when it connects again."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from elicense import errors
from tests.integration.city.test_restore import all_is_well, restore
from tests.support.cluster import SUZHOU, City, Cluster, drivers, eventually, run_cluster
from tests.support.postgres import PostgresServer


def _name(url: str) -> str:
    return url.partition("?")[0].rpartition("/")[2]


async def _alone(server: PostgresServer, name: str) -> None:
    """Let nobody connect to a database any more, and end who is."""
    await asyncio.to_thread(server.execute, f"ALTER DATABASE {name} ALLOW_CONNECTIONS false")
    ended = f"SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE datname = '{name}'"
    await asyncio.to_thread(server.execute, ended)


async def keep(server: PostgresServer, url: str) -> None:
    """Copy a database, whose node has to do without for a moment."""
    name = _name(url)
    await _alone(server, name)
    await asyncio.to_thread(server.execute, f"CREATE DATABASE {name}_kept TEMPLATE {name} STRATEGY wal_log")
    await asyncio.to_thread(server.execute, f"ALTER DATABASE {name} ALLOW_CONNECTIONS true")


async def set_back(server: PostgresServer, url: str) -> None:
    """Put the copy in the database's place."""
    name = _name(url)
    await _alone(server, name)
    await asyncio.to_thread(server.execute, f"DROP DATABASE {name} WITH (FORCE)")
    await asyncio.to_thread(server.execute, f"ALTER DATABASE {name}_kept RENAME TO {name}")


@pytest.fixture
async def city_on_postgres(tmp_path: Path, postgres: PostgresServer) -> AsyncIterator[tuple[Cluster, City]]:
    with postgres.database() as url:
        async with run_cluster(tmp_path) as cluster:
            yield cluster, await cluster.add_city(SUZHOU, database_url=url)


@pytest.fixture
async def registry_on_postgres(tmp_path: Path, postgres: PostgresServer) -> AsyncIterator[tuple[Cluster, City]]:
    with postgres.database() as url:
        async with run_cluster(tmp_path, SUZHOU, database_url=url) as cluster:
            yield cluster, cluster.cities[SUZHOU]


async def _issue(city: City, license_: object) -> None:
    """Issue as soon as the database lets it."""

    async def issued() -> bool:
        try:
            await city.issue(license_)  # type: ignore[arg-type]
        except errors.Unavailable:
            return False
        return True

    await eventually(issued)


async def test_a_city_whose_database_was_set_back_beneath_it_signs_nothing_more_and_is_restored(
    city_on_postgres: tuple[Cluster, City], postgres: PostgresServer
) -> None:
    cluster, suzhou = city_on_postgres
    first, second, third, fourth = drivers(SUZHOU, 4)
    url = suzhou.config.database_url
    await suzhou.issue(first)
    await suzhou.replicated()
    await keep(postgres, url)
    await _issue(suzhou, second)
    await suzhou.replicated()
    await set_back(postgres, url)

    async def refused() -> bool:
        try:
            await suzhou.issue(third)
        except errors.Unavailable:
            return False
        except errors.DataLoss:
            return True
        pytest.fail("a licence was signed where another stood")

    await eventually(refused)
    await suzhou.stop()
    await restore(suzhou)
    await suzhou.start()
    await suzhou.issue(fourth)
    await suzhou.replicated()
    await all_is_well(cluster, suzhou)


async def test_a_registry_whose_database_was_set_back_beneath_it_gets_back_what_it_lacks(
    registry_on_postgres: tuple[Cluster, City], postgres: PostgresServer
) -> None:
    cluster, suzhou = registry_on_postgres
    first, second, third = drivers(SUZHOU, 3)
    url = cluster.registry_config.database.url
    await suzhou.issue(first)
    await suzhou.replicated()
    await keep(postgres, url)
    await _issue(suzhou, second)
    await suzhou.replicated()
    await suzhou.running.mirror.catch_up()
    await set_back(postgres, url)
    await _issue(suzhou, third)
    await suzhou.replicated()

    node = cluster.registry
    assert node is not None

    async def decides() -> bool:
        return node.metrics.get_sample_value("elicense_log_stopped") == 0

    await eventually(decides)
    # It signed one history, and accuses itself of nothing at its next start.
    assert not cluster.registry_config.stop_mark_path.exists()
    await all_is_well(cluster, suzhou)
