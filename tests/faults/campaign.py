"""Runs faults one after the other over one nation, and audits after each.

``make faults`` runs the long form; the test suite runs the short one.  Exit status
1: something was not as it should be; 2: everything was, but faults that this
machine can not bring about were skipped, and are named at the end.
"""

from __future__ import annotations

import argparse
import asyncio
import re
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from tests.faults import report
from tests.faults.audit import audit
from tests.faults.fault import Apart, Attack, Fault, NotPossibleHere, Trial, Trouble
from tests.faults.report import Row
from tests.faults.table import FAULTS, ON_POSTGRES, short
from tests.faults.workload import Ledger
from tests.faults.world import TIANJIN, Stores, World, running_world
from tests.support.postgres import PostgresServer, running_postgres

#: Licences acknowledged before each blow, so that it falls into running work.
_WARM = 5
#: How often times of peace and of attack take turns in the long form, and how long each is.
_TURNS, _TURN_S = 12, 2.5
#: Bits flipped in each column in the long form.
_FLIPS = 3


@dataclass
class Campaign:
    """One nation, and everything that was asked of it so far.

    Attributes:
        world: The nation.
        postgres: The server behind Chengdu, if any.
        long: Whether every fault gets its long count.
        share: Part of the long counts that is run.
        seed: Draws the moments.
    """

    world: World
    postgres: PostgresServer | None
    long: bool = False
    share: float = 1.0
    seed: int = 20210601
    ledgers: dict[int, Ledger] = field(default_factory=dict)

    async def run(self, fault: Trouble) -> Row:
        """Run one fault and audit; a machine that can not bring it about skips it."""
        row = Row(fault.name)
        if fault.city not in self.world.cities:
            row.skipped = "no PostgreSQL"
            return row
        city = self.world.cities[fault.city]
        trial = Trial(
            self.world,
            city,
            self._ledger(fault.city),
            Random(f"{self.seed} {fault.name}"),
            self.postgres,
            healthy=self._ledger(TIANJIN),
            turns=max(1, round(_TURNS * self.share)) if self.long else 1,
            seconds_a_turn=_TURN_S if self.long else 1.0,
            flips=max(1, round(_FLIPS * self.share)) if self.long else 1,
            long=self.long,
        )
        try:
            await self._strike(fault, trial, row)
        except NotPossibleHere as error:
            row.skipped = str(error)
        row.notes, row.felt = trial.notes, list(trial.felt)
        return row

    def _ledger(self, code: int) -> Ledger:
        return self.ledgers.setdefault(code, Ledger(self.world.cities[code]))

    async def _strike(self, fault: Trouble, trial: Trial, row: Row) -> None:
        match fault:
            case Attack():
                await self._attack(fault, trial, row)
            case Apart():
                came = await fault.happen(trial)
                row.times, row.findings, row.broken = came.times, came.findings, came.broken
                row.answering, row.catching_up = came.answering, came.catching_up
            case Fault():
                await self._break(fault, trial, row)

    async def _break(self, fault: Fault, trial: Trial, row: Row) -> None:
        rounds = max(1, round(fault.long_rounds * self.share)) if self.long else fault.rounds
        while trial.round < rounds:
            async with trial.ledger.load(singles=3 if self.long else 2):
                for _ in range(min(fault.stride, rounds - trial.round)):
                    hits = trial.hits
                    await self._round(fault, trial, row)
                    row.times += trial.hits - hits or 1
                    trial.round += 1
            # Commands take longer than all the rest: once a fault in the long form, once in all in the short one.
            await self._check(trial, row, fsck=self.long and trial.round == rounds)

    async def _round(self, fault: Fault, trial: Trial, row: Row) -> None:
        ledger = trial.ledger
        await ledger.more(_WARM)
        before = ledger.refusals.copy()
        async with fault.broken(trial):
            if fault.goes_on:
                try:
                    await ledger.more(fault.goes_on)
                except TimeoutError:
                    row.broken.append(f"nothing was acknowledged meanwhile: {ledger.refusals - before}")
            if fault.refusals and not any(ledger.refusals[reason] > before[reason] for reason in fault.refusals):
                try:
                    await trial.refused(*fault.refusals)
                except TimeoutError:
                    row.broken.append(f"refused for {ledger.refusals - before} instead of {fault.refusals}")
        healed = ledger.refusals.copy()
        try:
            row.answering.append(await ledger.issue_until_acknowledged())
        except TimeoutError:
            row.broken.append(f"nothing was acknowledged afterwards: {ledger.refusals - healed}")
            raise

    async def _attack(self, fault: Attack, trial: Trial, row: Row) -> None:
        async with trial.ledger.load(singles=1, imports=0):
            await trial.ledger.more(_WARM)
            tally = await fault.send(trial)
            await trial.ledger.more(_WARM)
        row.times, row.accepted = tally.tried, tally.accepted
        await self._check(trial, row, fsck=self.long)

    async def _check(self, trial: Trial, row: Row, *, fsck: bool) -> None:
        """Let everything be answered and replicated, then audit."""
        await trial.ledger.settle()
        row.catching_up.append(await self.world.caught_up(trial.city))
        ledgers = [trial.ledger]
        if trial.felt:
            ledgers.append(trial.healthy)
            await trial.healthy.settle()
            await self.world.caught_up(trial.healthy.city)
        found = await audit(self.world, ledgers, fsck=fsck)
        row.findings.add(found)


