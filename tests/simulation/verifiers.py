"""Who looks at licences, at the registry and at cities."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from random import Random
from typing import TYPE_CHECKING, Final

import grpc

from elicense.trust.roles import Role
from elicense.trust.spiffe import Caller, SpiffeId
from elicense.v1 import license_pb2
from elicense.v1 import verification_pb2 as pb
from tests.simulation.counters import CALL_S
from tests.support.cluster import TRUST_DOMAIN

if TYPE_CHECKING:
    from tests.simulation.scenario import Nation

_CASE: Final = "A1"


class Verifiers:
    """Ask again and again, and have each verdict judged.

    Args:
        nation: The nation.
        random: Draws whom they ask about.
    """

    def __init__(self, nation: Nation, random: Random) -> None:
        self._nation = nation
        self._random = random
        self._known: list[pb.LicenseQuery] = []

    def learn(self, document: license_pb2.IdentityDocument, name: str) -> None:
        """Know one more document to ask about."""
        self._known.append(pb.LicenseQuery(document=document, holder_name=name))

    async def verify(self, code: int, going_on: Callable[[], bool]) -> None:
        """Look, as a verifier who is enrolled under a city, for as long as something goes on."""
        path = ("city", str(code), "verifier", "police", "p1")
        police = Caller(SpiffeId(TRUST_DOMAIN, path), Role.POLICE, code, bytes(32))
        nation, name = self._nation, f"police-{code}"
        # A city's verifier asks its city or the registry.
        desks = [
            nation.network.connect(lambda: nation.registry, caller=police, name=name),
            nation.network.connect(lambda: nation.cities[code], caller=police, name=name),
        ]
        context = pb.LookContext(purpose=pb.PURPOSE_ROADSIDE_CHECK, case_number=_CASE)
        while going_on():
            await asyncio.sleep(self._random.uniform(0, 2.5))
            if not self._known:
                continue
            # Most often the latest, of whom most is under way.
            query = self._known[-1 - min(int(self._random.expovariate(0.3)), len(self._known) - 1)]
            asked = nation.oracle.verdicts.asking(query.document.number, nation.oracle.now_us())
            request = pb.VerifyLicenseRequest(query=query, context=context)
            try:
                answer = await self._random.choice(desks).VerifyLicense(request, timeout=CALL_S)
            except grpc.aio.AioRpcError:
                continue
            nation.outcome.verdicts += 1
            nation.oracle.verdicts.told(asked, answer.verdict)
