"""The verb ``elicense bench verify``."""

from __future__ import annotations

import shutil
from pathlib import Path
from tempfile import mkdtemp

import click

from elicense.cli.bench.database import Database, database_options, open_database
from elicense.cli.bench.house import open_house
from elicense.cli.bench.report import Report
from elicense.cli.bench.verify import Measurement, Size, facts
from elicense.cli.demo.processes import Household, run_as_household


@click.command()
@click.option(
    "--licenses", type=click.IntRange(1_000, 17_000_000), default=100_000, show_default=True, help="In the store."
)
@click.option("--cities", type=click.IntRange(1, 10), default=3, show_default=True, help="Whose they are.")
@click.option("--calls", type=click.IntRange(100), default=10_000, show_default=True, help="Calls a round.")
@click.option("--rounds", type=click.IntRange(1), default=5, show_default=True, help="Rounds that count.")
@click.option("--in-flight", type=click.IntRange(1, 1_024), default=64, show_default=True, help="Calls at once.")
@click.option("--batch", type=click.IntRange(1, 1_000), default=1_000, show_default=True, help="Questions of a batch.")
@click.option(
    "--ingest",
    type=click.IntRange(0, 20_000),
    default=1_000,
    show_default=True,
    help="Records a second of the rows under ingest; 0 leaves them out.",
)
@click.option(
    "--ingest-seconds",
    type=click.FloatRange(0.2, 60),
    default=3.0,
    show_default=True,
    help="How long a round under ingest lasts.",
)
@database_options
@click.option("--view-only", is_flag=True, help="Fill only what a verification reads; for millions of licences.")
@click.option("--json", "as_json", is_flag=True, help="Print every round as one JSON object.")
def verify(
    licenses: int,
    cities: int,
    calls: int,
    rounds: int,
    in_flight: int,
    batch: int,
    ingest: int,
    ingest_seconds: float,
    database: str | None,
    database_pid: int | None,
    *,
    postgres: bool,
    view_only: bool,
    as_json: bool,
) -> None:
    """Measure verifications, single and in batches, beside a bare call on the same server stack.

    A registry is filled with synthetic licences and asked by an insurer, over mutual
    TLS on loopback. What counts is the CPU of server and database a call, and its
    ratio to the bare call of the same round: 0.50 means that it costs twice as much.

    Under ingest, a city sends new licences at a steady rate while verifications go
    on. To charge them only for what is theirs, the same number of records is sent
    alone before, in every round and over the same time, and the CPU that this took
    is taken off. The figure with nothing taken off is printed below the table.
    """
    size = Size(calls=calls, in_flight=in_flight, batch=batch, ingest=ingest, ingest_s=ingest_seconds)
    folder = Path(mkdtemp(prefix="elicense-bench-"))
    household = Household()

    async def run(where: Database) -> Report:
        async with open_house(folder, household, where, licenses=licenses, cities=cities, view_only=view_only) as house:
            setting = {**await facts(house, keys=max(1_000, calls)), "cities": cities, "in flight": in_flight}
            return Report("Verification", setting, await Measurement(house, size).run(rounds=rounds))

    with open_database(postgres=postgres, database=database, database_pid=database_pid) as where:
        try:
            report = run_as_household(run(where))
        finally:
            household.kill_all()
            shutil.rmtree(folder, ignore_errors=True)
    click.echo(report.json() if as_json else report.markdown())
