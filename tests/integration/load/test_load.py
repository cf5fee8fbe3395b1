"""Each kind of load for a moment, on real nodes, and what the command makes of it."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from datetime import date
from itertools import islice
from pathlib import Path

import pytest

from elicense.cli.demo.drivers import generate
from elicense.cli.load.calls import NobodyLeft, newcomers
from elicense.cli.load.command import OWN, _measure
from elicense.cli.load.display import Silent
from elicense.cli.load.loops import CutShort
from elicense.cli.load.report import Report
from elicense.cli.load.scenario import Scenario
from elicense.cli.load.target import Target, require_own_machine
from elicense.cli.load.world import enroll_all
from elicense.client import Question
from elicense.errors import Malformed
from elicense.sql.database import Database
from elicense.trust.spiffe import city_id
from registry.store import RegistryStore
from tests.support.cluster import SUZHOU, TRUST_DOMAIN, Cluster, run_cluster

PEOPLE = 5
ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[Cluster]:
    async with run_cluster(tmp_path, SUZHOU) as running:
        yield running


@pytest.fixture
async def target(cluster: Cluster, tmp_path: Path) -> Target:
    """A city with a few licences, a clerk there and the police at the registry."""
    suzhou = cluster.cities[SUZHOU]
    people = list(islice(newcomers(SUZHOU, 99), PEOPLE))
    for each in people:
        await suzhou.issue(each)
    await suzhou.replicated()
    police = await cluster.enroll_national(("verifier", "police", "load"), tmp_path / "police")
    return Target(
        verifier=police,
        people=[Question(each.holder.document.number) for each in people],
        clerks=[suzhou.clerk_credentials],
    )


def scenario(kind: str, loop: str = "closed", **more: object) -> Scenario:
    values = {"kind": loop, "in_flight": 2, "connections": 1, "seconds": 60, "max_calls": 6} | more
    return Scenario.model_validate(
        {"name": "x", "kind": kind, "batch": 2, "loop": values, "mix": {"verify": 1, "batch": 1, "issue": 1}}
    )


async def measured(scenario: Scenario, target: Target) -> Report:
    return await _measure(scenario, target, OWN, Silent())


async def test_each_kind_of_call_is_made_and_answered_and_ctrl_c_gives_the_report_so_far(target: Target) -> None:
    for kind, loop, units in (("verify", "closed", 6), ("batch", "closed", 12), ("issue", "open", 6)):
        report = await measured(scenario(kind, loop=loop), target)
        assert (kind, report.tally.calls, report.tally.units, report.tally.failed) == (kind, 6, units, 0)
    # A seed of their own: those of the seed before have their licences.
    for kind, loop in (("mixed", "closed"), ("day-one", "open")):
        seeded = scenario(kind, loop=loop).model_copy(update={"seed": len(kind)})
        report = await measured(seeded, target)
        assert (kind, report.tally.calls, report.tally.failed) == (kind, 6, 0)

    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().call_later(0.3, os.kill, os.getpid(), number)
        report = await measured(scenario("verify", max_calls=None), target)
        assert report.cut_short is CutShort.INTERRUPTED
        assert report.tally.failed == 0


async def test_people_who_run_out_are_counted_as_failures_by_a_reason_of_their_own(
    target: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("elicense.cli.load.calls.PEOPLE_OF_A_CITY", 4)
    report = await measured(scenario("issue"), target)
    assert (report.tally.units, report.tally.errors) == (4, {NobodyLeft.reason: 2})


async def test_simulated_cities_replicate_what_a_registry_accepts_and_counts(cluster: Cluster) -> None:
    tokens = [await cluster.national_token(city_id(TRUST_DOMAIN, code)) for code in (130100, 130200, 130300)]
    cities = await enroll_all(tokens)
    report = await measured(scenario("cities", in_flight=3), Target(cities=cities))
    for city in cities:
        await city.close()
    assert (report.tally.units, report.tally.failed) == (12, 0)

    database, store = Database(cluster.registry_config.database.url), RegistryStore()
    try:
        states = await database.read(store.states)
    finally:
        await asyncio.to_thread(database.close)
    assert sum(state.next_index for state in states if state.city != SUZHOU) == 12


def test_another_machine_must_be_named() -> None:
    require_own_machine(["127.0.0.1:7500", "localhost:7500", "[::1]:7500"], allowed="")
    require_own_machine(["registry.example:7500"], allowed="registry.example:7500")
    for address in ("registry.example:7500", "10.0.0.1:7500", "127.0.0.1.example:7500"):
        with pytest.raises(Malformed, match="not on this machine"):
            require_own_machine([address], allowed="registry.example:7501")


def write_people(file: Path) -> None:
    rows = [row for row, _ in generate(SUZHOU, 3, seed=1, on=date(2026, 1, 5))]
    file.write_text(",".join(rows[0]) + "\n" + "\n".join(",".join(row.values()) for row in rows) + "\n")


async def test_the_command_loads_nodes_that_run_and_exits_by_its_thresholds(target: Target, tmp_path: Path) -> None:
    people, shadow = tmp_path / "people.csv", tmp_path / "shadow"
    write_people(people)
    shadow.mkdir()
    (shadow / "matplotlib.py").write_text("raise ImportError\n")
    text = 'name = "x"\nkind = "verify"\n[loop]\nrate = 4\nseconds = {}\nmax_calls = 4\n[thresholds]\nerror_rate = {}\n'

    async def load(error_rate: float, seconds: int, *more: str) -> tuple[int | None, str, str]:
        file = tmp_path / f"{error_rate}-{seconds}.toml"
        file.write_text(text.format(seconds, error_rate))
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "elicense.cli.main", "load", str(file), "--credentials", str(tmp_path / "police"),
            "--people", str(people), *more, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": f"{shadow}:{ROOT}"},
        )  # fmt: skip
        output, errors = await process.communicate()
        return process.returncode, output.decode(), errors.decode()

    # Nobody in that file has a licence, so every call is a wrong answer.
    (status, output, errors), (missed, table, said), (cut, rest, _) = await asyncio.gather(
        load(1.0, 1, "--json", "--markdown", str(tmp_path / "r.md")),
        load(0.5, 1, "--plot", str(tmp_path / "p.svg")),
        load(1.0, 60),
    )
    assert status == 0, errors
    shown = json.loads(output)
    assert (shown["calls"], shown["errors"], shown["held"]) == (4, {"WRONG_ANSWER": 4}, True)
    assert "WRONG_ANSWER" in (tmp_path / "r.md").read_text()
    assert missed == 1
    assert "**missed**" in table
    assert cut == 1
    assert "cut short (max_calls)" in rest
    assert "pip install 'elicense[load]'" in said
    assert not (tmp_path / "p.svg").exists()
