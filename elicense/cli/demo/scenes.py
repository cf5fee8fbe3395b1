"""The scenes while every node is up: enrol, import, replicate, verify, suspend, issue, refuse."""

from __future__ import annotations

import asyncio
import csv
import json
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Final

from elicense.cli.demo import refusals
from elicense.cli.demo.figures import ExpectationFailed, expect, percentile
from elicense.cli.demo.nation import CHENGDU, CITIES, City
from elicense.cli.demo.rolls import make_roll
from elicense.cli.demo.stage import Stage, describe, judged, require, until
from elicense.client import Outcome, Verdict, VerdictReason
from elicense.license.codec import license_from_message
from elicense.license.model import License

ISSUES: Final = 100
"""Single issues that are followed until the nation sees them."""

LOOKS: Final = 50
"""Verifications that are timed at each place."""

VISIBLE_LIMIT_MS: Final = 1_000.0
"""What "in under a second" means."""

REPLICATE_LIMIT_S: Final = 60.0


async def enroll(stage: Stage) -> None:
    """Make root and registry, join three cities by one-time tokens, give certificates to people."""
    stage.display.scene("A registry, three cities, and the people who work with them")
    nation = stage.nation
    began = time.perf_counter()
    for node in nation.all_nodes():
        stage.display.node(node.name, "not there yet")
    await nation.found()
    stage.display.node(nation.registry.name, f"up at {nation.registry.address}")
    await asyncio.gather(*(_join(stage, city) for city in CITIES))
    await nation.enroll_people()
    stage.police, stage.window = nation.police(), nation.window()
    seconds = time.perf_counter() - began
    stage.figures.add("enroll_s", "Registry made, three cities joined and serving", seconds, "s")
    stage.display.say("each city made its own keys and joined with a one-time token; every port speaks mTLS")


async def _join(stage: Stage, city: City) -> None:
    stage.display.node(city.name, "joins with its token")
    await stage.nation.enroll_city(city)
    stage.display.node(city.name, f"up at {stage.nation.nodes[city].address}")


async def import_drivers(stage: Stage) -> None:
    """Write a file of drivers a city, some rows of which must be refused, and import all three at once."""
    stage.display.scene(f"Import of {stage.drivers:,} existing drivers a city")
    folder = stage.nation.folder / "drivers"
    folder.mkdir()
    files = {city: folder / f"{city.name.lower()}.csv" for city in CITIES}
    for offset, city in enumerate(CITIES):
        newcomers = ISSUES + 20 if city is CHENGDU else 20
        stage.rolls[city] = await asyncio.to_thread(
            make_roll, files[city], city, stage.drivers, newcomers, seed=stage.seed + offset, today=stage.today
        )
    began = time.perf_counter()
    watch = asyncio.create_task(_watch(stage, files))
    try:
        await asyncio.gather(*(_import(stage, city, files[city]) for city in CITIES))
    finally:
        watch.cancel()
    seconds = time.perf_counter() - began
    accepted = sum(len(roll.imported) for roll in stage.rolls.values())
    refused = sum(len(roll.refused) for roll in stage.rolls.values())
    stage.figures.add("imported", "Drivers imported, three cities together", accepted)
    stage.figures.add("rejected_rows", "Rows refused, exactly those made wrong", refused)
    stage.figures.add("import_s", "Import, three cities at once on one machine", seconds, "s")
    stage.figures.add("import_per_s", "Import rate", accepted / seconds, "drivers/s")
    stage.display.say(f"{accepted:,} imported, {refused} rows refused with row number and reasons")
    sample = next((line for city in CITIES for line in _rejections(_rejects(files[city]))), None)
    if sample:
        stage.display.say(f"one refused row: {sample}")


async def _import(stage: Stage, city: City, file: Path) -> None:
    await stage.nation.import_file(city, file, rejects=_rejects(file), progress=_progress(file))
    roll = stage.rolls[city]
    with _rejects(file).open(encoding="utf-8", newline="") as lines:
        rows = frozenset(int(row["row"]) for row in csv.DictReader(lines))
    surplus, missing = sorted(rows - roll.refused)[:5], sorted(roll.refused - rows)[:5]
    expect(rows == roll.refused, f"{city.name}: rows refused by mistake {surplus}, let in by mistake {missing}")


def _rejects(file: Path) -> Path:
    return file.with_name(f"{file.stem}-rejects.csv")


def _progress(file: Path) -> Path:
    return file.with_name(f"{file.stem}-progress.json")


