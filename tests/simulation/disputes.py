"""Conflicts between two cities' licences of one person: their clerks speak, and an operator rules."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Awaitable, Callable
from random import Random
from typing import TYPE_CHECKING, Any, Final

import grpc

from elicense.errors import DataLoss
from elicense.rpc.errors import from_rpc_error
from elicense.trust.roles import Role
from elicense.trust.spiffe import Caller, SpiffeId
from elicense.v1 import conflict_pb2 as pb
from elicense.v1 import log_pb2
from tests.simulation.counters import CALL_S, Counter
from tests.simulation.written import Violated
from tests.support.cluster import TRUST_DOMAIN

if TYPE_CHECKING:
    from tests.simulation.scenario import Nation

#: How long they go on, virtual seconds: all is healed by then, and a conflict has had its time.
_LASTS_S: Final = 30.0


class Disputants:
    """Both cities' clerks and an operator, who end what conflicts they find.

    Args:
        nation: The nation.
        random: Draws who gives way, and who wins.
    """

    def __init__(self, nation: Nation, random: Random) -> None:
        self._nation = nation
        self._random = random
        operator = Caller(SpiffeId(TRUST_DOMAIN, ("operator", "o1")), Role.OPERATOR, None, bytes(32))
        self._registry: Any = nation.network.connect(lambda: nation.registry, caller=operator, name="operator")
        #: By conflict: what they will do, drawn once.
        self._fates: dict[str, str] = {}

    async def run(self) -> None:
        """Look for conflicts again and again, and do something about each."""
        while self._nation.loop.time() < _LASTS_S:
            await asyncio.sleep(self._random.uniform(0.2, 1.5))
            listed = await self._asked(self._registry.ListConflicts, pb.ListConflictsRequest())
            for conflict in listed.conflicts if listed is not None else ():
                if conflict.state == pb.CONFLICT_STATE_OPEN:
                    await self._meet(conflict)

    async def _meet(self, conflict: pb.Conflict) -> None:
        fate = self._fates.get(conflict.name)
        if fate is None:
            # Both contest, and an operator decides for one; or one gives way; or nobody does anything.
            fate = self._random.choice(("counting", "waiting", "waiting", "concede", "withdraw", "leave"))
            self._fates[conflict.name] = fate
        if fate == "concede":
            await self._say(conflict, conflict.counting, log_pb2.CONFLICT_POSITION_WITHDRAW)
        elif fate == "withdraw":
            await self._say(conflict, conflict.waiting, log_pb2.CONFLICT_POSITION_WITHDRAW)
        elif fate != "leave":
            for side in (conflict.counting, conflict.waiting):
                await self._say(conflict, side, log_pb2.CONFLICT_POSITION_CONTEST)
            await self._rule(conflict, conflict.waiting if fate == "waiting" else conflict.counting)

    async def _say(self, conflict: pb.Conflict, side: pb.ConflictSide, position: log_pb2.ConflictPosition) -> None:
        if not side.license:
            return  # its records are gone
        at = Counter(self._nation, self._random, side.city, 0)
        request = pb.StatePositionRequest(
            name=conflict.name, license=side.license, position=position, grounds="as the file shows"
        )
        answer = await self._asked(at.stub.StatePosition, request)
        if answer is not None and position == log_pb2.CONFLICT_POSITION_WITHDRAW:
            self._nation.event(f"{side.city} gives way")
            self._ended(answer.conflict, void=side.license)

    async def _rule(self, conflict: pb.Conflict, side: pb.ConflictSide) -> None:
        request = pb.DecideConflictRequest(name=conflict.name, standing_license=side.license, basis="先申请者")
        answer = await self._asked(self._registry.DecideConflict, request)
        if answer is not None:
            self._nation.event(f"an operator decides for {side.city}")
            self._ended(answer.conflict, standing=side.license)

    def _ended(self, conflict: pb.Conflict, *, standing: str = "", void: str = "") -> None:
        self._nation.outcome.ruled += 1
        if (standing and conflict.standing_license != standing) or (void and conflict.void_license != void):
            raise Violated("a conflict was decided otherwise than who decided it was told")
        self._nation.oracle.ruled(_bytes(conflict.name.partition("/")[2]), _bytes(conflict.standing_license))

    async def _asked(self, method: Callable[..., Awaitable[Any]], request: Any) -> Any:
        """Ask once; None when there was no answer, or a refusal."""
        try:
            return await method(request, timeout=CALL_S)
        except grpc.aio.AioRpcError as error:
            raised = from_rpc_error(error)
        if isinstance(raised, DataLoss) and self._nation.oracle.is_whole():
            raise Violated(f"a conflict can not be proved: {raised.message}")
        self._nation.event(f"in a conflict: {raised.reason}")
        return None


def _bytes(license_id: str) -> bytes:
    return uuid.UUID(license_id).bytes if license_id else b""
