"""Checking a city's store against its records."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest
from click.testing import CliRunner

from city_node.cli import main
from tests.integration.city.test_issuance import set_status, suspension
from tests.support.cluster import SUZHOU, City, Cluster, drivers


async def fill(cluster: Cluster, suzhou: City) -> None:
    """Issue with and without the registry, change a status, and let everything be confirmed."""
    first, second, third = drivers(SUZHOU, 3)
    issued = (await suzhou.issue(first)).license
    await set_status(suzhou, issued.name, add_letters=[suspension()])
    await suzhou.replicated()
    await cluster.stop_registry()
    await suzhou.issue(second)
    await suzhou.issue(third)
    await cluster.start_registry()
    await suzhou.replicated()
    await suzhou.stop()


def fsck(suzhou: City) -> tuple[int, str]:
    result = CliRunner().invoke(main, ["fsck", "--config", str(suzhou.folder / "config.toml")])
    return result.exit_code, result.output


def change(suzhou: City, statement: str) -> None:
    connection = sqlite3.connect(suzhou.folder / "city.db")
    with connection:
        assert connection.execute(statement).rowcount > 0
    connection.close()


async def test_a_sound_store_has_no_difference(cluster: Cluster, suzhou: City) -> None:
    await fill(cluster, suzhou)
    status, output = fsck(suzhou)
    assert status == 0, output
    assert "4 entries, 3 licenses: no difference" in output


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (
            "UPDATE log_entry SET record = CAST(record || x'00' AS BLOB) WHERE idx = 2",
            "do not give the stored leaf hash",
        ),
        ("UPDATE log_entry SET salt = zeroblob(32) WHERE idx = 0", "do not give the stored leaf hash"),
        ("UPDATE log_checkpoint SET root = zeroblob(32) WHERE size = 2", "the stored root differs"),
        ("UPDATE log_head SET root = zeroblob(32)", "does not lead to its root"),
        ("DELETE FROM log_entry WHERE idx = 1", "is missing"),
        ("UPDATE license_view SET flags = 3", "stands otherwise in the view"),
        ("DELETE FROM license_view", "is missing from the view"),
        ("DELETE FROM license_revision WHERE revision = 2", "its revision index differs"),
        ("DELETE FROM issuing_request WHERE idx = 0", "its request id is not stored"),
        ("UPDATE log_checkpoint SET note = CAST(replace(note, '1', '2') AS BLOB) WHERE size = 1", "checkpoint 1"),
    ],
)
async def test_every_damage_is_found_and_named(cluster: Cluster, suzhou: City, damage: str, said: str) -> None:
    await fill(cluster, suzhou)
    change(suzhou, damage)
    status, output = fsck(suzhou)
    assert status == 1
    assert said in output


async def test_a_second_license_of_somebody_is_found_though_it_does_not_count(cluster: Cluster, suzhou: City) -> None:
    driver, again = drivers(SUZHOU, 2)
    again.holder.CopyFrom(driver.holder)
    await suzhou.issue(driver)
    await suzhou.replicated()
    await cluster.stop_registry()
    # A node that does not see the first one gives its holder another.
    change(suzhou, "UPDATE license_view SET city = 999999")
    assert (await suzhou.issue(again)).license.provisional
    change(suzhou, "UPDATE license_view SET city = 320500")
    await suzhou.stop()
    status, output = fsck(suzhou)
    assert status == 1
    assert "the person holds another license in this city, and neither was taken over" in output


def test_fsck_of_a_folder_that_never_joined_says_so(tmp_path: Path) -> None:
    result = CliRunner().invoke(main, ["fsck", "--config", str(tmp_path / "config.toml")])
    assert result.exit_code == 1