def _settled(file: Path) -> int:
    try:
        progress = json.loads(_progress(file).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return 0
    return int(progress["imported"] + progress["refused"])


def _rejections(rejects: Path) -> list[str]:
    with rejects.open(encoding="utf-8", newline="") as lines:
        return [f"row {row['row']}: {row['reasons']}" for row in csv.DictReader(lines)]


async def _watch(stage: Stage, files: dict[City, Path]) -> None:
    """Keep the picture current while the nodes work."""
    while True:
        for city, node in stage.nation.nodes.items():
            held = await stage.held(city)
            state = f"up at {node.address}, {_settled(files[city]):,} rows done, {held:,} records at the registry"
            stage.display.node(city.name, state)
        await asyncio.sleep(0.25)


async def _holds(stage: Stage, city: City, wanted: int) -> bool:
    return await stage.held(city) >= wanted


async def replicate(stage: Stage) -> None:
    """Wait until the registry holds every record, then verify every imported driver nationwide."""
    stage.display.scene("Replication to the registry")
    began = time.perf_counter()
    for city in CITIES:
        wanted = len(stage.rolls[city].imported)
        complete = partial(_holds, stage, city, wanted)
        await until(complete, within_s=REPLICATE_LIMIT_S, what=f"{city.name}'s records at the registry", pause_s=0.02)
        held = await stage.held(city)
        expect(held == wanted, f"{city.name}: {wanted} records were acknowledged, the registry holds {held}")
        stage.display.node(city.name, f"up at {stage.nation.nodes[city].address}, {held:,} records at the registry")
    seconds = time.perf_counter() - began
    stage.figures.add("replication_tail_s", "Registry complete after the last row was imported", seconds, "s")
    began = time.perf_counter()
    outcomes: Counter[str] = Counter()
    for city in CITIES:
        outcomes.update(
            verdict.outcome.name for verdict in await stage.ask_registry_for_all(stage.rolls[city].imported)
        )
    seconds = time.perf_counter() - began
    total = sum(outcomes.values())
    known = outcomes["VALID"] + outcomes["INVALID"]
    expect(known == total, f"of {total} imported licences only {known} are known nationwide: {dict(outcomes)}")
    stage.figures.add("verified_nationwide", "Imported licences then verified nationwide", total)
    stage.figures.add("batch_verify_per_s", "Verification in batches of 1,000", total / seconds, "licences/s")
    stage.display.say(f"the registry holds all {total:,} records, in order and without a gap")
    stage.display.say(f"every one of them verified nationwide in {seconds:.1f} s: {dict(outcomes)}")


def _places(stage: Stage) -> tuple[tuple[str, str, Callable[[License], Awaitable[Verdict]]], ...]:
    """Return where a Chengdu licence is asked for: key, words, question."""
    return ("registry", "at the registry", stage.ask_registry), ("suzhou", "in Suzhou", stage.ask_suzhou)


async def verify(stage: Stage) -> None:
    """Verify one Chengdu licence at the registry and at Suzhou's node."""
    stage.display.scene("A Chengdu licence is verified at the registry and in Suzhou")
    license_ = await _a_valid_license(stage)
    for key, place, ask in _places(stage):
        verdict = await ask(license_)
        require(verdict, Outcome.VALID, f"a Chengdu licence {place}")
        times = []
        for _ in range(LOOKS):
            began = time.perf_counter()
            await ask(license_)
            times.append((time.perf_counter() - began) * 1_000)
        stage.figures.add(f"verify_{key}_p50_ms", f"One verification {place}, p50", percentile(times, 0.5), "ms")
        stage.display.say(f"{place}: {describe(verdict)}, may drive {' '.join(verdict.drivable_classes)}")


async def _a_valid_license(stage: Stage) -> License:
    for message in await stage.some_licenses(CHENGDU, 50):
        license_ = license_from_message(message)
        if (await stage.ask_registry(license_)).valid:
            return license_
    raise ExpectationFailed("none of the first 50 licences of Chengdu is valid")


async def suspend(stage: Stage) -> None:
    """Suspend that licence and measure until the registry, and Suzhou through it, say so."""
    stage.display.scene("Chengdu suspends it: how long until the nation sees it?")
    license_ = await _a_valid_license(stage)
    stage.accident = license_, datetime.now(UTC)
    began = time.perf_counter()
    await stage.suspend(CHENGDU, license_.name)
    for key, place, ask in _places(stage):
        await until(judged(ask, license_, Outcome.INVALID), within_s=10, what=f"the suspension {place}")
        elapsed_ms = (time.perf_counter() - began) * 1_000
        expect(elapsed_ms < VISIBLE_LIMIT_MS, f"the suspension was seen {place} after {elapsed_ms:.0f} ms only")
        stage.figures.add(f"suspend_{key}_ms", f"Suspension asked for → seen {place}", elapsed_ms, "ms")
        verdict = await ask(license_)
        require(verdict, Outcome.INVALID, f"the suspended licence {place}", VerdictReason.STATUS_LETTER)
        stage.display.say(f"{place}: after {elapsed_ms:.0f} ms {describe(verdict)}: {verdict.summary}")


async def issue(stage: Stage) -> None:
    """Issue licences one by one in Chengdu and follow each until the registry says VALID."""
    stage.display.scene(f"{ISSUES} licences are issued in Chengdu, each followed until the nation sees it")
    answered, visible = [], []
    for license_ in stage.rolls[CHENGDU].newcomers[:ISSUES]:
        began = time.perf_counter()
        answer = await stage.issue(CHENGDU, license_)
        answered.append((time.perf_counter() - began) * 1_000)
        expect(not answer.license.provisional, "with the registry up a licence was issued provisionally")
        seen = judged(stage.ask_registry, license_, Outcome.VALID)
        await until(seen, within_s=10, what="an issued licence nationwide")
        visible.append((time.perf_counter() - began) * 1_000)
        stage.display.node(CHENGDU.name, f"{len(visible)} issued, the last seen nationwide after {visible[-1]:.0f} ms")
    figures = stage.figures
    figures.add("issue_answered_p50_ms", "Issue asked for → on the city's disk, p50", percentile(answered, 0.5), "ms")
    figures.add("issue_visible_p50_ms", "Issue asked for → VALID nationwide, p50", percentile(visible, 0.5), "ms")
    p99 = percentile(visible, 0.99)
    figures.add("issue_visible_p99_ms", f"Issue asked for → VALID nationwide, p99 of {ISSUES}", p99, "ms")
    expect(p99 < VISIBLE_LIMIT_MS, f"issue to visible nationwide: p99 {p99:.0f} ms, promised below 1 s")
    stage.display.say(f"visible nationwide: p50 {percentile(visible, 0.5):.0f} ms, p99 {p99:.0f} ms")


async def refuse(stage: Stage) -> None:
    """Try what must not succeed."""
    stage.display.scene("A forged record, a record for another city and a wrong role are refused")
    await refusals.attempt_all(stage)
