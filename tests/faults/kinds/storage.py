"""Disks and databases: full, failing, refusing, set back."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import sqlite3
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path

from tests.faults.fault import Fault, NotPossibleHere, Trial
from tests.faults.processes import until
from tests.faults.world import SUZHOU, CityNode, Node

_HIT_S = 30.0

REFUSING = "disk full, an INSERT refused in mid-batch, PostgreSQL read-only or away"
"""Group of the stores that refuse."""

_SET_BACK = "database set back to a copy, with the registry there and away"


@asynccontextmanager
async def injected(trial: Trial, *, side: str, call: str, how: str, span: int) -> AsyncIterator[None]:
    """Let the n-th system call of one kind fail or kill, n going up with the rounds.

    Args:
        side: Whose calls.
        call: Name of the system call.
        how: ``error=EIO``, ``error=ENOSPC`` or ``signal=KILL``.
        span: How many occurrences are taken in turn; a commit of one licence makes up to 30 writes and a sync.
    """
    strace = shutil.which("strace")
    if strace is None:
        raise NotPossibleHere("strace is not installed")
    node: Node = trial.city if side == "city" else trial.world.registry
    trace = trial.world.folder / f"{side}.strace"
    trace.unlink(missing_ok=True)
    occurrence = 1 + trial.round % span
    tracer = await asyncio.create_subprocess_exec(
        strace, "-f", "-e", f"trace={call}", "-e", f"inject={call}:{how}:when={occurrence}",
        "-o", str(trace), "-p", str(node.running.pid),
        stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert tracer.stderr is not None
    try:
        line = await tracer.stderr.readline()
        if b"attached" not in line:
            raise NotPossibleHere(f"strace can not attach: {line.decode().strip()}")
        await until(lambda: not node.running.alive or "INJECTED" in _traced(trace), deadline_s=_HIT_S)
        trial.hits += 1
    finally:
        with suppress(ProcessLookupError):
            tracer.send_signal(signal.SIGINT)
        await tracer.communicate()
    yield
    if how == "error=ENOSPC" and call == "pwrite64":
        return  # room again, and it goes on by itself
    await node.kill()
    if side == "city":
        await _looked_into(trial)
    await node.start()


def _traced(trace: Path) -> str:
    return trace.read_text(errors="replace") if trace.exists() else ""


async def _looked_into(trial: Trial) -> None:
    """Do what an operator does with a city that only verifies: check its log, then allow it to sign."""
    config = ("--config", str(trial.city.folder / "config.toml"))
    for words in (("fsck",), ("allow-signing", "--yes")):
        status, said = await trial.world.nursery.command("city_node.cli", *words, *config)
        if status:
            raise AssertionError(f"{words[0]} ended with {status}: {said.strip()}")


@asynccontextmanager
async def disk_full(trial: Trial) -> AsyncIterator[None]:
    """Move the city's folder to a small disk of its own and fill that; no restart when there is room again."""
    city, world = trial.city, trial.world
    aside = city.folder.with_name(f"{city.folder.name}-aside")
    await city.kill()
    world.look_away(city.database_url)
    size = sum(file.stat().st_size for file in city.folder.rglob("*") if file.is_file())
    shutil.copytree(city.folder, aside)
    try:
        await asyncio.to_thread(_mount, city.folder, size + (8 << 20))
    except NotPossibleHere:
        shutil.rmtree(aside)
        await city.start()
        raise
    try:
        shutil.copytree(aside, city.folder, dirs_exist_ok=True)
        await city.start()
        await trial.ledger.more(5)
        ballast = city.folder / "ballast"
        await asyncio.to_thread(_fill, ballast)
        yield
        ballast.unlink()
        await trial.ledger.more(5)
    finally:
        await city.kill()
        shutil.rmtree(aside)
        shutil.copytree(city.folder, aside)
        await asyncio.to_thread(_unmount, city.folder)
        shutil.copytree(aside, city.folder, dirs_exist_ok=True)
        shutil.rmtree(aside)
        await city.start()


def _mount(folder: Path, size: int) -> None:
    if os.geteuid() != 0:
        raise NotPossibleHere("only root can mount a small disk")
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder], check=False, capture_output=True, text=True
    )
    if done.returncode:
        raise NotPossibleHere(f"a small disk can not be mounted: {done.stderr.strip()}")


def _unmount(folder: Path) -> None:
    # Lazily: whoever still looks at a file of it does not hold it up.
    subprocess.run(["umount", "-l", folder], check=True)


