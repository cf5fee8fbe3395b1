"""The verb ``elicense bench replicate``."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path
from tempfile import mkdtemp

import click

from elicense.cli.bench.house import Database, open_house
from elicense.cli.bench.replicate import SENDERS, Replicating
from elicense.cli.bench.report import Report
from elicense.cli.demo.processes import Household


@click.command()
@click.option(
    "--licenses", type=click.IntRange(1_000, 16_000_000), default=100_000, show_default=True, help="Held before."
)
@click.option("--cities", type=click.IntRange(1, len(SENDERS)), default=3, show_default=True, help="That send at once.")
@click.option("--batches", type=click.IntRange(1, 64), default=8, show_default=True, help="A city and round.")
@click.option("--rounds", type=click.IntRange(1), default=3, show_default=True, help="Rounds that count.")
@click.option("--database", metavar="URL", help="An empty PostgreSQL database; SQLite when left out.")
@click.option("--database-pid", type=int, help="Process id of that PostgreSQL server, whose CPU counts too.")
@click.option("--json", "as_json", is_flag=True, help="Print every round as one JSON object.")
def replicate(
    licenses: int,
    cities: int,
    batches: int,
    rounds: int,
    database: str | None,
    database_pid: int | None,
    as_json: bool,
) -> None:
    """Measure how fast the registry takes in cities' logs, beside one signature check a record."""
    if (database is None) != (database_pid is None):
        raise click.UsageError("give --database and --database-pid together")
    folder = Path(mkdtemp(prefix="elicense-bench-"))
    household = Household()

    async def run() -> Report:
        where = Database(database, database_pid)
        async with open_house(folder, household, where, licenses=licenses, cities=3) as house:
            figures = await Replicating(house, cities=cities, batches=batches).run(rounds=rounds)
            store = "SQLite" if database is None else "PostgreSQL"
            return Report("Replication", {"licenses": licenses, "store": store, "cities": cities}, figures)

    try:
        report = asyncio.run(run())
    finally:
        household.kill_all()
        shutil.rmtree(folder, ignore_errors=True)
    click.echo(report.json() if as_json else report.markdown())
