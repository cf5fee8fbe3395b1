"""``elicense load`` as it is used: it brings up nodes, puts load on them, reports, and leaves nothing behind."""

from __future__ import annotations

import asyncio
import csv
import json
import re
import shlex
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from elicense.cli.demo.drivers import generate
from elicense.clock import china_date, utc_micros
from elicense.license.csv_format import COLUMNS
from tests.support.cluster import SUZHOU, Cluster, run_cluster

#: Longer than it takes on a machine that is slow and busy with other tests.
DEADLINE_S = 600
ROOT = Path(__file__).resolve().parents[2]
LOAD = ROOT / "deploy" / "load"
SHOWN = re.search(r"^elicense (load .+)$", (ROOT / "README.md").read_text(encoding="utf-8"), re.MULTILINE)
"""The command that the README shows, which runs a scenario as it ships."""

SMALL = {"cities": 1, "licenses": 60, "rate": 20, "in_flight": 8, "batch": 10}
"""What stands for the numbers of the other scenarios."""

SMALL_NATION = {**SMALL, "cities": 8}
"""The same for that of all cities."""


def load(*words: str) -> tuple[int, dict[str, Any], str]:
    """Exit status, report, and what it said."""
    done = subprocess.run(
        [sys.executable, "-m", "elicense.cli.main", *words, "--json"],
        check=False,
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        cwd=ROOT,
    )
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout), done.stderr


def require_run(status: int, report: dict[str, Any], said: str) -> None:
    """Every call was answered, in the whole time; the rate is the machine's affair."""
    assert (report["errors"], report["cut_short"]) == ({}, None), said
    assert report["units"]["count"] > 0
    assert status == (0 if report["held"] else 1), said


def test_the_command_of_the_readme_puts_load_on_nodes_of_its_own() -> None:
    assert SHOWN is not None
    words = shlex.split(SHOWN[1])
    assert words[1] == "deploy/load/verify.toml"
    words[words.index("--seconds") + 1] = "1"
    require_run(*load(*words))


def test_a_load_test_takes_its_nodes_down_and_draws_what_it_measured(tmp_path: Path) -> None:
    words = ("--seconds", "1", "--dir", str(tmp_path / "nodes"), "--plot", str(tmp_path / "plot.svg"))
    status, report, said = load("load", str(LOAD / "replicate.toml"), *words)
    require_run(status, report, said)
    assert report["units"]["what"] == "entries"
    assert "registry_stopped" in (tmp_path / "nodes" / "registry.log").read_text()
    assert "<svg" in (tmp_path / "plot.svg").read_text()


@pytest.mark.parametrize(
    "file", sorted(file.name for file in LOAD.glob("*.toml") if file.stem not in ("verify", "replicate"))
)
def test_every_scenario_runs_with_small_numbers(file: str, tmp_path: Path) -> None:
    text = (LOAD / file).read_text(encoding="utf-8")
    for name, number in (SMALL_NATION if file == "cities-340.toml" else SMALL).items():
        text = re.sub(rf"^{name} = [\d_]+$", f"{name} = {number}", text, flags=re.MULTILINE)
    (tmp_path / file).write_text(text, encoding="utf-8")
    require_run(*load("load", str(tmp_path / file), "--seconds", "2"))


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[Cluster]:
    async with run_cluster(tmp_path, SUZHOU) as running:
        yield running


async def test_the_script_that_ships_as_an_example_asks_about_the_drivers_of_a_file(
    cluster: Cluster, tmp_path: Path
) -> None:
    await cluster.enroll_national(("verifier", "police", "load"), tmp_path / "police")
    with (tmp_path / "drivers.csv").open("w", encoding="utf-8", newline="") as sink:
        writer = csv.DictWriter(sink, COLUMNS)
        writer.writeheader()
        writer.writerows(row for row, _ in generate(SUZHOU, 20, seed=1, on=china_date(utc_micros())))
    script = [str(LOAD / "own_script.py"), str(tmp_path / "police"), str(tmp_path / "drivers.csv")]
    process = await asyncio.create_subprocess_exec(
        sys.executable, *script, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    said, errors = await process.communicate()
    assert process.returncode == 0, errors.decode()
    assert re.fullmatch(r"[\d,]+ verifications a second, half of them within [\d.]+ ms\n", said.decode())
