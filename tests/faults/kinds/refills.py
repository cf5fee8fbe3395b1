"""A registry that was set back, and dies again and again while its cities give its own log back."""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path

from city_node.store import CityStore
from elicense.log.model import LogKey, StoredEntry
from registry.store import RegistryStore
from tests.faults.fault import Fault, Trial
from tests.faults.processes import until
from tests.faults.world import SUZHOU, RegistryNode

_OWN = LogKey(0, 1)
_BLOWS = 3
#: Decisions that are lost, each a commit of its own or nearly so.
_LOST = 12
#: A blow falls within this time of running work.
_WITHIN_S = 0.02
_ALL = 1_000_000

#: From here on nothing more is decided: what no mirror has is lost, and that is another fault.
_UNDECIDED = """
    CREATE TRIGGER undecided BEFORE INSERT ON log_entry WHEN NEW.log = 0 BEGIN SELECT RAISE(ABORT, 'undecided'); END
"""


@asynccontextmanager
async def killed_while_refilled(trial: Trial) -> AsyncIterator[None]:
    registry, world = trial.world.registry, trial.world
    url = registry.database_url
    older = registry.folder.with_name("registry-older")
    await registry.kill()
    world.look_away(url)
    await asyncio.to_thread(_copy, registry, older)
    await registry.start()
    kept = len(_decided(trial))
    await until(lambda: len(_decided(trial)) >= kept + _LOST)
    await asyncio.to_thread(_execute, registry.folder / "registry.db", _UNDECIDED)
    decided = _decided(trial)
    await until(lambda: _mirrored(trial) == decided)
    await registry.kill()
    world.look_away(url)
    await asyncio.to_thread(_put, older, registry)
    await registry.start()
    for _ in range(_BLOWS):
        held = len(_decided(trial))
        # Once some decisions are back, and others not.
        await until(lambda: len(_decided(trial)) > held or held >= len(decided))  # noqa: B023
        await trial.a_moment(_WITHIN_S)
        await registry.kill()
        trial.hits += len(_decided(trial)) < len(decided)
        world.look_away(url)
        await registry.start()
    yield
    # Every decision is back, none is another, and the registry decides again.
    await until(lambda: _decided(trial)[: len(decided)] == decided)
    await until(lambda: len(_decided(trial)) > len(decided))


def _decided(trial: Trial) -> list[StoredEntry]:
    database = trial.world.look(trial.world.registry.database_url)
    return database.read_now(lambda conn: RegistryStore().logs.entries(conn, _OWN, 0, _ALL))


def _mirrored(trial: Trial) -> list[StoredEntry]:
    database = trial.world.look(trial.city.database_url)
    return database.read_now(lambda conn: CityStore().logs.entries(conn, _OWN, 0, _ALL))


def _files(folder: Path) -> list[Path]:
    return sorted(folder.glob("registry.db*"))


def _copy(registry: RegistryNode, target: Path) -> None:
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir()
    for file in _files(registry.folder):
        shutil.copy2(file, target)


def _put(source: Path, registry: RegistryNode) -> None:
    for file in _files(registry.folder):
        file.unlink()
    for file in _files(source):
        shutil.copy2(file, registry.folder)


def _execute(database: Path, statement: str) -> None:
    with closing(sqlite3.connect(database, timeout=20)) as connection, connection:
        connection.execute(statement)


REFILLS = (
    Fault(
        "registry set back, and kill -9 while its cities give its log back",
        killed_while_refilled,
        SUZHOU,
        rounds=1,
        long_rounds=30,
        stride=5,
    ),
)
