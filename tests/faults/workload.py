"""What citizens and clerks ask meanwhile, and what they were told: the ledger that nothing may contradict."""

from __future__ import annotations

import asyncio
import math
import time
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Container, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from itertools import count
from typing import TypeVar

from elicense.errors import Error, PeerUnreachable
from elicense.v1 import issuance_pb2 as pb
from elicense.v1 import license_pb2
from tests.faults.processes import DEADLINE_S, until
from tests.faults.world import CityNode, Line
from tests.support.cluster import call, drivers

T = TypeVar("T")

#: A call that hangs is given up and asked again; below it lie all waits of a healthy node.
CALL_S = 20.0
IMPORT_ROWS = 20
#: Between two tries of one caller.
_PAUSE_S = 0.05
#: Between two licences of one caller: the load is there to be hit, not to fill the machine.
_THINK_S = 0.02


@dataclass(eq=False)
class Ask:
    """One licence that was asked for.

    Attributes:
        request_id: Under which it is asked for, however often.
        license: What is asked for.
        bulk: Whether it is part of an import.
        answer: What the city acknowledged with its proof; None for an import, and before.
        name: Resource name once it is acknowledged.
        asked_at: When it was thought of, seconds of Unix time.
        answered_at: When it was acknowledged first.
    """

    request_id: str
    license: license_pb2.License
    bulk: bool
    answer: pb.CreateLicenseResponse | None = None
    name: str = ""
    asked_at: float = field(default_factory=time.time)
    answered_at: float = math.inf

    @property
    def number(self) -> str:
        return self.license.holder.document.number


