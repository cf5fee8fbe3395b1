"""Three cities, each with a wire to the registry that can go silent, and people who have a form in each."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path

import grpc

from elicense.rpc.channel import secure_channel
from elicense.v1 import license_pb2, verification_pb2_grpc
from elicense.v1 import verification_pb2 as vpb
from tests.integration.city.test_identity import renumbered
from tests.integration.city.test_lifecycle import experienced
from tests.support.cluster import CHENGDU, DEADLINE_S, SUZHOU, TIANJIN, City, Cluster, drivers
from tests.support.ports import HeldPorts
from tests.support.proxy import Proxy

CITIES = (SUZHOU, TIANJIN, CHENGDU)
PERSONS = 2
NUMBERS = 2
"""Numbers that each person may have."""
ANSWER_S = 0.2
"""How long a verifier waits at a city that can not ask the registry; no answer is not VALID."""


@dataclass(frozen=True)
class Answer:
    """One node's VALID.

    Attributes:
        license: Archive number, which each city gives a licence of its own.
        city: In whose custody it is.
    """

    license: str
    city: int


@dataclass
class Nation:
    """Three cities, each with a wire to the registry that can go silent."""

    cluster: Cluster
    wires: dict[int, Proxy] = field(default_factory=dict)
    running: AsyncExitStack = field(default_factory=AsyncExitStack)
    channels: dict[int, grpc.aio.Channel] = field(default_factory=dict)
    channel_of_the_operator: grpc.aio.Channel = field(init=False)

    @classmethod
    async def found(cls, folder: Path) -> Nation:
        ports = HeldPorts()
        nation = cls(Cluster(folder, ports=ports))
        nation.running.callback(ports.close)
        await nation.cluster.start_registry()
        assert nation.cluster.registry is not None
        for code in CITIES:
            nation.wires[code] = await nation.running.enter_async_context(nation.cluster.wire())
            city = await nation.cluster.add_city(code, claim_s=0.3, through=nation.wires[code])
            window = ("city", str(code), "verifier", "traffic-window", "w1")
            credentials = await nation.cluster.enroll_at(city, window, folder / f"window-{code}")
            nation.channels[code] = secure_channel(credentials, address=city.running.address, retries=False)
        operator = await nation.cluster.enroll_national(("operator", "duty"), folder / "operator")
        nation.channel_of_the_operator = secure_channel(
            operator, address=nation.cluster.registry.address, retries=False, local_pool=True
        )
        police = await nation.cluster.enroll_national(("verifier", "police", "highway"), folder / "police")
        nation.channels[0] = secure_channel(police, address=nation.cluster.registry.address, retries=False)
        return nation

    def city(self, code: int) -> City:
        return self.cluster.cities[code]

    async def valid(self, node: int, document: license_pb2.IdentityDocument) -> Answer | None:
        """Return the licence of a person that a node calls VALID."""
        stub = verification_pb2_grpc.VerificationServiceStub(self.channels[node])
        context = (
            vpb.LookContext(purpose=vpb.PURPOSE_WINDOW_SERVICE)
            if node
            else vpb.LookContext(purpose=vpb.PURPOSE_ROADSIDE_CHECK, case_number="case 1")
        )
        request = vpb.VerifyLicenseRequest(query=vpb.LicenseQuery(document=document), context=context)
        silent = node and self.wires[node].holding
        try:
            response = await stub.VerifyLicense(
                request, timeout=ANSWER_S if silent else DEADLINE_S, wait_for_ready=not silent
            )
        except grpc.aio.AioRpcError as error:
            if error.code() in (grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.UNAVAILABLE) and silent:
                return None
            raise
        verdict = response.verdict
        if verdict.outcome != vpb.OUTCOME_VALID:
            return None
        return Answer(verdict.license.archive_number, verdict.freshness.city)

    async def everywhere(self, document: license_pb2.IdentityDocument) -> dict[int, Answer | None]:
        """Ask every node at once."""
        answers = await asyncio.gather(*(self.valid(node, document) for node in self.channels))
        return dict(zip(self.channels, answers, strict=True))

    async def heal(self) -> None:
        """End every partition, and wait until there is nothing left to say."""
        for wire in self.wires.values():
            wire.heal()
        for city in self.cluster.cities.values():
            await city.replicated()

    async def close(self) -> None:
        for channel in (*self.channels.values(), self.channel_of_the_operator):
            await channel.close()
        await self.cluster.close()
        await self.running.aclose()


class Drivers:
    """The persons of one example, each with several numbers: a licence form for each city, and what links numbers.

    All are of one age and sex, so that a clerk may take the number of one for that of another.
    """

    def __init__(self, seed: int) -> None:
        (self._form,) = experienced(SUZHOU, 1, seed=seed)
        self._offices = {code: list(drivers(code, PERSONS, seed=seed)) for code in CITIES}
        self._same = {each: each for each in range(PERSONS * NUMBERS)}

    def form(self, person: int, code: int, number: int = 0) -> license_pb2.License:
        """The application of a person in a city, under one of their numbers."""
        form = renumbered(self._form, 2 * (person * NUMBERS + number))
        office = self._offices[code][person]
        form.archive_number, form.division_code = office.archive_number, office.division_code
        form.issuing_authority = office.issuing_authority
        return form

    def document(self, person: int, number: int = 0) -> license_pb2.IdentityDocument:
        return self.form(person, SUZHOU, number).holder.document

    def documents(self) -> list[license_pb2.IdentityDocument]:
        return [self.document(person, number) for person in range(PERSONS) for number in range(NUMBERS)]

    def link(self, one: license_pb2.IdentityDocument, other: license_pb2.IdentityDocument) -> None:
        """Note that two documents are one person's from now on."""
        numbers = [document.number for document in self.documents()]
        source, target = (self._same[numbers.index(document.number)] for document in (one, other))
        self._same = {each: target if first == source else first for each, first in self._same.items()}

    def persons(self) -> list[list[int]]:
        """Places in :meth:`documents`, person by person."""
        firsts = sorted(set(self._same.values()))
        return [[each for each, first in self._same.items() if first == of] for of in firsts]
