"""The order of the scenes, and what is cleaned up whatever happens."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import click

from elicense.cli.demo import dispute, moving, outage, scenes
from elicense.cli.demo.display import Display
from elicense.cli.demo.figures import ExpectationFailed, Figures
from elicense.cli.demo.nation import CHENGDU, Nation, plan_nation
from elicense.cli.demo.processes import Household, run_as_household
from elicense.cli.demo.stage import CASE_NUMBER, Stage, asked_of
from elicense.clock import china_date, utc_micros
from elicense.errors import Error, Malformed


@dataclass(frozen=True, slots=True)
class Options:
    """What the user asked for.

    Attributes:
        drivers: Rows a city.
        seed: Seed of the drivers.
        folder: Folder of the demo; None for one that goes away with it.
        keep: Whether to leave the nation running until Ctrl-C.
    """

    drivers: int
    seed: int
    folder: Path | None
    keep: bool


def open_folder(wanted: Path | None) -> Path:
    """Return an empty folder that only this user can read.

    Raises:
        Malformed: The folder that was asked for is not empty.
    """
    if wanted is None:
        return Path(tempfile.mkdtemp(prefix="elicense-demo-"))
    wanted.mkdir(mode=0o700, parents=True, exist_ok=True)
    if any(wanted.iterdir()):
        raise Malformed(f"{wanted} is not empty; name another folder, or one that does not exist")
    wanted.chmod(0o700)
    return wanted.resolve()


async def play(options: Options, folder: Path, household: Household, display: Display) -> None:
    """Play every scene; stop every process at the end, also when a scene fails or is interrupted.

    Raises:
        Error: Something did not come out as promised.
    """
    began = time.perf_counter()
    nation = plan_nation(folder, household)
    today = china_date(utc_micros())
    stage = Stage(nation, Figures(), display, options.drivers, options.seed, today)
    try:
        await _scenes(stage)
        stage.figures.add("total_s", "Whole demo", time.perf_counter() - began, "s")
        display.finish(stage.figures)
        if options.keep:
            await _linger(stage)
    finally:
        # The nodes must end even if a second Ctrl-C arrives meanwhile: the
        # caller kills what is left.
        await nation.close()


async def _scenes(stage: Stage) -> None:
    for scene in (
        scenes.enroll,
        scenes.import_drivers,
        scenes.replicate,
        scenes.verify,
        scenes.suspend,
        scenes.issue,
        scenes.refuse,
        moving.move,
    ):
        await scene(stage)
    suspended = await outage.cut_off(stage)
    await dispute.license_twice(stage)
    await outage.come_back(stage, suspended)
    await dispute.settle(stage)
    await dispute.accident(stage)


async def _linger(stage: Stage) -> None:
    """Say what can be tried, and wait for Ctrl-C."""
    click.echo(commands_to_try(stage), err=True)
    await asyncio.Event().wait()


def commands_to_try(stage: Stage) -> str:
    """Return commands for the nation that is running, with a licence that exists."""
    nation: Nation = stage.nation
    asked = " ".join(asked_of(stage.rolls[CHENGDU].imported[-1].holder.document))
    police, window = nation.people("police"), nation.people("window")
    chengdu = nation.nodes[CHENGDU]
    return "\n".join(
        [
            "",
            f"Everything keeps running in {nation.folder}. Try in another terminal:",
            f"  elicense verify {asked} --credentials {police} --purpose roadside-check --case {CASE_NUMBER}",
            f"  elicense verify {asked} --credentials {window} --purpose window-service --json",
            f"  elicense-registry fsck --config {nation.registry.config}",
            f"  elicense-city fsck --config {chengdu.config}",
            f"  tail -f {nation.registry.log}",
            "Ctrl-C stops every process.",
        ]
    )


def run(options: Options, display: Display) -> None:
    """Run the demo to its end; leaves no process, and no folder unless one was named or a scene failed.

    Raises:
        ExpectationFailed: Something did not come out as promised; the folder is kept for a look at the nodes' logs.
        Malformed: The folder that was asked for is not empty.
        KeyboardInterrupt: Ctrl-C, SIGTERM, or the terminal went away.
    """
    folder = open_folder(options.folder)
    household = Household()
    leave_logs = True
    try:
        run_as_household(play(options, folder, household, display))
        leave_logs = False
    except KeyboardInterrupt:
        leave_logs = False
        raise
    except Error as error:
        reason = "" if isinstance(error, ExpectationFailed) else f" [{error.reason}]"
        raise ExpectationFailed(f"{error.message}{reason}; the nodes' logs are in {folder}") from error
    finally:
        household.kill_all()
        display.close()
        if options.folder is None and not leave_logs:
            shutil.rmtree(folder, ignore_errors=True)
