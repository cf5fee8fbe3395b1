"""The verb ``elicense bench scale``."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict
from pathlib import Path
from tempfile import mkdtemp
from typing import Final

import click

from elicense.cli.bench.database import Database, open_database
from elicense.cli.bench.house import open_house
from elicense.cli.bench.scale import Point, Scale, measure_point
from elicense.cli.bench.scale_plot import draw
from elicense.cli.bench.verify import Size
from elicense.cli.demo.processes import Household, run_as_household
from elicense.cli.load.plot import FORMATS, PlotsMissing, load_pyplot

MAX_LICENSES: Final = 17_000_000
MAX_CITIES: Final = 10


class Numbers(click.ParamType[tuple[int, ...]]):
    """Whole numbers, separated by commas, from the smallest to the largest.

    Args:
        low: The smallest that may be.
        high: The largest that may be.
    """

    name = "numbers"

    def __init__(self, low: int, high: int) -> None:
        self._low = low
        self._high = high

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, ...]:
        """Return the numbers, sorted, each once."""
        if isinstance(value, tuple):
            return value
        try:
            numbers = sorted({int(part.replace("_", "")) for part in str(value).split(",")})
        except ValueError:
            self.fail("write numbers, separated by commas: 100000,1000000", param, ctx)
        if numbers[0] < self._low or numbers[-1] > self._high:
            self.fail(f"each must be from {self._low:,} to {self._high:,}", param, ctx)
        return tuple(numbers)


@click.command()
@click.option(
    "--sizes",
    type=Numbers(1_000, MAX_LICENSES),
    default="100000,1000000,10000000",
    show_default=True,
    help="Numbers of licences, separated by commas.",
)
@click.option(
    "--cities",
    type=Numbers(1, MAX_CITIES),
    default="1,3,10",
    show_default=True,
    help="Numbers of cities, separated by commas.",
)
@click.option("--calls", type=click.IntRange(100), default=10_000, show_default=True, help="Calls a round.")
@click.option("--rounds", type=click.IntRange(1), default=5, show_default=True, help="Rounds that count.")
@click.option("--in-flight", type=click.IntRange(1, 1_024), default=64, show_default=True, help="Calls at once.")
@click.option(
    "--postgres",
    is_flag=True,
    help="Keep licences in a PostgreSQL that is started for each point (needs the extra `dev`); SQLite otherwise.",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    default="bench-scale",
    show_default=True,
    help="Folder for scale.json, scale.svg and scale.png; made when missing.",
)
def scale(
    sizes: tuple[int, ...],
    cities: tuple[int, ...],
    calls: int,
    rounds: int,
    in_flight: int,
    *,
    postgres: bool,
    out: Path,
) -> None:
    """Show what verifications and a start cost against the number of licences and of cities.

    For each number of licences a registry is filled (of the second number of cities
    given, or the only one) and measured as by `bench verify --view-only`; then for
    each number of cities, with the smallest number of licences. Then it is started
    three times anew, each time until it has answered a verification.

    Prints a table of each, with every line's cost beside that of the first line, and
    writes figures as JSON and, with the extra `load`, plots. Filling ten million takes half
    an hour and 3 GB below the temporary folder (TMPDIR). Progress goes to standard error.
    """
    plots = _plots()  # whoever wants them hears now that they can not be drawn, not after an hour
    usual = cities[min(1, len(cities) - 1)]
    wanted = dict.fromkeys([*((size, usual) for size in sizes), *((sizes[0], count) for count in cities)])
    size = Size(calls=calls, in_flight=in_flight, batch=min(1_000, calls))
    points: dict[tuple[int, int], Point] = {}
    for number, (licenses, count) in enumerate(wanted, 1):
        click.echo(f"{number} of {len(wanted)}: {licenses:,} licences of {count} cities", err=True)
        with open_database(postgres=postgres, database=None, database_pid=None) as where:
            points[licenses, count] = _measure(where, licenses, count, size, rounds)
            store = where.store
    found = Scale(store, [points[each, usual] for each in sizes], [points[sizes[0], each] for each in cities])
    out.mkdir(parents=True, exist_ok=True)
    (out / "scale.json").write_text(json.dumps(asdict(found), indent=2), encoding="utf-8")
    for name in plots:
        draw(found, out / name)
    click.echo(found.markdown())


def _plots() -> tuple[str, ...]:
    try:
        load_pyplot()
    except PlotsMissing as missing:
        click.echo(missing.message, err=True)
        return ()
    return tuple(f"scale{suffix}" for suffix in FORMATS)


def _measure(where: Database, licenses: int, cities: int, size: Size, rounds: int) -> Point:
    folder = Path(mkdtemp(prefix="elicense-bench-"))
    household = Household()

    async def run() -> Point:
        async with open_house(folder, household, where, licenses=licenses, cities=cities, view_only=True) as house:
            return await measure_point(house, size, rounds=rounds)

    try:
        return run_as_household(run())
    finally:
        household.kill_all()
        shutil.rmtree(folder, ignore_errors=True)
