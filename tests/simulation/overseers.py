"""Two operators who look after quarantines: they read the evidence, and let a city in again together."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from random import Random
from typing import TYPE_CHECKING, Any, Final

import grpc

from elicense.log.verifier_key import parse_vkey
from elicense.rpc.errors import from_rpc_error
from elicense.trust.roles import Role
from elicense.trust.spiffe import Caller, SpiffeId
from elicense.v1 import oversight_pb2 as pb
from registry.quarantine_model import Kind, State
from tests.simulation.counters import CALL_S, LATEST_S
from tests.simulation.written import Violated
from tests.support.cluster import TRUST_DOMAIN

if TYPE_CHECKING:
    from tests.simulation.scenario import Nation

#: How long a city has to explain its head before operators let it in, virtual seconds.
_TO_EXPLAIN_S: Final = 15.0


class Overseers:
    """Look for quarantines again and again until told to go.

    Args:
        nation: The nation.
        random: Draws who asks, and when.
    """

    def __init__(self, nation: Nation, random: Random) -> None:
        self._nation = nation
        self._random = random
        self._operators = [self._operator(name) for name in ("o1", "o2")]
        self._found_s: dict[tuple[int, int], float] = {}
        #: Whether no quarantine was open when they looked last.
        self.see_none = False

    async def run(self, going_on: Callable[[], bool]) -> None:
        """Work for as long as something goes on, and until no city is in quarantine."""
        while going_on() or not self.see_none:
            if self._nation.loop.time() > LATEST_S:
                raise Violated("a quarantine does not end")
            await asyncio.sleep(self._random.uniform(0.2, 2))
            self.see_none = False
            listed = await self._asked(
                self._random.choice(self._operators).ListQuarantines, pb.ListQuarantinesRequest()
            )
            if listed is None:
                continue
            held = [each for each in listed.quarantines if each.state != int(State.ENDED)]
            self.see_none = not held
            for each in held:
                await self._meet(each)

    async def _meet(self, held: pb.Quarantine) -> None:
        first, second = self._random.sample(self._operators, 2)
        if held.kind == int(Kind.FORK):
            await self._read(held)
        elif self._nation.loop.time() < self._found(held) + _TO_EXPLAIN_S:
            return
        if self._random.random() < 0.3:
            return  # they have not made up their minds
        if await self._asked(first.AskRelease, pb.AskReleaseRequest(city=held.city)) is None:
            return
        # Whoever asked may not approve, however often they try.
        if await self._asked(first.ApproveRelease, pb.ApproveReleaseRequest(city=held.city)) is not None:
            raise Violated(f"one operator alone let {held.city} in")
        if await self._asked(second.ApproveRelease, pb.ApproveReleaseRequest(city=held.city)) is not None:
            self._nation.event(f"two operators let {held.city} in")

    async def _read(self, held: pb.Quarantine) -> None:
        request = pb.GetEvidenceRequest(city=held.city, digest=held.evidence_digest)
        evidence = await self._asked(self._operators[0].GetEvidence, request)
        if evidence is None:
            return
        found = self._nation.oracle.registry.connection.execute("SELECT log_key FROM city")
        keys = [parse_vkey(key) for (key,) in found]
        self._nation.oracle.quarantines.convinced(held.city, evidence.body, keys)

    def _found(self, held: pb.Quarantine) -> float:
        return self._found_s.setdefault((held.city, held.epoch), self._nation.loop.time())

    def _operator(self, name: str) -> Any:
        caller = Caller(SpiffeId(TRUST_DOMAIN, ("operator", name)), Role.OPERATOR, None, bytes(32))
        return self._nation.network.connect(lambda: self._nation.registry, caller=caller, name=name)

    async def _asked(self, method: Callable[..., Awaitable[Any]], request: Any) -> Any:
        """Ask once; None when there was no answer, or a refusal."""
        try:
            return await method(request, timeout=CALL_S)
        except grpc.aio.AioRpcError as error:
            self._nation.event(f"of a quarantine: {from_rpc_error(error).reason}")
            return None
