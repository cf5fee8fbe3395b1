"""The scenes with the registry away and back."""

from __future__ import annotations

import time
from typing import Final

from elicense.cli.demo.figures import expect
from elicense.cli.demo.nation import CHENGDU, SUZHOU
from elicense.cli.demo.stage import Stage, describe, require, until
from elicense.client import Outcome, VerdictReason
from elicense.license.codec import license_from_message
from elicense.license.model import License
from elicense.v1 import log_pb2

PROVISIONAL_ISSUES: Final = 5
"""Licences that Suzhou issues while the registry is away."""

CATCH_UP_LIMIT_S: Final = 30.0


async def cut_off(stage: Stage) -> License:
    """Stop the registry; Suzhou goes on issuing, suspending and verifying what is its own.

    Returns:
        The licence that Suzhou suspended meanwhile.
    """
    stage.display.scene("The registry stops: Suzhou goes on")
    suspended, untouched = await _two_valid_in_suzhou(stage)
    began = time.perf_counter()
    status = await stage.nation.stop(stage.nation.registry)
    expect(status == 0, f"the registry ended with status {status} on SIGTERM")
    stage.display.node("Registry", "stopped")
    stage.display.say(f"the registry drained and ended in {time.perf_counter() - began:.1f} s")
    for newcomer in _provisional(stage):
        answer = await stage.issue(SUZHOU, newcomer)
        expect(answer.license.provisional, "with the registry away a licence was not marked as provisional")
        expect(answer.durability == log_pb2.DURABILITY_LOCAL, "durability was over-claimed with the registry away")
    stage.figures.add("provisional_issued", "Issued in Suzhou with the registry away", PROVISIONAL_ISSUES)
    stage.display.say(f"Suzhou issued {PROVISIONAL_ISSUES} licences, provisional until the registry confirms them")
    await stage.suspend(SUZHOU, suspended.name)
    await _judge(stage, suspended, untouched)
    return suspended


async def _judge(stage: Stage, suspended: License, untouched: License) -> None:
    verdict = await stage.ask_suzhou(suspended)
    require(verdict, Outcome.INVALID, "a licence that Suzhou suspended itself", VerdictReason.STATUS_LETTER)
    stage.display.say(f"a suspension counts in Suzhou at once: {describe(verdict)}")
    verdict = await stage.ask_suzhou(untouched)
    require(verdict, Outcome.VALID, "Suzhou's own licence with the registry away")
    stage.display.say(f"Suzhou's own licence: {describe(verdict)}, with Suzhou's own authority")
    verdict = await stage.ask_suzhou(_provisional(stage)[0])
    require(verdict, Outcome.INDETERMINATE, "a provisional licence", VerdictReason.PROVISIONAL)
    stage.display.say(f"a provisional licence: {describe(verdict)}")
    verdict = await stage.ask_suzhou(stage.rolls[CHENGDU].imported[0])
    require(verdict, Outcome.INDETERMINATE, "a Chengdu licence, asked in Suzhou", VerdictReason.REGISTRY_UNREACHABLE)
    stage.display.say(f"a Chengdu licence, asked in Suzhou: {describe(verdict)}, never VALID by guess")


async def come_back(stage: Stage, suspended: License) -> None:
    """Start the registry; it catches up by itself, and what was provisional becomes valid."""
    stage.display.scene("The registry is back and catches up by itself")
    await stage.nation.start(stage.nation.registry)
    began = time.perf_counter()
    stage.display.node("Registry", f"up at {stage.nation.registry.address}")
    # The old connections may still wait before they try again; an officer opens a new one.
    stage.police, stage.window = stage.nation.police(), stage.nation.window()

    async def all_valid() -> bool:
        verdicts = await stage.ask_registry_for_all(_provisional(stage))
        stage.display.node("Suzhou", f"{sum(verdict.valid for verdict in verdicts)} of {len(verdicts)} confirmed")
        return all(verdict.valid for verdict in verdicts)

    await until(
        all_valid,
        within_s=CATCH_UP_LIMIT_S,
        what="confirmation of the provisional licences",
        pause_s=0.02,
        patient=True,
    )
    seconds = time.perf_counter() - began
    stage.figures.add("catch_up_s", "Registry back → provisional licences VALID nationwide", seconds, "s")
    stage.display.say(f"after {seconds:.1f} s all {PROVISIONAL_ISSUES} are VALID nationwide, without a hand")

    async def valid_in_suzhou() -> bool:
        return (await stage.ask_suzhou(_provisional(stage)[0])).valid

    await until(
        valid_in_suzhou, within_s=CATCH_UP_LIMIT_S, what="the confirmation in Suzhou", pause_s=0.02, patient=True
    )
    seconds = time.perf_counter() - began
    stage.figures.add("confirmed_in_city_s", "Registry back → Suzhou itself says VALID", seconds, "s")
    require(
        await stage.ask_registry(suspended),
        Outcome.INVALID,
        "the suspension made meanwhile",
        VerdictReason.STATUS_LETTER,
    )
    stage.display.say(
        f"after {seconds:.1f} s Suzhou says so itself, and the suspension made meanwhile counts nationwide"
    )


def _provisional(stage: Stage) -> list[License]:
    return stage.rolls[SUZHOU].newcomers[:PROVISIONAL_ISSUES]


async def _two_valid_in_suzhou(stage: Stage) -> tuple[License, License]:
    found: list[License] = []
    for message in await stage.some_licenses(SUZHOU, 50):
        license_ = license_from_message(message)
        if (await stage.ask_suzhou(license_)).valid:
            found.append(license_)
        if len(found) == 2:
            return found[0], found[1]
    expect(False, "of the first 50 licences of Suzhou fewer than two are valid")
    raise AssertionError("expect() has raised")
