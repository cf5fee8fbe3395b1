"""How citizens reach clerks: each asks for one thing until it is acknowledged, or refused for good."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Awaitable, Callable
from random import Random
from typing import TYPE_CHECKING, Any, Final

import grpc

from elicense.errors import Error, Unavailable
from elicense.rpc.errors import from_rpc_error
from elicense.trust.roles import Role
from elicense.trust.spiffe import Caller, SpiffeId
from tests.simulation.written import Violated
from tests.support.cluster import TRUST_DOMAIN

if TYPE_CHECKING:
    from tests.simulation.scenario import Nation

CALL_S: Final = 3.0
"""How long anybody waits for an answer, virtual seconds."""

LATEST_S: Final = 100.0
"""When whatever was broken has been healed for long, virtual seconds."""


class Counter:
    """One clerk's counter in a city.

    Args:
        nation: The nation.
        random: Draws how long a citizen waits before asking again, and request ids.
        city: Division code.
        number: Which of the city's counters.

    Attributes:
        stub: The city as this clerk calls it.
    """

    def __init__(self, nation: Nation, random: Random, city: int, number: int) -> None:
        self._nation = nation
        self._random = random
        self.city = city
        self.number = number
        clerk = Caller(SpiffeId(TRUST_DOMAIN, ("clerk", str(city), f"w{number}")), Role.CLERK, city, bytes(32))
        self.stub: Any = nation.network.connect(
            lambda: nation.cities[city], caller=clerk, name=f"clerk-{city}-{number}"
        )

    async def ask(self, method: Callable[..., Awaitable[Any]], request: Any) -> Any:
        """Ask until there is an answer; None when it is a refusal."""
        while True:
            try:
                return await method(request, timeout=CALL_S)
            except grpc.aio.AioRpcError as error:
                raised: Error = from_rpc_error(error)
            if not isinstance(raised, Unavailable):
                self._nation.event(f"refused: {raised.reason}")
                return None
            if self._nation.loop.time() > LATEST_S:
                raise Violated(f"{self.city} answers nothing, long after everything was healed: {raised.reason}")
            await asyncio.sleep(self._random.uniform(0.05, 0.5))

    async def change(self, method: Callable[..., Awaitable[Any]], request: Any) -> Any:
        """Ask for a change, under a request id of its own, and have the answer checked; None when it is refused."""
        request.request_id = self.request_id()
        answer = await self.ask(method, request)
        if answer is not None:
            self.heard(request.request_id)
        return answer

    def heard(self, request_id: str, answer: Any = None) -> None:
        """Have an acknowledgement checked, and the proof of a licence that was issued."""
        self._nation.outcome.acknowledged += 1
        self._nation.oracle.acknowledged(self.city, request_id, answer)

    def request_id(self) -> str:
        """Return an idempotency key."""
        return str(uuid.UUID(bytes=self._random.randbytes(16), version=4))