@dataclass
class Ledger:
    """Everything that one city was asked for.

    Attributes:
        city: The city.
        asks: In the order of asking.
        refusals: Reasons why an attempt was not acknowledged, with their number.
        callers: How many keep it busy.
        waiting: How many of their calls are not answered yet.
    """

    city: CityNode
    asks: list[Ask] = field(default_factory=list)
    refusals: Counter[str] = field(default_factory=Counter)
    acknowledged: int = 0
    callers: int = 0
    waiting: int = 0
    _people: Iterator[license_pb2.License] | None = None
    _seeds: count[int] = field(default_factory=lambda: count(1))
    _open: set[Ask] = field(default_factory=set)

    def person(self) -> license_pb2.License:
        """Return somebody who was never asked for."""
        if self._people is None:
            self._people = drivers(self.city.code, 1_000_000, seed=7)
        return next(self._people)

    def new(self, *, bulk: bool = False) -> Ask:
        ask = Ask(str(uuid.uuid4()), self.person(), bulk)
        self.asks.append(ask)
        self._open.add(ask)
        return ask

    @property
    def open(self) -> list[Ask]:
        """What was asked for and never acknowledged so far."""
        return list(self._open)

    async def issue(self, line: Line, ask: Ask | None = None) -> Ask:
        """Ask for one licence, once.

        Raises:
            Error: It was not acknowledged, for whatever reason.
        """
        ask = ask or self.new()
        request = pb.CreateLicenseRequest(parent=self.city.parent, license=ask.license, request_id=ask.request_id)
        answer = await self._answered(line.stub().CreateLicense(request, timeout=CALL_S))
        ask.answer = answer
        self._acknowledge(ask, answer.license.name)
        return ask

    async def import_rows(self, line: Line, asks: list[Ask] | None = None) -> None:
        """Ask for several licences in one import, once.

        Raises:
            Error: The import, or a row of it, was not acknowledged.
        """
        asks = asks or [self.new(bulk=True) for _ in range(IMPORT_ROWS)]
        items = [pb.ImportItem(license=ask.license, request_id=ask.request_id) for ask in asks]
        request = pb.ImportLicensesRequest(parent=self.city.parent, items=items)
        answer = await self._answered(line.stub().ImportLicenses(request, timeout=CALL_S))
        for ask, result in zip(asks, answer.results, strict=True):
            if result.name:
                self._acknowledge(ask, result.name)
            else:
                self.refusals[f"row: {result.status.message}"] += 1

    async def _answered(self, calling: Awaitable[T]) -> T:
        self.waiting += 1
        try:
            return await call(calling)
        except Error as error:
            self.refusals[error.reason] += 1
            raise
        finally:
            self.waiting -= 1

    def as_of(self, moment: float) -> Ledger:
        """Return what was asked for, and acknowledged, up to a moment, seconds of Unix time."""
        self.person()
        then = Ledger(self.city, _people=self._people)
        then.asks = [replace(ask) for ask in self.asks if ask.asked_at <= moment]
        for ask in then.asks:
            if not ask.name or ask.answered_at > moment:
                ask.name, ask.answer = "", None
                then._open.add(ask)
        then.acknowledged = len(then.asks) - len(then._open)
        return then

    def lose(self, request_ids: Container[str]) -> None:
        """Have everything under these ids asked for again: the city was allowed to lose it, and has."""
        for ask in self.asks:
            if ask.name and ask.request_id in request_ids:
                ask.name, ask.answer = "", None
                self._open.add(ask)

    def _acknowledge(self, ask: Ask, name: str) -> None:
        ask.name = name
        ask.answered_at = min(ask.answered_at, time.time())
        self.acknowledged += ask in self._open
        self._open.discard(ask)

    async def issue_until_acknowledged(self, ask: Ask | None = None, *, deadline_s: float = DEADLINE_S) -> float:
        """Ask for one licence until it is acknowledged; return how long that took, seconds."""
        ask, line = ask or self.new(), self.city.line()
        started = time.perf_counter()
        async with asyncio.timeout(deadline_s):
            while not ask.name:
                await self._try(line, self.issue(line, ask))
        await line.hang_up()
        return time.perf_counter() - started

    async def settle(self) -> None:
        """Ask again for all that was not acknowledged, until it is."""
        for ask in self.open:
            if not ask.bulk:
                await self.issue_until_acknowledged(ask)
        line = self.city.line()
        async with asyncio.timeout(DEADLINE_S):
            while rows := [ask for ask in self.open if ask.bulk]:
                await self._try(line, self.import_rows(line, rows[:1_000]))
        await line.hang_up()

    @asynccontextmanager
    async def load(self, *, singles: int = 3, imports: int = 1, at: CityNode | None = None) -> AsyncIterator[None]:
        """Keep this many callers busy; each asks again for what was not acknowledged before it goes on.

        Args:
            singles: Callers who ask for one licence at a time.
            imports: Callers who import.
            at: Another process of the city that they ask.
        """
        going = True
        node = at or self.city

        async def window() -> None:
            line = node.line()
            while going:
                ask = self.new()
                while going and not ask.name:
                    await self._try(line, self.issue(line, ask))
                await asyncio.sleep(_THINK_S)
            await line.hang_up()

        async def office() -> None:
            line = node.line()
            while going:
                asks = [self.new(bulk=True) for _ in range(IMPORT_ROWS)]
                while going and not all(ask.name for ask in asks):
                    await self._try(line, self.import_rows(line, asks))
                await asyncio.sleep(5 * _THINK_S)
            await line.hang_up()

        self.callers += singles + imports
        tasks = [asyncio.ensure_future(window()) for _ in range(singles)]
        tasks += [asyncio.ensure_future(office()) for _ in range(imports)]
        try:
            yield
        finally:
            going = False
            await asyncio.gather(*tasks)
            self.callers -= singles + imports

    @staticmethod
    async def _try(line: Line, asking: Awaitable[object]) -> None:
        try:
            await asking
        except PeerUnreachable:
            await line.hang_up()
            await asyncio.sleep(_PAUSE_S)
        except Error:
            await asyncio.sleep(_PAUSE_S)

    async def more(self, acknowledgements: int, *, deadline_s: float = DEADLINE_S) -> None:
        """Wait, under load, until this many further licences are acknowledged."""
        wanted = self.acknowledged + acknowledgements
        await until(lambda: self.acknowledged >= wanted, deadline_s=deadline_s)
