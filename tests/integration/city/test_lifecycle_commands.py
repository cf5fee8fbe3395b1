"""The clerk's verbs for the life of a licence, against a running node."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from google.protobuf.json_format import MessageToJson

from city_node.cli import main
from elicense import errors
from elicense.license.periods import anniversary
from elicense.v1 import license_pb2
from tests.integration.city.test_lifecycle import LEFT, experienced, in_validity, letters, revisions, today
from tests.support.cluster import SUZHOU, City, run_cluster


@dataclass
class Counter:
    """A clerk at a terminal, with one licence in hand."""

    city: City
    name: str
    folder: Path

    async def run(self, verb: str, *arguments: str, license_: bool = True) -> Result:
        where = ["--credentials", str(self.city.clerk), "--address", self.city.running.address]
        named = [self.name] if license_ else []
        return await asyncio.to_thread(CliRunner().invoke, main, [verb, *named, *arguments, *where])

    async def last(self) -> license_pb2.License:
        return (await revisions(self.city, self.name))[-1].license


@pytest.fixture
async def counter(tmp_path: Path) -> AsyncIterator[Counter]:
    async with run_cluster(tmp_path, SUZHOU) as cluster:
        suzhou = cluster.cities[SUZHOU]
        (wanted,) = experienced(SUZHOU, 1)
        issued = (await suzhou.issue(wanted)).license
        yield Counter(suzhou, issued.name.rpartition("/")[2], tmp_path)


async def history(counter: Counter) -> list[int]:
    full = f"{counter.city.parent}/licenses/{counter.name}"
    return [revision.revision for revision in await revisions(counter.city, full)]


async def test_a_clerk_leads_a_license_through_its_life(counter: Counter) -> None:
    counter.name = f"{counter.city.parent}/licenses/{counter.name}"
    assert (await counter.run("update", "--set", "address=苏州市新地址2号")).exit_code == 0
    assert (await counter.last()).holder.address == "苏州市新地址2号"
    checked = await counter.run("renew", "--check-only")
    assert "nothing was changed" in checked.output
    renewed = await counter.run("renew")
    assert renewed.exit_code == 0, renewed.output
    # Whoever renews early keeps the days that are left.
    assert f"until {anniversary(today() + LEFT, 10)}" in renewed.output
    assert (await counter.run("change-classes", "--add", "E:glasses", "--basis", "某法")).exit_code == 0
    assert [held.code for held in (await counter.last()).vehicle_classes] == ["C1", "E"]
    assert (await counter.run("points", "--add", "12", "--basis", "某法")).exit_code == 0
    assert letters(await counter.last()) == "B"
    assert (await counter.run("points", "--exam-passed", "--basis", "某法")).exit_code == 0
    passport = ("--type", "PASSPORT", "--number", "e12345678", "--name", "新名", "--basis", "某法")
    assert (await counter.run("change-identity", *passport)).exit_code == 0
    assert (await counter.last()).holder.document.number == "E12345678"
    cancelled = await counter.run("cancel", "--basis", "本人申请")
    assert "letters   G" in cancelled.output
    assert [revision.revision for revision in await revisions(counter.city, counter.name)] == list(range(1, 9))


async def test_a_correction_from_a_file_and_the_daily_job(counter: Counter) -> None:
    counter.name = f"{counter.city.parent}/licenses/{counter.name}"
    right = counter.folder / "right.json"
    right.write_text(MessageToJson(in_validity(license_pb2.License(), today() - timedelta(days=2))))
    arguments = ("--from", str(right), "--field", "validity", "--revision", "1", "--reason", "taken over wrongly")
    assert (await counter.run("correct", *arguments)).exit_code == 0
    ran = await counter.run("daily", license_=False)
    assert "1 licenses looked at, 1 revisions written" in ran.output
    again = await counter.run("daily", "--date", today().isoformat(), "--json", license_=False)
    assert '{"licenses": 1, "revisions": 0}' in again.output
    assert letters(await counter.last()) == "M"


async def test_what_is_refused_is_one_line_that_names_what_is_missing(counter: Counter) -> None:
    refused = await counter.run("points", "--exam-passed", "--basis", "某法")
    assert refused.exit_code == 1
    assert isinstance(refused.exception, (SystemExit, errors.IllegalTransition))
    for verb, *arguments in (
        ("points", "--basis", "某法"),
        ("update", "--set", "document=1"),
        ("renew", "--photo-sha256", "zz"),
        ("cancel",),
    ):
        assert (await counter.run(verb, *arguments)).exit_code == 2
    assert await history(counter) == [1]