def _fill(ballast: Path) -> None:
    # Page by page at the end: the last room is what matters.
    with ballast.open("wb", buffering=0) as file:
        for piece in (1 << 20, 1 << 12):
            with suppress(OSError):
                while file.write(b"\0" * piece) == piece:
                    pass


@asynccontextmanager
async def insert_fails(trial: Trial, *, side: str, table: str, condition: str) -> AsyncIterator[None]:
    """Have the database refuse one row in the middle of a batch."""
    database = trial.city.folder / "city.db" if side == "city" else trial.world.registry.folder / "registry.db"
    await asyncio.to_thread(
        _execute,
        database,
        f"CREATE TRIGGER refuse BEFORE INSERT ON {table} WHEN {condition} BEGIN SELECT RAISE(ABORT, 'refused'); END",
    )
    yield
    await asyncio.to_thread(_execute, database, "DROP TRIGGER refuse")


def _execute(database: Path, statement: str) -> None:
    connection = sqlite3.connect(database, timeout=20)
    try:
        with connection:
            connection.execute(statement)
    finally:
        connection.close()


def _database_files(city: CityNode) -> list[Path]:
    return sorted(city.folder.glob("city.db*"))


@asynccontextmanager
async def set_back(trial: Trial, *, alone: bool) -> AsyncIterator[None]:
    """Put an older copy of the city's database in place of the newer one that was replicated meanwhile.

    Args:
        alone: The registry is away meanwhile, so that only the anchor can tell.
    """
    city, world, ledger = trial.city, trial.world, trial.ledger
    older, newer = (city.folder.with_name(f"{city.folder.name}-{name}") for name in ("older", "newer"))
    await city.kill()
    world.look_away(city.database_url)
    await asyncio.to_thread(_copy, city, older)
    await city.start()
    await ledger.more(10)
    before = world.sizes(city)[0]
    await until(lambda: world.sizes(city)[1] >= before)
    await city.kill()
    world.look_away(city.database_url)
    await asyncio.to_thread(_copy, city, newer)
    await asyncio.to_thread(_put, older, city)
    if alone:
        city.upstream.cut()
    await city.start()
    yield
    # The right disk is found again.
    await city.kill()
    city.upstream.heal()
    await asyncio.to_thread(_put, newer, city)
    await _looked_into(trial)
    await city.start()


def _copy(city: CityNode, target: Path) -> None:
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir()
    for file in _database_files(city):
        shutil.copy2(file, target)


def _put(source: Path, city: CityNode) -> None:
    for file in _database_files(city):
        file.unlink()
    for file in source.iterdir():
        shutil.copy2(file, city.folder)


def _syscalls() -> tuple[Fault, ...]:
    sweep = [
        Fault(
            f"{side}: {call} {how.partition('=')[2]}, each in turn",
            partial(injected, side=side, call=call, how=how, span=span),
            SUZHOU,
            rounds=0,
            long_rounds=span,
            group="write or sync fails (EIO, ENOSPC) or kills, in turn, on either side",
        )
        for side in ("city", "registry")
        for call, span in (("pwrite64", 30), ("fdatasync", 6))
        for how in ("error=EIO", "error=ENOSPC", "signal=KILL")
    ]
    return tuple(replace(fault, rounds=1) if fault.name in _SHORT else fault for fault in sweep)


_SHORT = ("city: fdatasync EIO, each in turn", "city: pwrite64 ENOSPC, each in turn")

STORAGE = (
    *_syscalls(),
    Fault("city's disk full", disk_full, SUZHOU, long_rounds=3, refusals=("STORE_FULL",), group=REFUSING),
    Fault(
        "city: one INSERT of a batch fails",
        partial(insert_fails, side="city", table="log_entry", condition="NEW.idx % 3 = 0"),
        SUZHOU,
        long_rounds=5,
        refusals=("INTERNAL",),
        group=REFUSING,
    ),
    Fault(
        "registry: one INSERT of a batch fails",
        partial(insert_fails, side="registry", table="log_entry", condition=f"NEW.log = {SUZHOU} AND NEW.idx % 3 = 0"),
        SUZHOU,
        long_rounds=5,
        goes_on=3,
        group=REFUSING,
    ),
    Fault(
        "city's database set back to a copy",
        partial(set_back, alone=False),
        SUZHOU,
        long_rounds=3,
        refusals=("DATA_LOSS",),
        group=_SET_BACK,
    ),
    Fault(
        "the same, with the registry away",
        partial(set_back, alone=True),
        SUZHOU,
        rounds=0,
        long_rounds=3,
        refusals=("DATA_LOSS", "HISTORY_UNKNOWN"),
        group=_SET_BACK,
    ),
)