@asynccontextmanager
async def campaign(
    folder: Path, postgres: PostgresServer | None, *, registry_on_postgres: bool = False, **options: object
) -> AsyncIterator[Campaign]:
    """Set up a nation for a campaign: Chengdu is on PostgreSQL, or the registry is."""
    async with AsyncExitStack() as stack:
        stores = Stores()
        if postgres is not None:
            socket, url = str(postgres.folder / ".s.PGSQL.5432"), stack.enter_context(postgres.database())
            stores = Stores(socket, registry=url) if registry_on_postgres else Stores(socket, chengdu=url)
        world = await stack.enter_async_context(running_world(folder, stores))
        yield Campaign(world, postgres, **options)  # type: ignore[arg-type]


async def _main(words: argparse.Namespace) -> int:
    rows: list[Row] = []
    with running_postgres() as postgres:
        for faults, registry_on_postgres in ((FAULTS, False), (ON_POSTGRES, True)):
            chosen = [fault for fault in faults if re.search(words.only, fault.name)]
            if words.short:
                chosen = list(short(chosen))
            if chosen:
                rows += await _nation(words, postgres, chosen, registry_on_postgres=registry_on_postgres)
    report.write(rows, words.out)
    print(f"\n{report.markdown(rows)}")  # noqa: T201
    return report.exit_status(rows, allow_skips=words.allow_skips)


async def _nation(
    words: argparse.Namespace,
    postgres: PostgresServer,
    chosen: Sequence[Trouble],
    *,
    registry_on_postgres: bool,
) -> list[Row]:
    """Run faults over a nation of their own."""
    rows: list[Row] = []
    options = {"long": not words.short, "share": words.share, "seed": words.seed}
    with tempfile.TemporaryDirectory(prefix="elicense-faults-") as folder:
        async with campaign(Path(folder), postgres, registry_on_postgres=registry_on_postgres, **options) as run:
            for fault in chosen:
                started = time.monotonic()
                try:
                    rows.append(await run.run(fault))
                except Exception as error:  # the table must tell of every other fault all the same
                    rows.append(Row(fault.name, broken=[f"{type(error).__name__}: {error}"]))
                print(f"{rows[-1].line()}  ({time.monotonic() - started:.0f} s)", flush=True)  # noqa: T201
                for what in rows[-1].failures:
                    print(f"FAILED {what}", flush=True)  # noqa: T201
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(prog="make faults", description=__doc__)
    parser.add_argument("--share", type=float, default=1.0, help="Part of the full counts to run.")
    parser.add_argument("--short", action="store_true", help="The counts of the test suite.")
    parser.add_argument("--only", default="", help="Faults whose name matches this pattern.")
    parser.add_argument("--seed", type=int, default=20210601, help="Draws the moments.")
    parser.add_argument(
        "--allow-skips", action="store_true", help="Exit with 0 instead of 2 where this machine can not do all faults."
    )
    parser.add_argument("--out", type=Path, default=Path("build/faults"), help="Folder of faults.md and faults.json.")
    sys.exit(asyncio.run(_main(parser.parse_args())))


if __name__ == "__main__":
    main()
