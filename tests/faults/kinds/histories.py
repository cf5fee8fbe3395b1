"""Databases that are older than what was signed: set back to a copy, or without their end for good."""

from __future__ import annotations

import asyncio
import os
import shutil
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from city_node.store import CityStore
from elicense.v1.license_pb2 import LicenseRecord
from tests.faults.fault import Fault, Trial
from tests.faults.operators import look_into_log, run_command
from tests.faults.processes import until
from tests.faults.world import SUZHOU, CityNode, World

if TYPE_CHECKING:
    from sqlalchemy import Connection

_GROUP = "database set back to a copy, or without the end of its write-ahead log; restored from it"
_WAL_HEADER = 32
_SCRIBBLE = 4_096


def _database_files(city: CityNode) -> list[Path]:
    return sorted(city.folder.glob("city.db*"))


@asynccontextmanager
async def set_back(trial: Trial, *, alone: bool) -> AsyncIterator[None]:
    """Put an older copy of the city's database in place of the newer one that was replicated meanwhile.

    Args:
        alone: The registry is away meanwhile, so that only the anchor can tell.
    """
    city, world = trial.city, trial.world
    older, newer = await _replicated_since(trial), city.folder.with_name(f"{city.folder.name}-newer")
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
    await look_into_log(trial)
    await city.start()


async def _replicated_since(trial: Trial, *, unconfirmed: int = 0) -> Path:
    """Copy the city's database, let it go on until more is replicated, and kill it; return where the copy lies.

    Args:
        trial: The city.
        unconfirmed: Licences that it acknowledges after that, and that do not reach the registry.
    """
    city, world = trial.city, trial.world
    older = city.folder.with_name(f"{city.folder.name}-older")
    await city.kill()
    world.look_away(city.database_url)
    await asyncio.to_thread(_copy, city, older)
    await city.start()
    await trial.ledger.more(10)
    before = world.sizes(city)[0]
    await until(lambda: world.sizes(city)[1] >= before)
    if unconfirmed:
        city.upstream.cut()
        await trial.ledger.more(unconfirmed)
    await city.kill()
    city.upstream.heal()
    return older


@asynccontextmanager
async def restored(trial: Trial) -> AsyncIterator[None]:
    """Lose the end of the city's database for good, and get back what the registry had cosigned of it.

    What was acknowledged as LOCAL alone is lost with the disk, as its answer said, and is asked for again.
    """
    city, world = trial.city, trial.world
    older = await _replicated_since(trial, unconfirmed=0 if trial.round % 2 else 5)
    local = await asyncio.to_thread(_held_here_alone, world, city)
    world.look_away(city.database_url)
    await asyncio.to_thread(_put, older, city)
    await city.start()
    yield
    await city.kill()
    await run_command(trial, "restore")
    trial.ledger.lose(local)
    trial.notes.append(f"{len(local)} licences that the registry did not hold yet were lost with the disk")
    await city.start()


@asynccontextmanager
async def damaged(trial: Trial) -> AsyncIterator[None]:
    """Cut the city's write-ahead log short, scribble over it, or lose it, one after the other: signed records are gone.

    SQLite takes what is left for the end of the log; only the anchor and the registry know better.
    """
    city, world = trial.city, trial.world
    wal, newer = city.folder / "city.db-wal", city.folder.with_name(f"{city.folder.name}-newer")
    await city.kill()
    world.look_away(city.database_url)
    # From here on everything is in the write-ahead log, and nowhere else.
    await asyncio.to_thread(_checkpoint, city.folder / "city.db")
    await city.start()
    await trial.ledger.more(10)
    before = world.sizes(city)[0]
    await until(lambda: world.sizes(city)[1] >= before)
    # Whoever closes a database last empties its log.
    world.look_away(city.database_url)
    await city.kill()
    await asyncio.to_thread(_copy, city, newer)
    # Somewhere in the first half: what was replicated is behind it.
    at = trial.moments.randrange(_WAL_HEADER, wal.stat().st_size // 2)
    if trial.round % 3 == 0:
        os.truncate(wal, at)
    elif trial.round % 3 == 1:
        with wal.open("r+b") as file:
            file.seek(at)
            file.write(trial.moments.randbytes(_SCRIBBLE))
    else:
        wal.unlink()
    await city.start()
    yield
    # The right disk is found again.
    await city.kill()
    world.look_away(city.database_url)
    await asyncio.to_thread(_put, newer, city)
    await look_into_log(trial)
    await city.start()


def _checkpoint(database: Path) -> None:
    with closing(sqlite3.connect(database, timeout=20)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def _held_here_alone(world: World, city: CityNode) -> set[str]:
    """Return the request ids of records that the registry does not hold."""
    size, held = world.sizes(city)

    def read(conn: Connection) -> set[str]:
        logs = CityStore().logs
        key = max(key for key in logs.keys(conn) if key.log == city.code)
        entries = logs.entries(conn, key, held, size - held) if size > held else []
        return {LicenseRecord.FromString(entry.record or b"").request_id for entry in entries}

    return world.look(city.database_url).read_now(read)


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


HISTORIES = (
    Fault(
        "city's database set back to a copy",
        partial(set_back, alone=False),
        SUZHOU,
        long_rounds=3,
        refusals=("DATA_LOSS",),
        group=_GROUP,
    ),
    Fault(
        "the same, with the registry away",
        partial(set_back, alone=True),
        SUZHOU,
        rounds=0,
        long_rounds=3,
        refusals=("DATA_LOSS", "HISTORY_UNKNOWN"),
        group=_GROUP,
    ),
    Fault(
        "city's write-ahead log cut short, scribbled over, or lost",
        damaged,
        SUZHOU,
        rounds=0,
        long_rounds=9,
        refusals=("DATA_LOSS",),
        group=_GROUP,
    ),
    Fault(
        "city's database lost its end, and is restored",
        restored,
        SUZHOU,
        rounds=0,
        long_rounds=4,
        refusals=("DATA_LOSS",),
        group=_GROUP,
    ),
)
