"""The verb ``elicense bench issue``."""

from __future__ import annotations

import shutil
from pathlib import Path
from tempfile import mkdtemp

import click

from elicense.cli.bench.database import Database, open_database
from elicense.cli.bench.issue import Issuing, Size
from elicense.cli.bench.report import Report
from elicense.cli.demo.nation import SUZHOU, plan_nation
from elicense.cli.demo.processes import Household, run_as_household


@click.command()
@click.option("--calls", type=click.IntRange(100), default=2_000, show_default=True, help="Licences a round.")
@click.option("--in-flight", type=click.IntRange(1, 1_024), default=64, show_default=True, help="Calls at once.")
@click.option("--rows", type=click.IntRange(1), default=20_000, show_default=True, help="Drivers of an imported file.")
@click.option(
    "--citizens", type=click.IntRange(1, 1_000), default=100, show_default=True, help="That come a second to a counter."
)
@click.option(
    "--counter-seconds",
    type=click.FloatRange(0.2, 60),
    default=4.0,
    show_default=True,
    help="How long they come with nothing else going on; during an import, as long as it lasts.",
)
@click.option("--rounds", type=click.IntRange(1), default=3, show_default=True, help="Rounds that count.")
@click.option(
    "--postgres",
    is_flag=True,
    help="Keep what both nodes have in a PostgreSQL that is started for this run (needs the extra `dev`); SQLite "
    "otherwise.",
)
@click.option("--json", "as_json", is_flag=True, help="Print every round as one JSON object.")
def issue(
    calls: int,
    in_flight: int,
    rows: int,
    citizens: int,
    counter_seconds: float,
    rounds: int,
    *,
    postgres: bool,
    as_json: bool,
) -> None:
    """Measure licences issued at the counter and imported from a file, beside a bare call.

    A registry and one city run. What counts is the CPU of both a licence, and of their
    PostgreSQL if they are on it; each is claimed at the registry, durable, signed and
    answered.

    One at a time, a licence is compared with two bare calls, one at a time too, and
    one flush of the store, SQLite's in either case: what it could not do without.
    Below the table stand how often their CPU it takes, and how often their time.

    Citizens come at a steady rate, with and without an import that runs; how long
    half of them (p50) and all but one in a hundred (p99) wait at most stands below
    the table, and the anonymous memory of both nodes in the end. The CPU of their row
    is without that of the import, measured alone.
    """
    size = Size(calls=calls, in_flight=in_flight, rows=rows, citizens=citizens, counter_s=counter_seconds)
    folder = Path(mkdtemp(prefix="elicense-bench-"))
    household = Household()
    nation = plan_nation(folder, household)

    async def run(where: Database) -> Report:
        try:
            figures = await Issuing(nation, size, database_pid=where.pid).run(rounds=rounds)
        finally:
            await nation.close()
        return Report("Issuing", {"store": where.store, "in flight": in_flight, "drivers of a file": rows}, figures)

    with open_database(postgres=postgres, database=None, database_pid=None) as where, where.beside() as city:
        nation.registry.database, nation.nodes[SUZHOU].database = where.url, city.url
        try:
            report = run_as_household(run(where))
        finally:
            household.kill_all()
            shutil.rmtree(folder, ignore_errors=True)
    click.echo(report.json() if as_json else report.markdown())
