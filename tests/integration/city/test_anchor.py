"""A city whose database, anchor and registry do not show the same."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from city_node.cli import main
from city_node.store import CityStore
from elicense import errors
from elicense.log.anchor import Anchor, create_anchor
from elicense.log.checkpoint import Checkpoint, sign_checkpoint
from elicense.log.decision import SignedHead
from elicense.log.model import LogKey
from elicense.sql.database import Database
from elicense.trust.enrollment import city_log_origin
from elicense.trust.signer import load_signer
from tests.support.cluster import SUZHOU, TRUST_DOMAIN, City, Cluster, drivers, eventually

ORIGIN = city_log_origin(TRUST_DOMAIN, SUZHOU, 1)


def anchored(city: City) -> int:
    last = Anchor(city.config.anchor_path, ORIGIN).last()
    assert last is not None
    return last.size


def copy_database(city: City) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in city.folder.iterdir() if path.name.startswith("city.db")}


def set_back(city: City, kept: dict[Path, bytes]) -> None:
    for path in city.folder.iterdir():
        if path.name.startswith("city.db"):
            path.unlink()
    for path, content in kept.items():
        path.write_bytes(content)


async def command(*arguments: str) -> str:
    result = await asyncio.to_thread(CliRunner().invoke, main, list(arguments))
    assert result.exit_code == 0, result.output
    return result.output


async def test_every_signed_head_is_anchored_before_the_answer(suzhou: City) -> None:
    assert anchored(suzhou) == 0
    for size, wanted in enumerate(drivers(SUZHOU, 3), 1):
        await suzhou.issue(wanted)
        assert anchored(suzhou) == size


async def test_a_database_that_was_set_back_while_the_registry_is_away_is_found_by_the_anchor(
    cluster: Cluster, suzhou: City
) -> None:
    first, second, third = drivers(SUZHOU, 3)
    await suzhou.issue(first)
    await suzhou.replicated()
    await cluster.stop_registry()
    await suzhou.stop()
    kept = copy_database(suzhou)
    await suzhou.start()
    await suzhou.issue(second)
    await suzhou.stop()
    set_back(suzhou, kept)
    await suzhou.start()
    with pytest.raises(errors.HistoryUnknown, match="lacks what this node signed last"):
        await suzhou.issue(third)
    # The registry does not hold it either: these positions must not be signed again.
    await cluster.start_registry()

    async def judged() -> bool:
        return isinstance(suzhou.running.gate.reason, errors.LogBehind)

    await eventually(judged)
    with pytest.raises(errors.DataLoss, match="restore"):
        await suzhou.issue(third)
    assert anchored(suzhou) == 2


async def test_a_node_without_its_anchor_only_verifies_until_that_is_back(cluster: Cluster, suzhou: City) -> None:
    first, second = drivers(SUZHOU, 2)
    await suzhou.issue(first)
    await suzhou.replicated()
    await suzhou.stop()
    moved = suzhou.config.anchor_path.rename(suzhou.folder / "elsewhere")
    await suzhou.start()
    with pytest.raises(errors.HistoryUnknown, match="anchor is missing"):
        await suzhou.issue(second)
    assert not suzhou.config.anchor_path.exists()
    moved.rename(suzhou.config.anchor_path)
    suzhou.running.replicator.compare_soon()

    async def signs_again() -> bool:
        return suzhou.running.gate.reason is None

    await eventually(signs_again)
    await suzhou.issue(second)
    assert anchored(suzhou) == 2


async def test_a_person_may_vouch_for_a_database_whose_anchor_is_lost(suzhou: City) -> None:
    first, second = drivers(SUZHOU, 2)
    await suzhou.issue(first)
    await suzhou.replicated()
    await suzhou.stop()
    suzhou.config.anchor_path.unlink()
    config = ("--config", str(suzhou.folder / "config.toml"))
    assert "is missing" in await command("allow-signing", *config, "--yes")
    assert anchored(suzhou) == 1
    assert "already" in await command("allow-signing", *config, "--yes")
    await suzhou.start()
    await suzhou.issue(second)
    assert json.loads(await command("status", *config, "--json"))["anchored_size"] == 2


async def test_a_node_that_signed_another_history_than_its_database_holds_stops_for_good(suzhou: City) -> None:
    first, second = drivers(SUZHOU, 2)
    await suzhou.issue(first)
    await suzhou.replicated()
    await suzhou.stop()
    signer = load_signer(suzhou.config.log_key_uri(1))
    create_anchor(suzhou.config.anchor_path, sign_checkpoint(Checkpoint(ORIGIN, 1, b"x" * 32), signer))
    await suzhou.start()
    with pytest.raises(errors.DataLoss, match="another history"):
        await suzhou.issue(second)
    assert isinstance(suzhou.running.gate.reason, errors.LogForked)


async def test_nothing_is_appended_to_a_database_that_goes_back_while_the_node_runs(suzhou: City) -> None:
    """Another process of the node signed more on a database that is gone; this one knows it from the anchor alone."""
    first, second = drivers(SUZHOU, 2)
    await suzhou.issue(first)
    note = sign_checkpoint(Checkpoint(ORIGIN, 5, b"x" * 32), load_signer(suzhou.config.log_key_uri(1)))
    Anchor(suzhou.config.anchor_path, ORIGIN).keep(SignedHead(5, b"x" * 32, note))
    with pytest.raises(errors.LogBehind):
        await suzhou.issue(second)
    assert isinstance(suzhou.running.gate.reason, errors.LogBehind)
    database = Database(suzhou.config.database_url, readers=1)
    try:
        head = database.read_now(lambda conn: CityStore().logs.head(conn, LogKey(SUZHOU, 1)))
    finally:
        database.close()
    assert head is not None
    assert head.size == 1
