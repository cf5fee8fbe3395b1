"""``elicense bench`` as a user runs it, small: real processes, real figures."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

#: Longer than any of them takes on a machine that is slow and busy with other tests.
DEADLINE_S = 600


README = (Path(__file__).resolve().parents[2] / "README.md").read_text(encoding="utf-8")

SMALL = {
    "--calls": "200",
    "--rounds": "1",
    "--rows": "500",
    "--sizes": "1000,3000",
    "--cities": "2",
    "--citizens": "20",
    "--counter-seconds": "0.5",
}
"""What stands for the numbers of the README's commands, which take minutes."""


def shown() -> dict[str, list[list[str]]]:
    """The options of every ``elicense bench`` command that the README shows, by verb."""
    commands: dict[str, list[list[str]]] = {}
    for words in re.findall(r"`elicense bench ([^`]+)`", README.replace("\n", " ")):
        verb, *options = words.split()
        commands.setdefault(verb, []).append(options)
    return commands


def as_shown(verb: str) -> list[str]:
    """The options of the README's command of this verb that has most of them, with small numbers."""
    options = max(shown()[verb], key=len)
    return [SMALL.get(before, word) for before, word in zip(["", *options], options, strict=False)]


def called(verb: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """The verb, ended."""
    command = [sys.executable, "-c", "from elicense.cli.main import main; main()", "bench", verb, *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE_S, check=False)


def run(verb: str, *arguments: str) -> str:
    """What the verb printed."""
    done = called(verb, *arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout


def answer(verb: str, *small: str) -> dict[str, Any]:
    """What the verb printed as JSON."""
    printed: dict[str, Any] = json.loads(run(verb, *small, "--json"))
    return printed


def measured(verb: str, *small: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """The setting and the figures by name."""
    report = answer(verb, *small)
    return report["setting"], {each["name"]: each for each in report["figures"]}


def test_every_bench_command_of_the_readme_is_run_here_with_small_numbers() -> None:
    assert set(shown()) == {"verify", "scale", "replicate", "issue", "pilot", "enumeration"}
    assert as_shown("verify") == ["--calls", "200", "--rounds", "1"]
    assert as_shown("scale") == ["--sizes", "1000,3000", "--cities", "2", "--calls", "200", "--rounds", "1"]


def test_bench_measures_verifications_beside_a_bare_call_idle_and_under_ingest() -> None:
    small = ["--licenses", "1000", "--batch", "100", "--ingest-seconds", "0.5"]
    setting, figures = measured("verify", *as_shown("verify"), *small)
    alone = {"bare echo", "VerifyLicense", "VerifyLicense, access log off", "batch of 100"}
    assert set(figures) == alone | {"ingest alone", "VerifyLicense under ingest"}
    # A ratio that was not measured, or a bare call that costs as much as a verification, would be wrong.
    assert 0 < figures["VerifyLicense"]["reference_ratio"] < 1
    assert setting["licenses"] == 1_000
    assert figures["ingest alone"]["rounds"][0]["units"] == 500
    under = figures["VerifyLicense under ingest"]
    # What the records cost is taken off, and said.
    assert under["cpu_us"] < under["notes"]["µs with nothing taken off for “ingest alone”"]


def test_bench_brings_a_postgresql_of_its_own() -> None:
    small = ["--licenses", "1000", "--batch", "100", "--ingest", "0"]
    setting, figures = measured("verify", *as_shown("verify"), *small, "--postgres")
    assert setting["store"] == "PostgreSQL"
    # A record alone is half a kilobyte; what a database has of its own is some eight million.
    assert 500 < setting["bytes a license"] < 20_000
    # Its backends are asked, and what they take counts.
    assert figures["VerifyLicense"]["cpu_us_database"] > 0


@pytest.mark.parametrize("store", [(), ("--postgres",)])
def test_bench_measures_replication_beside_a_signature_check_a_record(store: tuple[str, ...]) -> None:
    small = ["--licenses", "1000", "--cities", "2", "--batches", "1"]
    _, figures = measured("replicate", *as_shown("replicate"), *small, *store)
    appended = figures["AppendEntries"]
    assert appended["rounds"][0]["units"] == 2 * 2_048
    assert appended["reference_ratio"] > 0
    assert appended["notes"]["times the rate of the check"] > 0


@pytest.mark.parametrize("store", ["SQLite", "PostgreSQL"])
def test_bench_measures_licences_issued_and_imported_beside_what_they_can_not_do_without(store: str) -> None:
    options = ["--postgres"] if store == "PostgreSQL" else []
    setting, figures = measured("issue", *as_shown("issue"), "--in-flight", "16", *options)
    assert setting["store"] == store
    assert (figures["import"]["cpu_us_database"] > 0) is (store == "PostgreSQL")
    assert figures["import"]["rounds"][0]["units"] == 500
    assert 0 < figures["CreateLicense, 16 in flight"]["reference_ratio"] < 1
    alone = figures["CreateLicense, one at a time"]["notes"]
    assert alone["two bare calls and one flush, µs of CPU"] > figures["one flush of the store"]["cpu_us"]
    assert alone["times their time"] > 0
    quiet, busy = (figures[f"CreateLicense, 20 a second{when}"]["notes"] for when in ("", ", during an import"))
    assert quiet["p50 ms"] <= quiet["p99 ms"]
    # A process of Python, but not a leak.
    assert all(20 < busy[f"anonymous MiB of the {node}"] < 1_000 for node in ("city", "registry"))
    # Printed figures are rounded.
    assert abs(busy["times the p99 without an import"] - busy["p99 ms"] / quiet["p99 ms"]) < 0.01


def test_bench_lets_an_empty_registry_take_in_what_the_cities_of_the_pilot_have_issued() -> None:
    # It fails by itself unless the registry says VALID of a sample in the end.
    result = answer("pilot", "--licenses", "3000")
    assert result["licenses"] == 3_000
    assert 0 < result["first_s"] <= result["seconds"]
    costs = {cost["name"]: cost for cost in result["costs"]}
    assert sum(costs[city]["records"] for city in ("Tianjin", "Chengdu", "Suzhou")) == 3_000
    assert costs["registry"]["records"] == 3_000
    assert all(cost["cpu_us_a_record"] > 0 for cost in costs.values())
    assert all(2**20 < cost["memory"] <= cost["memory_with_assistants"] for cost in costs.values())


def test_bench_asks_registry_and_city_whether_an_unknown_number_shows_by_time() -> None:
    done = called("enumeration", "--pairs", "100", "--json")
    nodes = json.loads(done.stdout)
    assert [node["node"] for node in nodes] == ["registry", "city"]
    assert all(node["typical"] > 0 for node in nodes)
    # So few pairs may show nothing, which it says.
    assert done.returncode == 0 or "the planted delay does not stand out" in done.stderr


def test_bench_shows_cost_against_the_number_of_licences_and_of_cities(tmp_path: Path) -> None:
    table = run("scale", *as_shown("scale"), "--out", str(tmp_path))
    found = json.loads((tmp_path / "scale.json").read_text())
    assert [point["licenses"] for point in found["by_licenses"]] == [1_000, 3_000]
    assert [point["cities"] for point in found["by_cities"]] == [2]
    for point in found["by_licenses"]:
        # A verification costs more than a bare call; a start that reaches no verification would have failed.
        assert point["times_echo"] > 1
        assert point["start"]["seconds"] > 0
        assert point["start"]["memory"] > 2**20
    assert "| 3,000 |" in table
    assert (tmp_path / "scale.png").read_bytes().startswith(b"\x89PNG")
    assert "<svg" in (tmp_path / "scale.svg").read_text()
