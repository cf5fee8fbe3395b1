"""A registry's database that an older release wrote is brought to this release's schema, and nothing is lost."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import click
import pytest
from alembic import op
from click.testing import CliRunner, Result
from sqlalchemy import Connection, column, table

import elicense.cli.upgrade
import elicense.sql.engines
import registry.cli.upgrade
from elicense.errors import StoreUnavailable
from elicense.sql.database import Database
from elicense.sql.engines import sqlite_url
from elicense.sql.migrations import missing, take_step, upgrade
from elicense.sql.schema import create_tables
from elicense.sql.schema_version import held_revision, is_current, newest, transaction
from elicense.v1 import verification_pb2
from elicense.workers.node_lock import NodeBusy, hold_serving
from registry.app import build
from registry.cli import main
from registry.config import load
from registry.older_release import fill_from_logs
from registry.store import RegistryStore, access_metadata, metadata
from tests.integration.registry.world import CHENGDU, SUZHOU, TIANJIN, World, set_up
from tests.support.city import DEADLINE_S
from tests.support.older import Died, migrated_url, rows, shape, wait_for_nobody, write_as_older
from tests.support.postgres import PostgresServer
from tests.support.stores import EmptyStore

FIRST, OTHER_PERSON = bytes([1]) * 16, bytes([2]) * 16
LICENSE, UNHEARD = bytes([3]) * 16, bytes([4]) * 16
NUMBERS = [f"11010519900101{number:04d}" for number in range(6)]
RENUMBERED = "110101199003074514"
VALID, INVALID = verification_pb2.OUTCOME_VALID, verification_pb2.OUTCOME_INVALID


@pytest.fixture
def url(empty_store: EmptyStore) -> str:
    """An empty database of each kind that migrations make."""
    return migrated_url(empty_store)


@pytest.fixture
def config(url: str, tmp_path: Path) -> Path:
    """Configuration of a registry whose database is at ``url``."""
    return configured(tmp_path / "node", url)


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    wait_for_nobody(monkeypatch)


def configured(folder: Path, url: str) -> Path:
    held = set_up(folder)
    return pointed_at(folder / "config.toml", held.database.url, url)


def pointed_at(path: Path, before: str, url: str) -> Path:
    text = path.read_text(encoding="utf-8")
    assert before in text
    path.write_text(text.replace(before, url), encoding="utf-8")
    return path


def run(verb: str, config: Path, *arguments: str, typed: str | None = None) -> Result:
    return CliRunner().invoke(main, [verb, "--config", str(config), *arguments], input=typed)


def put(conn: Connection, name: str, *found: Mapping[str, object]) -> None:
    """Insert rows as code of that time did: with the columns that there were."""
    conn.execute(table(name, *map(column, found[0])).insert(), list(found))


def fill_as_the_first_release(url: str) -> None:
    """Write rows of each schema on the way, each as the release with that schema had them."""
    upgrade(url, "registry", to="0001")
    with transaction(url) as conn:
        put(
            conn,
            "city_state",
            # One that was heard to its end, one of whose clock was fast, one that is behind.
            state(SUZHOU, next_index=7, tip_size=7, city_clock_us=900, received_us=1_000),
            state(TIANJIN, next_index=5, tip_size=5, city_clock_us=9_000, received_us=2_000),
            state(CHENGDU, next_index=3, tip_size=8, city_clock_us=800, received_us=3_000),
        )
        put(conn, "disposition_feed", {"city": SUZHOU, "seq": 4}, {"city": CHENGDU, "seq": 1})
        word = {"epoch": 1, "idx": 6, "kind": 1, "license_id": LICENSE, "detail": "it counts"}
        put(conn, "disposition", {"city": SUZHOU, "seq": 4, **word})
        # An id is each city's own choice: two persons may have licences of one id.
        put(conn, "license_revision", revision(SUZHOU, 0, FIRST), revision(SUZHOU, 1, FIRST))
        put(conn, "license_revision", revision(CHENGDU, 0, OTHER_PERSON))
    upgrade(url, "registry", to="0004")
    with transaction(url) as conn:
        ruling = {"before": 1, "after": 0}
        put(conn, "license_ruling", {"license_id": LICENSE, "decided_us": 50, **ruling})
        put(conn, "license_ruling", {"license_id": LICENSE, "decided_us": 60, **ruling})
        put(conn, "license_ruling", {"license_id": UNHEARD, "decided_us": 70, **ruling})
    upgrade(url, "registry", to="0008")
    with transaction(url) as conn:
        put(conn, "transfer_offer", OFFER)


def state(city: int, **found: int) -> dict[str, object]:
    return {"city": city, "epoch": 1, "recorded_us": 5, **found}


def revision(city: int, index: int, person: bytes) -> dict[str, object]:
    place = {"license_id": LICENSE, "city": city, "epoch": 1, "idx": index, "revision": index + 1, "event": 1}
    return {**place, "effective_us": 1, "recorded_us": 2, "received_us": 3, "person_key": person}


OFFER: dict[str, object] = {
    "to_city": CHENGDU,
    "license_id": LICENSE,
    "from_city": SUZHOU,
    "epoch": 1,
    "idx": 6,
    "offered_us": 40,
    "person_key": FIRST,
}


def held(url: str, name: str, *columns: str) -> set[tuple[Any, ...]]:
    with transaction(url) as conn:
        return {tuple(row) for row in conn.exec_driver_sql(f"SELECT {', '.join(columns)} FROM {name}")}


def check_what_was_filled(url: str) -> None:
    assert is_current(url, "registry")
    assert held(url, "transfer_offer", *OFFER) == {tuple(OFFER.values())}
    assert held(url, "license_ruling", "license_id", "person_key", "decided_us", "before", "after") == {
        (LICENSE, person, decided_us, 1, 0) for person in (FIRST, OTHER_PERSON) for decided_us in (50, 60)
    }
    clocks = ("city_clock_us", "received_us", "as_of_us", "awaited_size", "awaited_us")
    assert held(url, "city_state", "city", "next_index", "tip_size", *clocks) == {
        (SUZHOU, 7, 7, 900, 1_000, 900, 7, 900),
        (TIANJIN, 5, 5, 9_000, 2_000, 2_000, 5, 2_000),
        (CHENGDU, 3, 8, 800, 3_000, 0, 8, 800),
    }
    assert held(url, "feed_mark", "city", "what", "epoch", "seq") == {(SUZHOU, 4, 0, 4), (CHENGDU, 4, 0, 1)}
    assert held(url, "disposition", "city", "seq", "other_city") == {(SUZHOU, 4, None)}
    assert len(held(url, "license_revision", "license_id", "city", "epoch", "idx")) == 3


def test_what_the_first_release_wrote_is_there_in_the_schema_of_this_one(url: str, config: Path) -> None:
    fill_as_the_first_release(url)
    done = run("upgrade", config, "--yes")
    assert done.exit_code == 0, done.output
    assert "0013  Keep rulings by person too" in done.output
    check_what_was_filled(url)
    assert run("check-config", config).exit_code == 0
    kept = rows(url)
    again = run("upgrade", config)
    assert again.exit_code == 0
    assert f"already, {newest('registry')}" in again.output
    assert rows(url) == kept


def test_the_schema_after_an_upgrade_is_the_one_that_is_made_fresh(
    url: str, config: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    upgrade(url, "registry", to="0001")
    assert run("upgrade", config, "--yes").exit_code == 0
    if url.startswith("sqlite"):
        create_tables(sqlite_url(tmp_path / "fresh.db"), metadata)
        assert shape(url) == shape(sqlite_url(tmp_path / "fresh.db"))
        return
    server: PostgresServer = request.getfixturevalue("postgres")
    with server.database() as fresh:
        create_tables(fresh, metadata)
        assert shape(url) == shape(fresh)


def test_an_upgrade_that_ends_between_any_two_steps_is_gone_on_with(
    url: str, config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill_as_the_first_release(url)
    left = [step.number for step in missing(url, "registry")]

    def once(at: str, package: str, to: str, **step: Any) -> None:
        take_step(at, package, to, **step)
        raise Died

    with monkeypatch.context() as dying:
        dying.setattr(elicense.cli.upgrade, "take_step", once)
        while left:
            with pytest.raises(Died):
                run("upgrade", config, "--yes")
            left.pop(0)
            assert [step.number for step in missing(url, "registry")] == left
    assert run("upgrade", config, "--yes").exit_code == 0
    check_what_was_filled(url)


@pytest.mark.parametrize("number", ["0012", "0013", "0016"])
def test_an_upgrade_that_ends_while_a_table_is_made_anew_leaves_the_one_before(
    url: str, config: Path, number: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill_as_the_first_release(url)
    before = [step.number for step in missing(url, "registry")]
    upgrade(url, "registry", to=before[before.index(number) - 1])
    filled, shaped = rows(url), shape(url)

    def die(*_: object) -> None:
        raise Died

    with monkeypatch.context() as dying:
        dying.setattr(op, "bulk_insert", die)
        with pytest.raises(Died):
            run("upgrade", config, "--yes")
    assert missing(url, "registry")[0].number == number
    assert (rows(url), shape(url)) == (filled, shaped)
    assert run("upgrade", config, "--yes").exit_code == 0
    check_what_was_filled(url)


def test_every_command_that_needs_the_schema_names_the_one_that_makes_it(url: str, config: Path) -> None:
    upgrade(url, "registry", to="0012")
    for verb in ("serve", "fsck", "check-config"):
        refused = subprocess.run(
            [sys.executable, "-m", "registry.cli", verb, "--config", str(config)],
            capture_output=True,
            text=True,
            timeout=DEADLINE_S,
            check=False,
        )
        assert refused.returncode == 1
        assert "older release, 0012" in refused.stderr
        assert "`elicense-registry upgrade`" in refused.stderr


def test_a_database_of_a_newer_release_is_refused_and_left_as_it_is(url: str, config: Path) -> None:
    upgrade(url, "registry")
    with transaction(url) as conn:
        conn.exec_driver_sql("UPDATE alembic_version SET version_num = '0999'")
    kept = rows(url)
    for verb in ("upgrade", "fsck", "check-config"):
        refused = run(verb, config)
        assert refused.exit_code == 1
        assert "a newer release wrote it" in refused.output
    assert rows(url) == kept


def test_a_database_of_a_city_or_of_nobody_is_not_upgraded(url: str, config: Path) -> None:
    if url.startswith("postgresql"):
        assert "no release has set up" in run("upgrade", config, "--yes").output
    upgrade(url, "city_node", to="0005")
    kept = shape(url)
    refused = run("upgrade", config, "--yes")
    assert refused.exit_code == 1
    assert "the one of another node" in refused.output
    assert shape(url) == kept


def test_a_database_that_somebody_works_with_is_not_upgraded(url: str, config: Path) -> None:
    upgrade(url, "registry", to="0012")
    node = Database(url)
    try:
        node.read_now(lambda conn: conn.exec_driver_sql("SELECT 1").scalar_one())
        refused = run("upgrade", config, "--yes")
        assert refused.exit_code == 1
        assert "DATABASE_IN_USE" in refused.output
        assert missing(url, "registry")[0].number == "0013"
    finally:
        node.close()
    assert run("upgrade", config, "--yes").exit_code == 0


def as_it_asks(monkeypatch: pytest.MonkeyPatch, do: Callable[[], None]) -> None:
    """Have something done while an upgrade waits for the answer, which is yes."""

    def confirm(*_: object, **__: object) -> bool:
        do()
        return True

    monkeypatch.setattr(click, "confirm", confirm)


def test_no_node_of_the_same_folder_is_served_while_an_upgrade_waits_for_its_answer(
    url: str, config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    upgrade(url, "registry", to="0012")
    folder = load(config).node.data_dir

    def start() -> None:
        with pytest.raises(NodeBusy, match="a command works on this node"):
            hold_serving(folder)

    as_it_asks(monkeypatch, start)
    done = run("upgrade", config)
    assert done.exit_code == 0, done.output
    os.close(hold_serving(folder))


def test_a_node_that_heeds_no_lock_and_comes_while_an_upgrade_waits_is_noticed_before_the_first_step(
    url: str, config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    upgrade(url, "registry", to="0012")
    kept = rows(url)
    node = Database(url)
    as_it_asks(monkeypatch, lambda: node.read_now(lambda _: None))
    try:
        refused = run("upgrade", config)
    finally:
        node.close()
    assert refused.exit_code == 1
    assert "DATABASE_IN_USE" in refused.output
    assert missing(url, "registry")[0].number == "0013"
    assert rows(url) == kept


def test_a_node_that_heeds_no_lock_and_comes_during_a_step_can_not_start(
    url: str, config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    upgrade(url, "registry", to="0020")
    monkeypatch.setattr(elicense.sql.engines, "LOCK_WAIT_S", 1)

    def start(conn: Connection, store: RegistryStore) -> None:
        with pytest.raises(StoreUnavailable):
            held_revision(url, "registry")
        fill_from_logs(conn, store)

    monkeypatch.setattr(registry.cli.upgrade, "fill_from_logs", start)
    done = run("upgrade", config, "--yes")
    assert done.exit_code == 0, done.output
    assert is_current(url, "registry")


async def test_a_registry_that_was_put_together_before_an_upgrade_does_not_start_after_it(world: World) -> None:
    await world.node.stop(grace_s=0)
    world.node = await build(world.config, clock=world.clock)
    with transaction(world.config.database.url) as conn:
        conn.exec_driver_sql("UPDATE alembic_version SET version_num = '0999'")
    with pytest.raises(StoreUnavailable, match="a newer release wrote it"):
        await world.node.start()


def test_without_a_backup_nothing_is_changed(url: str, config: Path, tmp_path: Path) -> None:
    fill_as_the_first_release(url)
    kept = rows(url)
    asked = run("upgrade", config, typed="n\n")
    assert asked.exit_code == 1
    assert "Only a backup leads back" in asked.output
    assert rows(url) == kept
    copied = run("upgrade", config, "--backup", str(tmp_path / "before.db"))
    if url.startswith("postgresql"):
        assert "BACKUP_ELSEWHERE" in copied.output
        assert rows(url) == kept
        assert run("upgrade", config, typed="y\n").exit_code == 0
    else:
        assert copied.exit_code == 0
        assert rows(sqlite_url(tmp_path / "before.db")) == kept
    check_what_was_filled(url)


def test_tables_that_the_access_log_lacks_are_added(url: str, config: Path) -> None:
    upgrade(url, "registry", to="0012")
    access_url = load(config).access_log.url
    wanted = shape(access_url)
    last = access_metadata.sorted_tables[-1].name
    with transaction(access_url) as conn:
        conn.exec_driver_sql(f"DROP TABLE {last}")
    assert run("upgrade", config, "--yes").exit_code == 0
    assert shape(access_url) == wanted


async def test_a_registry_of_an_older_release_goes_on_in_this_one(world: World, url: str) -> None:
    suzhou, tianjin = await world.city(SUZHOU), await world.city(TIANJIN)
    claims = await suzhou.claim(*NUMBERS)
    licenses = [suzhou.issue(number, claim=claim) for number, claim in zip(NUMBERS, claims, strict=True)]
    await suzhou.replicate()
    suzhou.change(licenses[0], ["D"])
    suzhou.change(licenses[1], ["F"])
    suzhou.offer(licenses[2], CHENGDU)
    suzhou.renumber(licenses[3], RENUMBERED, (await suzhou.claim(RENUMBERED))[0])
    await suzhou.replicate()
    tianjin.issue(NUMBERS[4])
    tianjin.issue("44052418800101001X")
    await tianjin.replicate()
    await tianjin.decided(2)
    police = await world.verifier()
    await world.node.stop(grace_s=0)
    before = world.config.database.url
    write_as_older(before, url, "registry", "0011")
    assert held(url, "license_ruling", "license_id")
    assert held(url, "transfer_offer", "license_id")
    config = pointed_at(world.config.node.data_dir / "config.toml", before, url)

    done = await asyncio.to_thread(run, "upgrade", config, "--yes")
    assert done.exit_code == 0, done.output
    clean = await asyncio.to_thread(run, "fsck", config)
    assert clean.exit_code == 0, clean.output
    database = world.config.database.model_copy(update={"url": url})
    world.config = world.config.model_copy(update={"database": database})
    await world.start_again()
    suzhou.change(licenses[5], ["D"])
    await suzhou.replicate()
    told = {number: (await police.ask(number)).outcome for number in NUMBERS}
    assert {number for number in NUMBERS if told[number] == VALID} == set(NUMBERS[2:5])
    assert {number for number in NUMBERS if told[number] == INVALID} == {*NUMBERS[:2], NUMBERS[5]}
    await police.channel.close()
    clean = await asyncio.to_thread(run, "fsck", config)
    assert clean.exit_code == 0, clean.output


@pytest.mark.parametrize("number", ["0001", "0008"])
async def test_bars_conflicts_rulings_and_public_heads_of_before_their_tables_are_brought_out_of_the_log(
    world: World, url: str, number: str
) -> None:
    suzhou, tianjin = await world.city(SUZHOU), await world.city(TIANJIN)
    claims = await suzhou.claim(*NUMBERS)
    licenses = [suzhou.issue(number, claim=claim) for number, claim in zip(NUMBERS, claims, strict=True)]
    await suzhou.replicate()
    suzhou.change(licenses[1], ["F"])
    await suzhou.replicate()
    tianjin.issue(NUMBERS[4])
    tianjin.issue("44052418800101001X")
    await tianjin.replicate()
    await tianjin.decided(2)
    await world.node.publish_heads()
    await world.node.stop(grace_s=0)
    before = world.config.database.url
    wanted = rows(before)
    write_as_older(before, url, "registry", number)
    config = pointed_at(world.config.node.data_dir / "config.toml", before, url)

    done = await asyncio.to_thread(run, "upgrade", config, "--yes")
    assert done.exit_code == 0, done.output
    found = rows(url)
    for name in ("person_ban", "conflict", "published_head", "license_ruling"):
        assert wanted[name]
        assert found[name] == wanted[name]
    clean = await asyncio.to_thread(run, "fsck", config)
    assert clean.exit_code == 0, clean.output
    database = world.config.database.model_copy(update={"url": url})
    world.config = world.config.model_copy(update={"database": database})
    await world.start_again()


async def test_a_registry_that_runs_is_not_upgraded(world: World) -> None:
    with transaction(world.config.database.url) as conn:
        conn.exec_driver_sql("UPDATE alembic_version SET version_num = '0020'")
    refused = await asyncio.to_thread(run, "upgrade", world.config.node.data_dir / "config.toml", "--yes")
    assert refused.exit_code == 1
    assert "NODE_BUSY" in refused.output
