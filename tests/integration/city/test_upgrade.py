"""A city's database that an older release wrote is brought to this release's schema, and the city goes on with it."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

import elicense.cli.upgrade
from city_node.app import build
from city_node.cli import main
from city_node.store import metadata
from elicense.errors import StoreUnavailable
from elicense.sql.engines import sqlite_url
from elicense.sql.migrations import missing, take_step, upgrade
from elicense.sql.schema import create_tables
from elicense.sql.schema_version import is_current, transaction
from elicense.workers.node_lock import NodeBusy, alone
from tests.integration.city.test_issuance import set_status, suspension
from tests.support.cluster import SUZHOU, City, drivers
from tests.support.older import Died, migrated_url, rows, shape, wait_for_nobody, write_as_older
from tests.support.postgres import PostgresServer
from tests.support.stores import EmptyStore

OLDEST = "0001"


@pytest.fixture
def url(empty_store: EmptyStore) -> str:
    """An empty database of each kind that migrations make."""
    return migrated_url(empty_store)


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    wait_for_nobody(monkeypatch)


async def run(city: City, verb: str, *arguments: str) -> Result:
    config = str(city.folder / "config.toml")
    return await asyncio.to_thread(CliRunner().invoke, main, [verb, "--config", config, *arguments])


async def written_by_the_first_release(suzhou: City, url: str) -> None:
    """Issue, suspend, wait for the registry, end the node, and put what it holds into tables of the first release."""
    first, second = drivers(SUZHOU, 2)
    issued = (await suzhou.issue(first)).license
    await set_status(suzhou, issued.name, add_letters=[suspension()])
    await suzhou.issue(second)
    await suzhou.replicated()
    await suzhou.stop()
    write_as_older(suzhou.config.database_url, url, "city_node", OLDEST)
    with (suzhou.folder / "config.toml").open("a", encoding="utf-8") as file:
        file.write(f'\n[database]\nurl = "{url}"\n')
    section = suzhou.config.database.model_copy(update={"url": url})
    suzhou.config = suzhou.config.model_copy(update={"database": section})


async def test_a_city_of_the_first_release_goes_on_in_this_one(suzhou: City, url: str) -> None:
    await written_by_the_first_release(suzhou, url)
    with pytest.raises(StoreUnavailable, match="elicense-city upgrade"):
        await suzhou.start()
    for verb in ("status", "fsck", "check-config", "restore"):
        refused = await run(suzhou, verb)
        assert refused.exit_code == 1
        assert "`elicense-city upgrade`" in refused.output
    done = await run(suzhou, "upgrade", "--yes")
    assert done.exit_code == 0, done.output
    assert is_current(url, "city_node")
    clean = await run(suzhou, "fsck")
    assert clean.exit_code == 0, clean.output
    await suzhou.start()
    (wanted,) = drivers(SUZHOU, 1, seed=7)
    await suzhou.issue(wanted)
    await suzhou.replicated()
    again = await run(suzhou, "upgrade")
    assert "already" in again.output
    clean = await run(suzhou, "fsck")
    assert clean.exit_code == 0, clean.output


async def test_an_upgrade_that_ends_between_any_two_steps_loses_nothing(
    suzhou: City, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await written_by_the_first_release(suzhou, url)
    kept, left = rows(url), len(missing(url, "city_node"))

    def once(at: str, package: str, to: str, **step: Any) -> None:
        take_step(at, package, to, **step)
        raise Died

    with monkeypatch.context() as dying:
        dying.setattr(elicense.cli.upgrade, "take_step", once)
        for done in range(1, left + 1):
            with pytest.raises(Died):
                await run(suzhou, "upgrade", "--yes")
            assert len(missing(url, "city_node")) == left - done
    again = await run(suzhou, "upgrade")
    assert "already" in again.output
    found = rows(url)
    # What a word says of another city was not kept before.
    assert {name: len(found[name]) for name in kept} == {name: len(held) for name, held in kept.items()}
    assert {name: found[name] for name in kept if name != "disposition"} == {
        name: held for name, held in kept.items() if name != "disposition"
    }
    assert (await run(suzhou, "fsck")).exit_code == 0


async def test_a_city_that_runs_or_is_of_a_newer_release_is_not_upgraded(suzhou: City) -> None:
    url = suzhou.config.database_url

    def claim(number: str) -> None:
        with transaction(url) as conn:
            conn.exec_driver_sql("UPDATE alembic_version SET version_num = ?", (number,))

    claim("0007")
    refused = await run(suzhou, "upgrade", "--yes")
    assert refused.exit_code == 1
    assert "NODE_BUSY" in refused.output
    claim("0999")
    refused = await run(suzhou, "upgrade", "--yes")
    assert refused.exit_code == 1
    assert "a newer release wrote it" in refused.output


async def test_a_city_on_which_a_command_works_starts_once_that_has_ended(suzhou: City) -> None:
    await suzhou.stop()
    node = await build(suzhou.config)
    with alone(suzhou.config.data_dir), pytest.raises(NodeBusy, match="start it once that has ended"):
        await node.start()
    await node.start()
    await node.stop(grace_s=0)


async def test_a_city_that_was_put_together_before_an_upgrade_does_not_start_after_it(suzhou: City) -> None:
    await suzhou.stop()
    node = await build(suzhou.config)
    with transaction(suzhou.config.database_url) as conn:
        conn.exec_driver_sql("UPDATE alembic_version SET version_num = '0999'")
    with pytest.raises(StoreUnavailable, match="a newer release wrote it"):
        await node.start()
    await node.stop(grace_s=0)


def test_the_schema_after_an_upgrade_is_the_one_that_is_made_fresh(
    url: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    upgrade(url, "city_node", to=OLDEST)
    for step in missing(url, "city_node"):
        upgrade(url, "city_node", to=step.number)
    if url.startswith("sqlite"):
        create_tables(sqlite_url(tmp_path / "fresh.db"), metadata)
        assert shape(url) == shape(sqlite_url(tmp_path / "fresh.db"))
        return
    server: PostgresServer = request.getfixturevalue("postgres")
    with server.database() as fresh:
        create_tables(fresh, metadata)
        assert shape(url) == shape(fresh)
