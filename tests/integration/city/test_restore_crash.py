"""A restore that ends without warning, at any of its steps, and is simply given again."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeVar

from city_node.keys import load_keys
from city_node.restore import Restore, Restored, upstream
from city_node.store import CityStore
from city_node.verify_only import verify_only_mark
from elicense.clock import utc_micros
from elicense.sql.database import Database
from elicense.sql.migrations import upgrade
from tests.integration.city.test_restore import all_is_well, both, lose_database
from tests.support.cluster import SUZHOU, City, Cluster, drivers

T = TypeVar("T")
KILLS = int(os.environ.get("FAULT_KILLS", "3"))
DEATHS = 8
MANY = 1_000_000
"""More commits than any restore makes."""


class Died(BaseException):
    """The process is gone: nothing that follows in it runs."""


class DyingDatabase(Database):
    """Ends the process after so many commits, each of which is durable."""

    def __init__(self, url: str, commits: int) -> None:
        super().__init__(url, readers=1, writers=1)
        self._left = commits

    async def write(self, fn: Callable[[Any], T]) -> T:
        result = await super().write(fn)
        self._left -= 1
        if self._left == 0:
            raise Died
        return result


async def fill(cluster: Cluster, suzhou: City) -> int:
    """Write a log of several commits, part of it without grants, and lose database and anchor."""
    people = list(drivers(SUZHOU, 6))
    for wanted in people[:3]:
        await suzhou.issue(wanted)
    await suzhou.replicated()
    await cluster.stop_registry()
    for wanted in people[3:]:
        await suzhou.issue(wanted)
    await cluster.start_registry()
    await suzhou.replicated()
    await suzhou.stop()
    size = len(both(cluster, suzhou, 1)[0])
    lose_database(suzhou)
    suzhou.config.anchor_path.unlink()
    return size


async def restored(city: City, commits: int) -> Restored:
    database = DyingDatabase(city.config.database_url, commits)
    keys = load_keys(city.config, random=random.randbytes)
    work = Restore(
        config=city.config,
        keys=keys,
        database=database,
        store=CityStore(),
        clock=utc_micros,
        random=random.randbytes,
        progress=lambda _epoch, _done, _of: None,
    )
    try:
        async with upstream(city.config, keys) as registry:
            return await work.run(registry)
    finally:
        await asyncio.to_thread(database.close)


async def check(cluster: Cluster, suzhou: City, size: int) -> None:
    """Go on working, and recompute everything on both sides."""
    ours, theirs = both(cluster, suzhou, 1)
    assert ours == theirs
    assert len(ours) == size
    await suzhou.start()
    await suzhou.replicated()
    assert suzhou.running.gate.reason is None
    await all_is_well(cluster, suzhou)


async def test_a_restore_may_end_after_any_of_its_commits(cluster: Cluster, suzhou: City) -> None:
    size = await fill(cluster, suzhou)
    upgrade(suzhou.config.database_url, "city_node")
    died = 0
    # A try that ends just after it opened an epoch makes the next one longer, so their number has to be bounded.
    for commits in range(1, DEATHS + 1):
        with suppress(Died):
            await restored(suzhou, commits)
            continue
        died += 1
        # A node that is started now, between refill and judgement, must not sign.
        assert verify_only_mark(suzhou.config, utc_micros).read() is not None
    assert died > 3
    await restored(suzhou, MANY)
    await check(cluster, suzhou, size)


async def test_a_restore_that_is_killed_again_and_again_ends_well(cluster: Cluster, suzhou: City) -> None:
    size, delays = await fill(cluster, suzhou), random.Random(1)
    arguments = (sys.executable, "-m", "city_node.cli", "restore", "--config", str(suzhou.folder / "config.toml"))
    for _ in range(KILLS):
        process = await asyncio.create_subprocess_exec(*arguments, stdout=asyncio.subprocess.DEVNULL)
        try:
            async with asyncio.timeout(delays.uniform(0.5, 2.5)):
                await process.wait()
        except TimeoutError:
            with suppress(ProcessLookupError):  # it ended that very moment
                process.send_signal(signal.SIGKILL)
            await process.wait()
    process = await asyncio.create_subprocess_exec(*arguments, "--json", stdout=asyncio.subprocess.PIPE)
    output, _ = await process.communicate()
    assert process.returncode == 0
    found = json.loads(output.splitlines()[-1])
    assert found["epoch"] >= 2
    assert found["registered"]
    await check(cluster, suzhou, size)
