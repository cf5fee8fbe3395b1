"""Attacks on one city and its registry, or by one city, while everybody else is served: what those feel is a figure.

All but the last are processes of their own that strike at a set rate, see :mod:`tests.faults.attackers`.
"""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from elicense.trust.credentials import save_credentials
from tests.faults.attackers import LOG_KEY_FILE, STARTED
from tests.faults.bystanders import bystanders
from tests.faults.fault import Attack, Tally, Trial
from tests.faults.kinds.lying_city import join_liar
from tests.faults.processes import until
from tests.faults.world import SUZHOU


@dataclass
class Struck:
    """What attackers came to.

    Attributes:
        made: How often they struck.
        accepted: Inputs that were accepted and may not be.
    """

    made: int = 0
    accepted: int = 0


Attacking = Callable[[Trial, Struck], AbstractAsyncContextManager[None]]


@asynccontextmanager
async def _attacker(
    trial: Trial, struck: Struck, *, kind: str, rate: float, address: str, folder: Path, most: int = 0
) -> AsyncIterator[None]:
    words = (kind, "--rate", f"{rate}", "--most", f"{most}", "--address", address, "--credentials", f"{folder}")
    process, log = await trial.world.nursery.start("tests.faults.attackers", *words)
    try:
        await until(lambda: STARTED in log.read_text() or not process.alive)
        yield
    finally:
        process.terminate()
        status = await process.wait()
        said = await asyncio.to_thread(log.read_text)
        assert status == 0, said
        told = json.loads(said.splitlines()[-1])
        struck.made += told["made"]
        struck.accepted += told["accepted"]


@asynccontextmanager
async def flooded(trial: Trial, struck: Struck, *, kind: str, rate: float, most: int = 0) -> AsyncIterator[None]:
    """Have somebody with the city's certificate attack the registry and the city, half of the rate each.

    Args:
        trial: The nation.
        struck: Counts.
        kind: One of :data:`tests.faults.attackers.KINDS`.
        rate: Strikes a second.
        most: Strikes in all at each of the two; 0 for no bound.
    """
    config = trial.city.config
    async with AsyncExitStack() as stack:
        for address in (trial.world.registry.config.node.listen, config.node.listen):
            attacker = _attacker(
                trial, struck, kind=kind, rate=rate / 2, address=address, folder=config.credentials_dir, most=most
            )
            await stack.enter_async_context(attacker)
        yield


@asynccontextmanager
async def forked(trial: Trial, struck: Struck, *, rate: float) -> AsyncIterator[None]:
    """Have one more city send the registry well signed batches of another history each time."""
    folder = trial.world.folder / "forker"
    if not folder.exists():
        city = await join_liar(trial.world)
        save_credentials(folder, city.credentials)
        shutil.copy2(trial.world.folder / f"liar-{city.code}.pem", folder / LOG_KEY_FILE)
        await city.close()
    address = trial.world.registry.config.node.listen
    async with _attacker(trial, struck, kind="forks", rate=rate, address=address, folder=folder):
        yield


@asynccontextmanager
async def killed(trial: Trial, struck: Struck) -> AsyncIterator[None]:
    """Kill the city, and again as soon as it has issued a licence."""
    going = True

    async def kill() -> None:
        while going:
            await trial.city.restart()
            struck.made += 1
            await trial.ledger.more(1)

    killing = asyncio.ensure_future(kill())
    try:
        yield
    finally:
        going = False
        await killing


async def felt_by_others(trial: Trial, *, attacking: Attacking) -> Tally:
    """Serve a healthy city and its verifiers in peace and during an attack, by turns."""
    tally, struck, healthy = Tally(), Struck(), trial.healthy
    refused = healthy.refusals.copy()
    async with bystanders(trial.world, healthy) as asking:
        trial.felt = await asking.feel(
            partial(attacking, trial, struck), rounds=trial.turns, seconds=trial.seconds_a_turn
        )
    peace, attack = (used.percent for used in asking.used)
    trial.notes.append(f"the registry used {peace:.0f} % of a core in peace and {attack:.0f} % meanwhile")
    served = trial.ledger.acknowledged
    await trial.ledger.more(3)
    tally.holds("the attacked city serves nobody any more", trial.ledger.acknowledged > served)
    tally.holds(f"the healthy city refused somebody: {healthy.refusals - refused}", healthy.refusals == refused)
    failed = sum(felt.attack.failed + felt.peace.failed for felt in trial.felt)
    tally.holds(f"{failed} calls were not answered", not failed)
    tally.holds(f"{struck.accepted} of the attacker's requests were accepted", not struck.accepted)
    tally.tried = struck.made
    return tally


def _attack(name: str, attacking: Attacking, *, short: bool = False) -> Attack:
    return Attack(name, partial(felt_by_others, attacking=attacking), SUZHOU, short=short)


NEIGHBOURS = (
    _attack("400 silent connections, 50 more a second", partial(flooded, kind="connections", rate=50)),
    _attack("50 slow senders", partial(flooded, kind="slow-senders", rate=50, most=25)),
    _attack("200 cancelled calls a second", partial(flooded, kind="cancelled-calls", rate=200)),
    _attack("100 malformed requests a second", partial(flooded, kind="nonsense", rate=100)),
    _attack("a city that forks: 10 batches of 500 a second", partial(forked, rate=10), short=True),
    _attack("a city killed again and again", killed),
)
