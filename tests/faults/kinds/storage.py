"""Disks and databases: full, failing, refusing."""

from __future__ import annotations

import asyncio
import os
import shutil
import sqlite3
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path

from tests.faults.fault import Fault, NotPossibleHere, Trial, log_of
from tests.faults.operators import look_into_log
from tests.faults.processes import until
from tests.faults.tracing import traced
from tests.faults.world import SUZHOU, Node, World

REFUSING = "disk full or read-only, an INSERT refused in mid-batch, PostgreSQL read-only or away"
"""Group of the stores that refuse."""


@asynccontextmanager
async def injected(trial: Trial, *, side: str, call: str, how: str, span: int) -> AsyncIterator[None]:
    """Let the n-th system call of one kind fail or kill, n going up with the rounds.

    Args:
        side: Whose calls.
        call: Name of the system call.
        how: ``error=EIO``, ``error=ENOSPC`` or ``signal=KILL``.
        span: How many occurrences are taken in turn; a commit of one licence makes up to 30 writes and a sync.
    """
    node: Node = trial.city if side == "city" else trial.world.registry
    async with _traced(trial.world, node, f"{call}:{how}:when={1 + trial.round % span}") as trace:
        await until(lambda: not node.running.alive or _was_hit(trace))
        trial.hits += 1
    yield
    if how == "error=ENOSPC" and call == "pwrite64":
        return  # room again, and it goes on by itself
    await node.kill()
    if side == "city":
        await look_into_log(trial)
    await node.start()


@asynccontextmanager
async def read_only_disk(trial: Trial) -> AsyncIterator[None]:
    """Let every write of the city fail as on a disk that the kernel made read-only, until somebody is told so."""
    city = trial.city
    async with _traced(trial.world, city, "pwrite64,fdatasync,ftruncate:error=EROFS") as trace:
        await until(lambda: _was_hit(trace))
        yield
    await city.kill()
    await look_into_log(trial)
    await city.start()


@asynccontextmanager
async def _traced(world: World, node: Node, injection: str) -> AsyncIterator[Path]:
    """Inject a fault into a node's system calls; yields the file that tells which were hit."""
    trace = world.folder / f"{node.folder.name}.strace"
    trace.unlink(missing_ok=True)
    calls = ("-e", f"trace={injection.partition(':')[0]}", "-e", f"inject={injection}")
    async with traced(node.running.pid, "-f", *calls, "-o", str(trace)):
        yield trace


def _was_hit(trace: Path) -> bool:
    return trace.exists() and "INJECTED" in trace.read_text(errors="replace")


@asynccontextmanager
async def disk_full(trial: Trial, *, side: str) -> AsyncIterator[None]:
    """Move a node's folder to a small disk of its own and fill that; no restart when there is room again."""
    world = trial.world
    node: Node = trial.city if side == "city" else world.registry
    url = trial.city.database_url if side == "city" else world.registry.database_url
    aside = node.folder.with_name(f"{node.folder.name}-aside")
    await node.kill()
    world.look_away(url)
    size = sum(file.stat().st_size for file in node.folder.rglob("*") if file.is_file())
    shutil.copytree(node.folder, aside)
    try:
        await asyncio.to_thread(_mount, node.folder, size + (8 << 20))
    except NotPossibleHere:
        shutil.rmtree(aside)
        await node.start()
        raise
    try:
        shutil.copytree(aside, node.folder, dirs_exist_ok=True)
        await node.start()
        await trial.ledger.more(5)
        ballast = node.folder / "ballast"
        await asyncio.to_thread(_fill, ballast)
        if side == "registry":
            await until(lambda: "STORE_FULL" in log_of(trial.city.folder))
        yield
        ballast.unlink()
        await trial.ledger.more(5)
    finally:
        await node.kill()
        world.look_away(url)
        shutil.rmtree(aside)
        shutil.copytree(node.folder, aside)
        await asyncio.to_thread(_unmount, node.folder)
        shutil.copytree(aside, node.folder, dirs_exist_ok=True)
        shutil.rmtree(aside)
        await node.start()


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
    Fault(
        "city's disk full",
        partial(disk_full, side="city"),
        SUZHOU,
        long_rounds=3,
        refusals=("STORE_FULL",),
        group=REFUSING,
    ),
    Fault(
        "registry's disk full",
        partial(disk_full, side="registry"),
        SUZHOU,
        rounds=0,
        long_rounds=3,
        goes_on=1,
        group=REFUSING,
    ),
    Fault(
        "city's disk read-only (EROFS)",
        read_only_disk,
        SUZHOU,
        rounds=0,
        long_rounds=3,
        refusals=("STORE_CORRUPT", "DATA_LOSS"),
        group=REFUSING,
    ),
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
)
