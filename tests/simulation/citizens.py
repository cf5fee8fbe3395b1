"""Who asks clerks: citizens who apply, are suspended, have licences erased and move to the other city."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Awaitable, Callable, Iterator
from random import Random
from typing import TYPE_CHECKING, Any, Final

import grpc

from elicense.clock import china_date
from elicense.errors import Error, Unavailable
from elicense.license.civil_date import date_to_message
from elicense.rpc.errors import from_rpc_error
from elicense.trust.roles import Role
from elicense.trust.spiffe import Caller, SpiffeId
from elicense.v1 import issuance_pb2 as pb
from elicense.v1 import license_pb2, transfer_pb2
from elicense.v1 import verification_pb2 as verification
from tests.simulation.template import CITIES, START_US
from tests.simulation.written import SUSPENDS
from tests.support.cluster import TRUST_DOMAIN, drivers

if TYPE_CHECKING:
    from tests.simulation.scenario import Nation

_CALL_S: Final = 3.0
_ASKS: Final = 5
_SHARED: Final = 4
#: How often a citizen asks for what is refused until the registry has heard of the licence.
_PATIENCE: Final = 6
_CASE: Final = "A1"


def people(random: Random, seed: int) -> dict[int, Iterator[license_pb2.License]]:
    """Return applicants of each city; some of them apply in the other one as well."""
    day = china_date(START_US)
    made = {code: list(drivers(code, _ASKS * 4, seed=seed % 7, on=day)) for code in CITIES}
    first, second = (made[code] for code in CITIES)
    for ours, theirs in zip(first[:_SHARED], second[:_SHARED], strict=True):
        theirs.holder.document.CopyFrom(ours.holder.document)
    for code in CITIES:
        random.shuffle(made[code])
    return {code: iter(made[code]) for code in CITIES}


class Citizens:
    """Asks for one thing after the other, each until it is acknowledged or refused for good.

    Args:
        nation: The nation.
        random: Draws what they want.
    """

    def __init__(self, nation: Nation, random: Random) -> None:
        self._nation = nation
        self._random = random
        self._people = people(random, nation.outcome.seed)
        self._known: list[verification.LicenseQuery] = []
        self._done = 0

    async def live(self, code: int, number: int) -> None:
        """Spend a life at a counter of a city."""
        stub = self._counter(code, number)
        for _ in range(_ASKS):
            await asyncio.sleep(self._random.uniform(0, 2))
            person = next(self._people[code])
            request_id = self._request_id()
            if self._random.random() < 0.25:
                item = pb.ImportItem(license=person, request_id=request_id)
                answer = await self._ask(
                    stub.ImportLicenses, pb.ImportLicensesRequest(parent=f"cities/{code}", items=[item])
                )
                if answer is not None and answer.results[0].name:
                    self._heard(code, request_id, None)
                continue
            request = pb.CreateLicenseRequest(parent=f"cities/{code}", license=person, request_id=request_id)
            answer = await self._ask(stub.CreateLicense, request)
            if answer is None:
                continue
            self._heard(code, request_id, answer)
            self._known.append(
                verification.LicenseQuery(document=person.holder.document, holder_name=person.holder.full_name)
            )
            await self._go_on(stub, code, number, answer.license)
        self._done += 1

    async def _go_on(self, stub: Any, code: int, number: int, license_: license_pb2.License) -> None:
        fate = self._random.random()
        if fate < 0.3:
            await self._suspend(stub, code, license_.name, license_.etag)
        elif fate < 0.5:
            await self._erase(stub, code, license_)
        elif fate < 0.8:
            await self._move(stub, code, number, license_.name)

    async def _suspend(self, stub: Any, code: int, name: str, etag: str = "") -> None:
        request_id = self._request_id()
        letter = license_pb2.StatusLetter(
            letter="D",
            legal_basis="道路交通安全法 第九十一条",
            start_date=date_to_message(china_date(START_US)),
            authority=SUSPENDS,
        )
        request = pb.SetStatusRequest(name=name, etag=etag, request_id=request_id, add_letters=[letter])
        if await self._ask(stub.SetStatus, request) is not None:
            self._heard(code, request_id, None)

    async def _erase(self, stub: Any, code: int, license_: license_pb2.License) -> None:
        """Cancel a licence, and have it erased once the registry holds whatever was written of it."""
        cancel, erase = self._request_id(), self._request_id()
        cancelled = pb.CancelLicenseRequest(name=license_.name, legal_basis="本人申请", request_id=cancel)
        if await self._ask(stub.CancelLicense, cancelled) is None:
            return
        self._heard(code, cancel, None)
        erased = pb.EraseLicenseRequest(name=license_.name, legal_basis="个人信息保护法 第四十七条", request_id=erase)
        for _ in range(_PATIENCE):
            await asyncio.sleep(self._random.uniform(0, 2))
            if await self._ask(stub.EraseLicense, erased) is not None:
                self._nation.outcome.erased += 1
                self._nation.oracle.erased(code, uuid.UUID(license_.name.rpartition("/")[2]).bytes)
                return

    async def _move(self, stub: Any, code: int, number: int, name: str) -> None:
        """Move to the other city, while the old one may change its mind, or write of the licence too late."""
        other = next(city for city in CITIES if city != code)
        request_id = self._request_id()
        offer = transfer_pb2.OfferTransferRequest(
            name=name, to_city=other, legal_basis="本人申请", request_id=request_id
        )
        if await self._ask(stub.OfferTransfer, offer) is None:
            return
        self._heard(code, request_id, None)
        await asyncio.gather(self._take_over(other, number, name), self._meanwhile(stub, code, name))

    async def _meanwhile(self, stub: Any, code: int, name: str) -> None:
        fate = self._random.random()
        await asyncio.sleep(self._random.uniform(0, 4))
        if fate < 0.3:
            await self._suspend(stub, code, name)
        elif fate < 0.5:
            request_id = self._request_id()
            withdrawal = transfer_pb2.WithdrawTransferRequest(name=name, legal_basis="本人申请", request_id=request_id)
            if await self._ask(stub.WithdrawTransfer, withdrawal) is not None:
                self._heard(code, request_id, None)
        elif fate < 0.65:
            request_id = self._request_id()
            cancelled = pb.CancelLicenseRequest(name=name, legal_basis="本人申请", request_id=request_id)
            if await self._ask(stub.CancelLicense, cancelled) is not None:
                self._heard(code, request_id, None)

    async def _take_over(self, code: int, number: int, name: str) -> None:
        """Ask the new city until the registry knows of the offer, and then until it has decided."""
        stub, request_id = self._counter(code, number), self._request_id()
        taking = transfer_pb2.AcceptTransferRequest(
            parent=f"cities/{code}", license=name, legal_basis="本人申请", request_id=request_id
        )
        for _ in range(_PATIENCE):
            await asyncio.sleep(self._random.uniform(0, 2))
            answer = await self._ask(stub.AcceptTransfer, taking)
            if answer is None:
                continue
            self._heard(code, request_id, None)
            if answer.state == transfer_pb2.TRANSFER_STATE_REFUSED:
                self._nation.event(f"take-over refused: {answer.detail}")
                return
            if answer.state == transfer_pb2.TRANSFER_STATE_DONE:
                self._nation.outcome.moved += 1
                self._nation.oracle.taken_over(code, uuid.UUID(name.rpartition("/")[2]).bytes)
                if self._random.random() < 0.5:
                    await self._suspend(stub, code, answer.license.name)
                return

    async def verify(self, code: int) -> None:
        """Look at licences, at the registry and at cities, until the citizens have what they want."""
        path = ("city", str(code), "verifier", "police", "p1")
        police = Caller(SpiffeId(TRUST_DOMAIN, path), Role.POLICE, code, bytes(32))
        nation, name = self._nation, f"police-{code}"
        # A city's verifier asks its city or the registry.
        desks = [
            nation.network.connect(lambda: nation.registry, caller=police, name=name),
            nation.network.connect(lambda: nation.cities[code], caller=police, name=name),
        ]
        context = verification.LookContext(purpose=verification.PURPOSE_ROADSIDE_CHECK, case_number=_CASE)
        while self._done < 2 * len(CITIES):
            await asyncio.sleep(self._random.uniform(0, 2.5))
            if not self._known:
                continue
            # Most often the latest, of whom most is under way.
            query = self._known[-1 - min(int(self._random.expovariate(0.3)), len(self._known) - 1)]
            asked = nation.oracle.verdicts.asking(query.document.number, nation.oracle.now_us())
            request = verification.VerifyLicenseRequest(query=query, context=context)
            try:
                answer = await self._random.choice(desks).VerifyLicense(request, timeout=_CALL_S)
            except grpc.aio.AioRpcError:
                continue
            nation.outcome.verdicts += 1
            nation.oracle.verdicts.told(asked, answer.verdict)

    def _counter(self, code: int, number: int) -> Any:
        """Return a city as one of its clerks calls it."""
        clerk = Caller(SpiffeId(TRUST_DOMAIN, ("clerk", str(code), f"w{number}")), Role.CLERK, code, bytes(32))
        return self._nation.network.connect(
            lambda: self._nation.cities[code], caller=clerk, name=f"clerk-{code}-{number}"
        )

    async def _ask(self, method: Callable[..., Awaitable[Any]], request: Any) -> Any:
        """Ask until there is an answer; None when it is a refusal."""
        while True:
            try:
                return await method(request, timeout=_CALL_S)
            except grpc.aio.AioRpcError as error:
                raised: Error = from_rpc_error(error)
            if not isinstance(raised, Unavailable):
                self._nation.event(f"refused: {raised.reason}")
                return None
            await asyncio.sleep(self._random.uniform(0.05, 0.5))

    def _heard(self, code: int, request_id: str, answer: Any) -> None:
        self._nation.outcome.acknowledged += 1
        self._nation.oracle.acknowledged(code, request_id, answer)

    def _request_id(self) -> str:
        return str(uuid.UUID(bytes=self._random.randbytes(16), version=4))
