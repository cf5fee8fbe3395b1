"""The clerk's verbs for licences that move, against running nodes."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from city_node.cli import main
from tests.integration.city.test_transfers import moved
from tests.support.cluster import CHENGDU, SUZHOU, City, Cluster, drivers, eventually, run_cluster

OFFICE = ("--archive-number", "510112345678", "--authority", "四川省成都市公安局交通管理局", "--division", "510100")


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[Cluster]:
    async with run_cluster(tmp_path, SUZHOU, CHENGDU) as running:
        yield running


async def run(city: City, *arguments: str) -> Result:
    where = ["--credentials", str(city.clerk), "--address", city.running.address]
    return await asyncio.to_thread(CliRunner().invoke, main, ["transfer", *arguments, *where])


async def said(city: City, *arguments: str) -> str:
    result = await run(city, *arguments)
    assert result.exit_code == 0, result.output
    return result.output


async def test_two_clerks_hand_a_license_over(cluster: Cluster) -> None:
    suzhou, chengdu = cluster.cities[SUZHOU], cluster.cities[CHENGDU]
    name = (await suzhou.issue(next(drivers(SUZHOU, 1)))).license.name
    short = name.rpartition("/")[2]
    there = f"cities/{CHENGDU}/licenses/{short}"
    assert "nothing was changed" in await said(
        suzhou, "offer", short, "--to", "510100", "--basis", "迁出", "--check-only"
    )
    await said(suzhou, "offer", short, "--to", "510100", "--basis", "迁出")
    assert f"{name}  offered to 510100 Chengdu" in await said(suzhou, "list")
    await said(suzhou, "withdraw", short, "--basis", "本人放弃")
    assert f"{name}  offer withdrawn" in await said(suzhou, "list")
    await said(suzhou, "offer", short, "--to", "510100", "--basis", "迁出")
    await suzhou.replicated()
    assert f"{name}  offered by 320500 Suzhou" in await said(chengdu, "list")
    accepted = await said(chengdu, "accept", name, "--basis", "迁入", *OFFICE)
    assert there in accepted
    assert "this city has custody from now on" in accepted
    assert f"{there}  arrived from 320500 Suzhou" in await said(chengdu, "list")
    lines = [json.loads(line) for line in (await said(chengdu, "list", "--json")).splitlines()]
    assert [line["transfer"]["state"] for line in lines] == ["TRANSFER_STATE_DONE"]
    await moved(suzhou, name)
    assert f"{name}  moved to 510100 Chengdu" in await said(suzhou, "list")
    refused = await run(suzhou, "offer", short, "--to", "120000", "--basis", "迁出")
    assert refused.exit_code == 1
    assert "city 510100 has taken the license over" in refused.output


async def noticed(cluster: Cluster) -> list[str]:
    """Have Suzhou change a licence after Chengdu took it over; return the words of the command that shows it."""
    suzhou, chengdu = cluster.cities[SUZHOU], cluster.cities[CHENGDU]
    name = (await suzhou.issue(next(drivers(SUZHOU, 1)))).license.name
    await said(suzhou, "offer", name, "--to", "510100", "--basis", "迁出")
    await suzhou.replicated()
    suzhou.running.replicator.stop()
    await said(chengdu, "accept", name, "--basis", "迁入")
    await said(suzhou, "withdraw", name, "--basis", "too late")
    await suzhou.stop()
    await suzhou.start()

    async def told() -> str:
        return next((line for line in (await said(chengdu, "list")).splitlines() if "`transfer late" in line), "")

    return (await eventually(told)).partition("`transfer ")[2].partition("`")[0].split()


async def test_a_clerk_sees_what_the_old_city_wrote_too_late(cluster: Cluster) -> None:
    shown = await said(cluster.cities[CHENGDU], *await noticed(cluster))
    assert "transfer_withdrawn" in shown
    assert "by 320500 Suzhou, without effect: too late" in shown


async def test_a_notice_that_a_clerk_acknowledged_is_open_no_more_and_fsck_agrees(cluster: Cluster) -> None:
    chengdu = cluster.cities[CHENGDU]
    _, license_, position = await noticed(cluster)
    missing = await run(chengdu, "acknowledge", license_, f"{SUZHOU}/1/99999")
    assert (missing.exit_code, "no notice of this record" in missing.output) == (1, True), missing.output
    for _ in range(2):
        assert "acknowledged that it was changed too late by 320500 Suzhou" in await said(
            chengdu, "acknowledge", license_, position
        )
    assert "`transfer late" not in await said(chengdu, "list")
    config = str(chengdu.folder / "config.toml")
    checked = await asyncio.to_thread(CliRunner().invoke, main, ["fsck", "--config", config])
    assert checked.exit_code == 0, checked.output


NOWHERE = "7b0d2d5e-0d0f-4a53-8f0c-0a3a5f1c2b3d"
#: Arguments, exit status, and what is said.
WRONG = [
    (("accept", NOWHERE, "--basis", "x"), 1, "whole resource name"),
    (("accept", f"cities/{SUZHOU}/licenses/{NOWHERE}", "--basis", "x"), 1, "no open offer"),
    (("accept", "cities/1/licenses/x", "--basis", "x", "--division", "510100"), 1, "together, or none"),
    (("late", NOWHERE, "somewhere"), 2, "city, epoch and index"),
    (("acknowledge", NOWHERE, "320500/1"), 2, "city, epoch and index"),
    (("acknowledge", NOWHERE, f"{10**9}/1/1"), 2, "a city has six digits"),
    (("acknowledge", NOWHERE, f"{SUZHOU}/1/1"), 1, "no notice of this record"),
]


async def test_wrong_input_ends_in_one_line(cluster: Cluster) -> None:
    for arguments, status, says in WRONG:
        result = await run(cluster.cities[CHENGDU], *arguments)
        assert result.exit_code == status, result.output
        assert says in result.output


async def test_the_list_says_when_the_registry_is_away(cluster: Cluster) -> None:
    await cluster.stop_registry()
    result = await run(cluster.cities[CHENGDU], "list")
    assert result.exit_code == 0
    assert "what is offered to this city is not known now" in result.output
