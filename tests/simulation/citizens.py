"""Citizens: they apply, live with their licences, and apply anew when they lose them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import date
from functools import cache
from random import Random
from typing import TYPE_CHECKING, Final

from elicense.clock import china_date
from elicense.v1 import issuance_pb2 as pb
from elicense.v1 import license_pb2
from tests.simulation.counters import Counter
from tests.simulation.fates import Fates
from tests.simulation.template import CITIES, START_US
from tests.simulation.verifiers import Verifiers
from tests.support.cluster import drivers

if TYPE_CHECKING:
    from tests.simulation.scenario import Nation

COUNTERS: Final = 2
"""Counters of a city."""
_ASKS: Final = 5
_SHARED: Final = 4


def people(random: Random, seed: int, *, at_odds: bool) -> dict[int, Iterator[license_pb2.License]]:
    """Return applicants of each city; some of them apply in the other one as well.

    Args:
        random: Draws their order.
        seed: Draws who they are.
        at_odds: Whether all apply in both cities, and in the same order: then there are conflicts.
    """
    day = china_date(START_US)
    made = {code: [_copy(each) for each in _applicants(code, seed % 7, day)] for code in CITIES}
    first, second = (made[code] for code in CITIES)
    shared = len(first) if at_odds else _SHARED
    second[:shared] = map(applying_elsewhere, first[:shared], second[:shared])
    for code in CITIES:
        if not at_odds:
            random.shuffle(made[code])
    return {code: iter(made[code]) for code in CITIES}


@cache  # they are the same in every seventh seed
def _applicants(code: int, seed: int, day: date) -> tuple[license_pb2.License, ...]:
    return tuple(drivers(code, _ASKS * 6, seed=seed, on=day))


def _copy(person: license_pb2.License) -> license_pb2.License:
    copied = license_pb2.License()
    copied.CopyFrom(person)
    return copied


def applying_elsewhere(person: license_pb2.License, local: license_pb2.License) -> license_pb2.License:
    """Return the application of a person in the city of another one."""
    application = _copy(person)
    application.division_code, application.archive_number = local.division_code, local.archive_number
    application.issuing_authority = local.issuing_authority
    return application


class Citizens:
    """Asks for one thing after the other, each until it is acknowledged or refused for good.

    Args:
        nation: The nation.
        random: Draws what they want.
    """

    def __init__(self, nation: Nation, random: Random) -> None:
        self._nation = nation
        self._random = random
        self._people = people(random, nation.outcome.seed, at_odds=nation.ruled)
        self._verifiers = Verifiers(nation, random)
        self._fates = Fates(nation, random, counter=self._counter, on_document=self._verifiers.learn)
        self._done = 0

    async def live(self, code: int, number: int) -> None:
        """Spend a life at a counter of a city."""
        at = self._counter(code, number)
        for _ in range(_ASKS):
            await asyncio.sleep(self._random.uniform(0, 2))
            person = next(self._people[code])
            if self._random.random() < 0.25:
                await self._hand_in(at, person)
                continue
            license_ = await self._apply(at, person)
            if license_ is None:
                continue
            self._verifiers.learn(person.holder.document, person.holder.full_name)
            if await self._fates.meet(at, license_):
                self._nation.outcome.barred += 1
                await asyncio.sleep(self._random.uniform(0, 2))
                await self._apply_anew(number, person)
        self._done += 1

    async def verify(self, code: int) -> None:
        """Look at licences until the citizens have what they want."""
        await self._verifiers.verify(code, lambda: self._done < COUNTERS * len(CITIES))

    async def _apply(self, at: Counter, person: license_pb2.License) -> license_pb2.License | None:
        request = pb.CreateLicenseRequest(parent=f"cities/{at.city}", license=person, request_id=at.request_id())
        answer = await at.ask(at.stub.CreateLicense, request)
        if answer is None:
            return None
        at.heard(request.request_id, answer)
        license_: license_pb2.License = answer.license
        return license_

    async def _apply_anew(self, number: int, person: license_pb2.License) -> None:
        """Try to get a licence in spite of a bar, in any city."""
        at = self._counter(self._random.choice(CITIES), number)
        await self._apply(at, applying_elsewhere(person, next(self._people[at.city])))

    async def _hand_in(self, at: Counter, person: license_pb2.License) -> None:
        item = pb.ImportItem(license=person, request_id=at.request_id())
        answer = await at.ask(
            at.stub.ImportLicenses, pb.ImportLicensesRequest(parent=f"cities/{at.city}", items=[item])
        )
        if answer is not None and answer.results[0].name:
            at.heard(item.request_id)

    def _counter(self, code: int, number: int) -> Counter:
        return Counter(self._nation, self._random, code, number)
