"""A licence that moves between two cities while every process dies, within or after each step of it."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from dataclasses import dataclass, field

import grpc

from elicense.errors import Error, LicenseMoved
from elicense.rpc.channel import secure_channel
from elicense.v1 import issuance_pb2, issuance_pb2_grpc, transfer_pb2_grpc
from elicense.v1 import transfer_pb2 as pb
from tests.faults.fault import Fault, NotPossibleHere, Trial
from tests.faults.processes import DEADLINE_S
from tests.faults.workload import CALL_S
from tests.faults.world import CHENGDU, SUZHOU, CityNode
from tests.support.cluster import call

_BASIS = "household moved"
_GROUP = "kill -9 of registry and both cities in each step of a hand-over"
_PAUSE_S = 0.05
#: A blow falls within this time of a step that has begun: before, in the middle of, and after its work.
_WITHIN_S = 0.15


@dataclass
class HandOver:
    """One licence on its way from a city to another; each step may be asked for again and again.

    Attributes:
        name: Its name in the city that has it.
        source: That city.
        target: Where it goes.
        ids: Request ids of the offer and of the take-over.
    """

    name: str
    source: CityNode
    target: CityNode
    ids: tuple[str, str] = field(default_factory=lambda: (str(uuid.uuid4()), str(uuid.uuid4())))

    async def offer(self) -> bool:
        """Offer it; whether that is done."""
        request = pb.OfferTransferRequest(
            name=self.name, to_city=self.target.code, legal_basis=_BASIS, request_id=self.ids[0]
        )
        async with _called(self.source) as channel:
            answer = await call(transfer_pb2_grpc.TransferServiceStub(channel).OfferTransfer(request, timeout=CALL_S))
        # Offered once, however often it was asked for.
        assert answer.license.revision == 2
        return True

    async def take_over(self) -> bool:
        """Take it over; whether custody has moved."""
        request = pb.AcceptTransferRequest(
            parent=self.target.parent, license=self.name, legal_basis=_BASIS, request_id=self.ids[1]
        )
        async with _called(self.target) as channel:
            answer = await call(transfer_pb2_grpc.TransferServiceStub(channel).AcceptTransfer(request, timeout=CALL_S))
        assert answer.state in (pb.TRANSFER_STATE_OPEN, pb.TRANSFER_STATE_DONE), answer.detail
        assert answer.license.revision == 3
        done: bool = answer.state == pb.TRANSFER_STATE_DONE
        return done

    async def is_told(self) -> bool:
        """Whether the city that had it says where it is."""
        request = issuance_pb2.GetLicenseRequest(name=self.name)
        async with _called(self.source) as channel:
            try:
                await call(issuance_pb2_grpc.IssuanceServiceStub(channel).GetLicense(request, timeout=CALL_S))
            except LicenseMoved as moved:
                return moved.metadata["city"] == str(self.target.code)
        return False

    @property
    def steps(self) -> tuple[Callable[[], Awaitable[bool]], ...]:
        """Every step, in order."""
        return self.offer, self.take_over, self.is_told


@asynccontextmanager
async def every_step(trial: Trial) -> AsyncIterator[None]:
    """Kill registry and both cities in each step of a hand-over."""
    await _move(trial, blows={0, 1, 2})
    yield


@asynccontextmanager
async def take_over(trial: Trial) -> AsyncIterator[None]:
    """Kill them in the step in which custody moves."""
    await _move(trial, blows={1})
    yield


async def _move(trial: Trial, *, blows: set[int]) -> None:
    world = trial.world
    if CHENGDU not in world.cities:
        raise NotPossibleHere("no PostgreSQL")
    ask = trial.ledger.new()
    # Open cases would keep it where it is.
    del ask.license.status_letters[:]
    await trial.ledger.issue_until_acknowledged(ask)
    nodes = (world.registry, world.suzhou, world.chengdu)
    for number, step in enumerate(HandOver(ask.name, world.suzhou, world.chengdu).steps):
        if number in blows:
            begun = asyncio.ensure_future(step())
            await trial.a_moment(_WITHIN_S)
            await asyncio.gather(*(node.kill() for node in nodes))
            with suppress(Error):
                await begun
            await asyncio.gather(*(node.start() for node in nodes))
            trial.hits += len(nodes)
        await _until_done(step)


async def _until_done(step: Callable[[], Awaitable[bool]]) -> None:
    """Ask for a step, with the same request id, until it is done."""
    async with asyncio.timeout(DEADLINE_S):
        while True:
            # Not up again, or the one before is not known there yet.
            with suppress(Error):
                if await step():
                    return
            await asyncio.sleep(_PAUSE_S)


def _called(city: CityNode) -> AbstractAsyncContextManager[grpc.aio.Channel]:
    return secure_channel(city.clerk, address=city.config.node.listen, retries=False, local_pool=True)


HAND_OVERS = (
    Fault("kill -9 of all while custody moves", take_over, SUZHOU, rounds=1, long_rounds=10, group=_GROUP),
    Fault("kill -9 of all in every step of a hand-over", every_step, SUZHOU, rounds=0, long_rounds=10, group=_GROUP),
)
