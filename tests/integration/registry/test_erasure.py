"""What a city has erased is gone at the registry too, from whatever it stands in."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import subprocess
import sys
from typing import Final

import pytest

from elicense import errors
from elicense.log.model import LogKey
from elicense.sql.database import Database
from elicense.v1 import license_pb2
from tests.integration.registry.world import SUZHOU, World
from tests.support.city import City
from tests.support.cluster import eventually

NUMBER: Final = "11010519491231002X"

#: Runs a registry until it would scrub what a city has erased, and is killed there.
KILLED_SCRUB: Final = """
import asyncio, os, signal, sys
from pathlib import Path
import elicense.log.scrubber, registry.app
from registry.config import load

elicense.log.scrubber.scrub = lambda *_: os.kill(os.getpid(), signal.SIGKILL)

async def main():
    config = load(Path(sys.argv[1]))
    node = config.node.model_copy(update={"listen": sys.argv[2]})
    running = await registry.app.build(config.model_copy(update={"node": node}))
    await running.start()
    print("ready", flush=True)
    await asyncio.Event().wait()

asyncio.run(main())
"""


def found(world: World, wanted: list[bytes]) -> int:
    """How many of these bytes stand in the files of the database, which nobody uses meanwhile."""
    # A process that closes any handle of a file gives up the locks of all that it has on it.
    world.database.close()
    folder = world.folder / "registry"
    contents = [path.read_bytes() for path in folder.iterdir() if path.name.startswith("registry.db")]
    world.database = Database(world.config.database.url)
    return sum(any(each in content for content in contents) for each in wanted)


async def scrubbed(world: World) -> None:
    """Wait until nothing is marked any more."""

    async def nothing_left() -> bool:
        return not world.database.read_now(world.store.logs.erased.unscrubbed)

    await eventually(nothing_left)


async def cancelled(world: World, city: City) -> bytes:
    """A licence of a city that was cancelled, and that the registry holds."""
    license_id = city.issue(NUMBER, claim=(await city.claim(NUMBER))[0])
    city.change(license_id, ["G"], event=license_pb2.LICENSE_EVENT_CANCELLED)
    await city.replicate()
    return license_id


async def test_a_scrub_that_was_killed_is_done_at_the_next_start(world: World) -> None:
    """Nobody knows any more what is to be found, but that there is something stands in the commit that erased."""
    suzhou = await world.city(SUZHOU)
    license_id = await cancelled(world, suzhou)
    secrets = suzhou.salts[:2] + [record[:64] for record in suzhou.records[:2]]
    address = world.node.address
    await world.node.stop(grace_s=0)
    assert found(world, secrets) == len(secrets)
    command = [sys.executable, "-c", KILLED_SCRUB, str(world.folder / "registry" / "config.toml"), address]
    process = await asyncio.create_subprocess_exec(*command, stdout=subprocess.PIPE)
    assert process.stdout is not None
    while (line := await process.stdout.readline()) != b"ready\n":
        assert line, "it has ended before it was ready"
    await suzhou.close()
    suzhou.erase(license_id)
    with contextlib.suppress(errors.Unavailable):  # it is killed before it has answered, or right after
        await suzhou.replicate()
    assert await process.wait() == -signal.SIGKILL
    assert found(world, suzhou.salts[:2])
    marked = world.database.read_now(world.store.logs.erased.unscrubbed)
    assert marked == [(LogKey(SUZHOU, 1), 0), (LogKey(SUZHOU, 1), 1)]
    await world.start_again()
    await suzhou.replicate()
    await scrubbed(world)
    assert found(world, secrets) == 0
    held = world.database.read_now(lambda conn: world.store.logs.entries(conn, LogKey(SUZHOU, 1), 0, 10))
    assert [entry.record is None for entry in held] == [True, True, False]
    assert world.fsck().findings == ()


async def test_nothing_is_left_to_scrub_once_an_erasure_is_over(world: World) -> None:
    suzhou = await world.city(SUZHOU)
    license_id = await cancelled(world, suzhou)
    suzhou.erase(license_id)
    await suzhou.replicate()
    await scrubbed(world)
    assert found(world, suzhou.salts[:2]) == 0


@pytest.mark.parametrize("repeats", [1, 2])
async def test_a_slot_is_marked_once_however_often_it_is_emptied(world: World, repeats: int) -> None:
    suzhou = await world.city(SUZHOU)
    await cancelled(world, suzhou)
    store = world.store.logs.erased
    place = (LogKey(SUZHOU, 1), 0)
    emptied = [world.database.write_now(lambda conn: store.erase(conn, [place])) for _ in range(repeats)]
    assert [len(each) for each in emptied] == [1, 0][:repeats]
    assert world.database.read_now(store.unscrubbed) == [place]
    world.database.write_now(lambda conn: store.scrubbed(conn, [place]))
    assert world.database.read_now(store.unscrubbed) == []
