"""The verb ``elicense bench issue``."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path
from tempfile import mkdtemp

import click

from elicense.cli.bench.issue import Issuing, Size
from elicense.cli.bench.report import Report
from elicense.cli.demo.nation import plan_nation
from elicense.cli.demo.processes import Household


@click.command()
@click.option("--calls", type=click.IntRange(100), default=2_000, show_default=True, help="Licences a round.")
@click.option("--in-flight", type=click.IntRange(1, 1_024), default=64, show_default=True, help="Calls at once.")
@click.option("--rows", type=click.IntRange(1), default=20_000, show_default=True, help="Drivers of an imported file.")
@click.option("--rounds", type=click.IntRange(1), default=3, show_default=True, help="Rounds that count.")
@click.option("--json", "as_json", is_flag=True, help="Print every round as one JSON object.")
def issue(calls: int, in_flight: int, rows: int, rounds: int, as_json: bool) -> None:
    """Measure licences issued at the counter and imported from a file, beside a bare call."""
    folder = Path(mkdtemp(prefix="elicense-bench-"))
    household = Household()
    nation = plan_nation(folder, household)

    async def run() -> Report:
        try:
            figures = await Issuing(nation, Size(calls, in_flight, rows)).run(rounds=rounds)
        finally:
            await nation.close()
        return Report("Issuing", {"store": "SQLite", "in flight": in_flight, "drivers of a file": rows}, figures)

    try:
        report = asyncio.run(run())
    finally:
        household.kill_all()
        shutil.rmtree(folder, ignore_errors=True)
    click.echo(report.json() if as_json else report.markdown())
