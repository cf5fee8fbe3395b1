"""The verb ``elicense bench replicate``."""

from __future__ import annotations

import shutil
from pathlib import Path
from tempfile import mkdtemp

import click

from elicense.cli.bench.database import Database, database_options, open_database
from elicense.cli.bench.house import open_house
from elicense.cli.bench.replicate import Replicating
from elicense.cli.bench.report import Report
from elicense.cli.bench.sending import SENDERS
from elicense.cli.demo.processes import Household, run_as_household


@click.command()
@click.option(
    "--licenses", type=click.IntRange(1_000, 16_000_000), default=100_000, show_default=True, help="Held before."
)
@click.option("--cities", type=click.IntRange(1, len(SENDERS)), default=3, show_default=True, help="That send at once.")
@click.option("--batches", type=click.IntRange(1, 64), default=8, show_default=True, help="A city and round.")
@click.option("--rounds", type=click.IntRange(1), default=3, show_default=True, help="Rounds that count.")
@database_options
@click.option("--json", "as_json", is_flag=True, help="Print every round as one JSON object.")
def replicate(
    licenses: int,
    cities: int,
    batches: int,
    rounds: int,
    database: str | None,
    database_pid: int | None,
    *,
    postgres: bool,
    as_json: bool,
) -> None:
    """Measure how fast the registry takes in cities' logs, beside one signature check a record.

    Cities have their batches ready, of 2,048 records each, and send them over mutual
    TLS, one call in flight a city. What counts is what the registry does: it checks
    the signed head, computes the root again, applies the records to the national view
    in the same transaction, and flushes it before it answers with a receipt.
    """
    folder = Path(mkdtemp(prefix="elicense-bench-"))
    household = Household()

    async def run(where: Database) -> Report:
        async with open_house(folder, household, where, licenses=licenses, cities=3) as house:
            figures = await Replicating(house, cities=cities, batches=batches).run(rounds=rounds)
            return Report("Replication", {"store": where.store, "licenses": licenses, "cities": cities}, figures)

    with open_database(postgres=postgres, database=database, database_pid=database_pid) as where:
        try:
            report = run_as_household(run(where))
        finally:
            household.kill_all()
            shutil.rmtree(folder, ignore_errors=True)
    click.echo(report.json() if as_json else report.markdown())
