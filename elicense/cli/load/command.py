"""``elicense load``."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import click

from elicense.cli.demo.processes import ended_by_signals
from elicense.cli.load.curve import diurnal, steady
from elicense.cli.load.display import Display, choose_display
from elicense.cli.load.loops import CutShort, Loop
from elicense.cli.load.plot import FORMATS, PlotsMissing, draw, load_pyplot
from elicense.cli.load.report import Report, check_thresholds
from elicense.cli.load.scenario import Scenario, load_scenario
from elicense.cli.load.tally import Tally
from elicense.cli.load.target import Target, calls_of, read_people, require_own_machine
from elicense.cli.load.world import enroll_all, open_world
from elicense.errors import Malformed
from elicense.rpc.server import run as run_loop
from elicense.trust.credentials import load_credentials
from elicense.trust.token import parse_token

OWN: Final = "nodes of its own"
_FILE = click.Path(path_type=Path, dir_okay=False)
_FOLDER = click.Path(path_type=Path, file_okay=False)


@dataclass(frozen=True, slots=True)
class Running:
    """Nodes that run already, and how to call them; nothing of it means nodes of the test's own.

    Attributes:
        credentials: Folder of a verifier's credentials.
        people: Drivers' file with those to ask about.
        clerks: Folders of clerks' credentials.
        tokens: File with cities' join tokens.
        allowed: Address beyond this machine that may be put under load.
    """

    credentials: Path | None = None
    people: Path | None = None
    clerks: tuple[Path, ...] = ()
    tokens: Path | None = None
    allowed: str = ""

    @property
    def any(self) -> bool:
        """Whether there are any."""
        return bool(self.credentials or self.clerks or self.tokens)


@click.command()
@click.argument("scenario_path", metavar="SCENARIO", type=_FILE)
@click.option("--seconds", type=click.FloatRange(0, 86_400, min_open=True), help="How long, instead of the file's.")
@click.option("--rate", type=click.FloatRange(0, min_open=True), help="Calls a second, instead of the file's.")
@click.option("--speed", type=click.FloatRange(0, min_open=True), help="Speed of day-one, instead of the file's.")
@click.option("--credentials", type=_FOLDER, help="A verifier's credentials at a node that runs already.")
@click.option("--people", type=_FILE, help="Drivers' file with whom to ask about there.")
@click.option("--clerk", "clerks", type=_FOLDER, multiple=True, help="A clerk's credentials there; once a city.")
@click.option("--tokens", type=_FILE, help="File of `elicense-registry token city` lines, for simulated cities.")
@click.option("--target", "allowed", default="", metavar="HOST:PORT", help="I may put load on this other machine.")
@click.option("--json", "as_json", is_flag=True, help="Print the report as one JSON object and nothing else.")
@click.option("--markdown", type=_FILE, help="Also write the report to this file.")
@click.option("--plot", type=_FILE, help="Also draw it into this file, .svg or .png (needs `elicense[load]`).")
@click.option("--dir", "folder", type=_FOLDER, help="Empty folder for nodes of its own; it is kept.")
def load(  # one option a parameter
    scenario_path: Path,
    seconds: float | None,
    rate: float | None,
    speed: float | None,
    credentials: Path | None,
    people: Path | None,
    clerks: tuple[Path, ...],
    tokens: Path | None,
    allowed: str,
    as_json: bool,
    markdown: Path | None,
    plot: Path | None,
    folder: Path | None,
) -> None:
    """Put load on a registry and cities as SCENARIO (a TOML file, see deploy/load) says.

    Brings up nodes of its own on this machine, or calls some that run already.
    Ctrl-C ends it with the report so far.  Exit status 1 if a threshold was missed, or the test was cut short by
    its greatest number of calls.
    """
    scenario = _changed(load_scenario(scenario_path), seconds=seconds, rate=rate, speed=speed)
    plot = _can_draw(plot)
    _make_empty(folder)
    running = Running(credentials, people, clerks, tokens, allowed)
    display = choose_display(for_machine=as_json)
    try:
        report = _run(scenario, running, folder, display)
    finally:
        display.close()
    click.echo(json.dumps(report.as_json()) if as_json else report.as_markdown(), nl=as_json)
    if markdown is not None:
        markdown.write_text(report.as_markdown(), encoding="utf-8")
    if plot is not None:
        draw(report, plot)
    if report.cut_short is CutShort.INTERRUPTED:
        sys.exit(130)
    sys.exit(0 if report.held else 1)


def _run(scenario: Scenario, running: Running, folder: Path | None, display: Display) -> Report:
    reports: list[Report] = []

    async def measured() -> None:
        async with _target(scenario, running, folder, display) as target:
            reports.append(await _measure(scenario, target, "nodes that run" if running.any else OWN, display))

    async def main() -> int:
        await ended_by_signals(measured())
        return 0

    try:
        run_loop(main)
    except (KeyboardInterrupt, asyncio.CancelledError):
        click.echo("stopped before the test began; nothing was left running", err=True)
        sys.exit(130)
    return reports[0]


def _can_draw(plot: Path | None) -> Path | None:
    """Return where to draw; None, and say so, where nothing can be drawn.

    Raises:
        Malformed: The file's name says no format.
    """
    if plot is None:
        return None
    if plot.suffix not in FORMATS:
        raise Malformed(f"{plot}: name a file that ends with .svg or .png")
    try:
        # Before the test, not after an hour of it.
        load_pyplot()
    except PlotsMissing as error:
        click.echo(error.message, err=True)
        return None
    return plot


def _make_empty(folder: Path | None) -> None:
    if folder is None:
        return
    if folder.exists() and any(folder.iterdir()):
        raise Malformed(f"{folder} is not empty; name another folder")
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)


def _changed(scenario: Scenario, *, seconds: float | None, rate: float | None, speed: float | None) -> Scenario:
    loop = {key: value for key, value in (("seconds", seconds), ("rate", rate)) if value is not None}
    day_one = {} if speed is None else {"speed": speed}
    return scenario.model_copy(
        update={
            "loop": scenario.loop.model_copy(update=loop),
            "day_one": scenario.day_one.model_copy(update=day_one),
        }
    )


@asynccontextmanager
async def _target(scenario: Scenario, running: Running, folder: Path | None, display: Display) -> AsyncIterator[Target]:
    if running.any:
        target = await _running(running)
        try:
            yield target
        finally:
            for city in target.cities:
                await city.close()
        return
    if folder is not None:
        async with open_world(folder, scenario, display.say) as target:
            yield target
        return
    with tempfile.TemporaryDirectory(prefix="elicense-load-") as temporary:
        async with open_world(Path(temporary), scenario, display.say) as target:
            yield target


async def _running(running: Running) -> Target:
    """Return how to call nodes that run already, once it is clear that they may be called."""
    verifier = None if running.credentials is None else load_credentials(running.credentials)
    clerks = [load_credentials(clerk) for clerk in running.clerks]
    tokens = [] if running.tokens is None else running.tokens.read_text(encoding="utf-8").split()
    called = [each.address for each in (verifier, *clerks) if each is not None]
    called += [parse_token(token).address for token in tokens]
    require_own_machine(called, allowed=running.allowed)
    people = [] if running.people is None else read_people(running.people)
    return Target(verifier=verifier, people=people, clerks=clerks, cities=await enroll_all(tokens))


async def _measure(scenario: Scenario, target: Target, name: str, display: Display) -> Report:
    tally, stop = Tally(), asyncio.Event()
    loop = asyncio.get_running_loop()
    # From here on Ctrl-C gives the report so far, and so does whatever else would end it.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, stop.set)
    async with AsyncExitStack() as stack:
        call = await calls_of(scenario, target, stack)
        making = Loop(
            call,
            tally,
            seconds=scenario.loop.seconds,
            max_calls=scenario.loop.max_calls,
            in_flight=scenario.loop.in_flight,
            stop=stop,
            each_second=lambda second: display.second(second, tally),
        )
        if scenario.kind == "day-one":
            day = scenario.day_one
            starts = diurnal(a_day=day.licenses * day.share, speed=day.speed, from_hour=day.from_hour)
            took = await making.open(starts)
        elif scenario.loop.kind == "open":
            took = await making.open(steady(scenario.loop.rate))
        else:
            took = await making.closed()
    checks = check_thresholds(scenario, tally, took)
    return Report(scenario, name, took, tally, checks, making.cut_short)
