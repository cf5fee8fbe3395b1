"""The nodes that a load test brings up for itself, on loopback, and takes down again."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path
from typing import Final

from elicense.cli.demo.nation import CITIES, City, Nation, plan_nation
from elicense.cli.demo.processes import Household
from elicense.cli.demo.rolls import make_roll
from elicense.cli.load.scenario import Scenario
from elicense.cli.load.simulated import SimulatedCity, enroll
from elicense.cli.load.target import Target
from elicense.client import DocumentType, Question
from elicense.clock import china_date, utc_micros
from elicense.license.divisions import city_codes
from elicense.trust.credentials import load_credentials
from elicense.trust.token import parse_token
from elicense.v1 import replication_pb2

TOKENS_AT_ONCE: Final = 50
ENROLLING_AT_ONCE: Final = 8
REPLICATED_WITHIN_S: Final = 300.0

#: Who are preloaded and who come to be issued licences must not be the same people.
_PRELOADED: Final = 1_000_003

Say = Callable[[str], None]


@asynccontextmanager
async def open_world(folder: Path, scenario: Scenario, say: Say) -> AsyncIterator[Target]:
    """Bring up what a test needs, and stop it all at the end.

    Args:
        folder: An empty folder.
        scenario: The test.
        say: Told what is being done.

    Raises:
        ExpectationFailed: A node or a command failed.
    """
    household = Household()
    nation = plan_nation(folder, household)
    nation.registry.workers = scenario.world.registry_workers
    cities: list[SimulatedCity] = []
    try:
        say("a registry comes up")
        await nation.found()
        if scenario.simulated:
            cities += await _simulated(nation, scenario, say)
            yield Target(cities=cities)
        else:
            yield await _nodes(nation, scenario, say)
    finally:
        for city in cities:
            await city.close()
        await nation.close()
        household.kill_all()


async def _nodes(nation: Nation, scenario: Scenario, say: Say) -> Target:
    cities = CITIES[: scenario.world.cities]
    for city in cities:
        say(f"{city.name} joins")
        nation.nodes[city].workers = scenario.world.city_workers
        await nation.enroll_city(city)
        await nation.admit(nation.nodes[city], nation.clerk_folder(city), "clerk", "load")
    await nation.admit(nation.registry, nation.people("police"), "verifier", "police", "load")
    people: list[Question] = []
    if scenario.verifies:
        say(f"{scenario.world.licenses:,} licences a city are imported")
        for imported in await asyncio.gather(*(_preload(nation, city, scenario) for city in cities)):
            people += imported
    return Target(
        verifier=load_credentials(nation.people("police")),
        people=people,
        clerks=[load_credentials(nation.clerk_folder(city)) for city in cities],
    )


async def _preload(nation: Nation, city: City, scenario: Scenario) -> list[Question]:
    """Import licences in a city and wait until the registry holds them."""
    file = nation.folder / f"{city.code}.csv"
    seed, today = scenario.seed + _PRELOADED, china_date(utc_micros())
    roll = await asyncio.to_thread(lambda: make_roll(file, city, scenario.world.licenses, 0, seed=seed, today=today))
    rejects, progress = file.with_suffix(".rejects.csv"), file.with_suffix(".progress")
    await nation.import_file(city, file, rejects=rejects, progress=progress)
    stub = nation.replication_of(city)
    async with asyncio.timeout(REPLICATED_WITHIN_S):
        while True:
            state = await stub.GetReplicationState(replication_pb2.GetReplicationStateRequest(), timeout=10)
            if state.next_index >= len(roll.imported):
                break
            await asyncio.sleep(0.1)
    holders = [license_.holder for license_ in roll.imported]
    return [Question(each.document.number, each.full_name, DocumentType(each.document.type)) for each in holders]


async def _simulated(nation: Nation, scenario: Scenario, say: Say) -> list[SimulatedCity]:
    codes = city_codes()[: scenario.world.cities]
    tokens: list[str] = []
    for start in range(0, len(codes), TOKENS_AT_ONCE):
        tokens += await nation.city_tokens(codes[start : start + TOKENS_AT_ONCE])
    say(f"{len(tokens)} cities join")
    return await enroll_all(tokens)


async def enroll_all(tokens: list[str]) -> list[SimulatedCity]:
    """Spend these tokens, and return the cities.

    Raises:
        Malformed: One is not a city's token.
        Error: The registry refused.
    """
    slots = asyncio.Semaphore(ENROLLING_AT_ONCE)

    async def one(place: int, token: str) -> SimulatedCity:
        async with slots:
            # Every city has people of its own.
            return await enroll(parse_token(token), count(place, len(tokens)))

    return list(await asyncio.gather(*(one(place, token) for place, token in enumerate(tokens))))
