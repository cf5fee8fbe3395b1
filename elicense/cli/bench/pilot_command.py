"""The verb ``elicense bench pilot``."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict
from pathlib import Path
from tempfile import mkdtemp

import click

from elicense.cli.bench.database import Database, database_options, open_database
from elicense.cli.bench.house import House
from elicense.cli.bench.pilot import LICENSES, SETTINGS, Pilot, Replicated
from elicense.cli.bench.replicate import signature_rate
from elicense.cli.demo.processes import Household, run_as_household


@click.command()
@click.option(
    "--licenses",
    type=click.IntRange(300, 17_000_000),
    default=LICENSES,
    show_default=True,
    help="In all three cities; 1,000,000 take some 3 GB below the temporary folder (TMPDIR).",
)
@database_options
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def pilot(licenses: int, database: str | None, database_pid: int | None, *, postgres: bool, as_json: bool) -> None:
    """Let the registry take in the licences of the pilot, which lie in three cities' logs.

    Tianjin, Chengdu and Suzhou have issued the licences, shared out by inhabitants,
    and could not hand them in. First their stores are filled, which takes minutes and
    is not measured: each person is claimed at the registry over the wire, each record
    cites its grant, heads are signed by the city's own key. So the registry holds who
    was granted to whom, and no record; grants hold for a day here instead of minutes.
    Each city's copy of the registry's own log is brought up to its end, since a city
    makes it while its persons are granted.

    Then four processes, the registry anew and the three city nodes, are left alone
    until the registry's national view has all, and an insurer asks about 1,000 of
    them. Printed are the seconds from the start of the city nodes, and what each
    process took with the assistants that it started: CPU a record that it handled, the
    most anonymous memory, looked at once a second, that any one of them had, and all
    together. Cities keep theirs on SQLite in any case. Progress goes to standard error.
    """
    folder = Path(mkdtemp(prefix="elicense-bench-"))
    household = Household()

    def say(line: str) -> None:
        click.echo(line, err=True)

    async def run(where: Database) -> tuple[Replicated, float]:
        house = House(folder, household, where, household.port())
        try:
            await house.found(SETTINGS)
            result = await Pilot(house, licenses=licenses, say=say).run()
        finally:
            await house.close()
        return result, await signature_rate()

    with open_database(postgres=postgres, database=database, database_pid=database_pid) as where:
        try:
            result, checks = run_as_household(run(where))
        finally:
            household.kill_all()
            shutil.rmtree(folder, ignore_errors=True)
        click.echo(_json(result, checks, where.store) if as_json else _markdown(result, checks, where.store))


def _json(result: Replicated, checks: float, store: str) -> str:
    derived = {"store": store, "records_per_s": result.rate, "signature_checks_per_s": checks}
    costs = [{**asdict(cost), "cpu_us_a_record": cost.record_us} for cost in result.costs]
    return json.dumps({**asdict(result), **derived, "costs": costs}, indent=2)


def _markdown(result: Replicated, checks: float, store: str) -> str:
    lines = [
        "### The pilot",
        "",
        f"registry's store: {store}, licences: {result.licenses:,}, filled in s: {result.filled_s:,.0f}",
        "",
        f"In the national view after {result.seconds:,.1f} s, the first after {result.first_s:.1f} s: "
        f"{result.rate:,.0f} records a second, {result.rate / checks:.2f} × the rate of one Ed25519 verification "
        f"a record on one core ({checks:,.0f} a second).",
        "",
        "| process | records | CPU s | CPU µs / record | most anonymous MiB | with its assistants |",
        "|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {cost.name} | {cost.records:,} | {cost.cpu_s:,.1f} | {cost.record_us:.1f} | {cost.memory / 2**20:.0f} "
        f"| {cost.memory_with_assistants / 2**20:.0f} |"
        for cost in result.costs
    ]
    return "\n".join(lines)
