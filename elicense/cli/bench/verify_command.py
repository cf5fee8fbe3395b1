"""The verb ``elicense bench verify``."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path
from tempfile import mkdtemp

import click

from elicense.cli.bench.house import Database, open_house
from elicense.cli.bench.report import Report
from elicense.cli.bench.verify import Measurement, facts
from elicense.cli.demo.processes import Household


@click.command()
@click.option(
    "--licenses", type=click.IntRange(1_000, 18_000_000), default=100_000, show_default=True, help="In the store."
)
@click.option("--cities", type=click.IntRange(1, 10), default=3, show_default=True, help="Whose they are.")
@click.option("--calls", type=click.IntRange(100), default=10_000, show_default=True, help="Calls a round.")
@click.option("--rounds", type=click.IntRange(1), default=5, show_default=True, help="Rounds that count.")
@click.option("--in-flight", type=click.IntRange(1, 1_024), default=64, show_default=True, help="Calls at once.")
@click.option("--batch", type=click.IntRange(1, 1_000), default=1_000, show_default=True, help="Questions of a batch.")
@click.option("--database", metavar="URL", help="An empty PostgreSQL database; SQLite when left out.")
@click.option("--database-pid", type=int, help="Process id of that PostgreSQL server, whose CPU counts too.")
@click.option("--view-only", is_flag=True, help="Fill only what a verification reads; for millions of licences.")
@click.option("--json", "as_json", is_flag=True, help="Print every round as one JSON object.")
def verify(
    licenses: int,
    cities: int,
    calls: int,
    rounds: int,
    in_flight: int,
    batch: int,
    database: str | None,
    database_pid: int | None,
    *,
    view_only: bool,
    as_json: bool,
) -> None:
    """Measure verifications, single and in batches, beside a bare call on the same server stack.

    A registry is filled with synthetic licences and asked by an insurer, over mutual
    TLS on loopback.  What counts is the CPU of server and database a call, and its
    ratio to the bare call of the same round.
    """
    if (database is None) != (database_pid is None):
        raise click.UsageError("give --database and --database-pid together")
    folder = Path(mkdtemp(prefix="elicense-bench-"))
    household = Household()

    async def run() -> Report:
        where = Database(database, database_pid)
        async with open_house(folder, household, where, licenses=licenses, cities=cities, view_only=view_only) as house:
            setting = await facts(house, keys=max(1_000, calls))
            measurement = Measurement(house, calls=calls, in_flight=in_flight, batch=batch)
            return Report("Verification", {**setting, "in flight": in_flight}, await measurement.run(rounds=rounds))

    try:
        report = asyncio.run(run())
    finally:
        household.kill_all()
        shutil.rmtree(folder, ignore_errors=True)
    click.echo(report.json() if as_json else report.markdown())
