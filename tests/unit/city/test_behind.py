"""What is under way in a city's log vouches for nothing, by whichever clock."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from city_node.citylog import CityLog
from elicense.clock import SECOND_US, from_timestamp
from elicense.log.model import LogKey
from elicense.v1 import replication_pb2 as pb
from tests.unit.city.test_replicator_turns import Batches, Log, Receipts, Stub, replicating

KEY = LogKey(120_000, 1)
HEARD_S = 2_000_000_000


class Writer:
    """A writer that commits when it is told to."""

    last_signed = None

    def __init__(self) -> None:
        self.asked: list[asyncio.Future[Any]] = []

    def queue(self, *_: object, **__: object) -> asyncio.Future[Any]:
        self.asked.append(asyncio.get_running_loop().create_future())
        return self.asked[-1]


class Asked(Stub):
    """Keeps what it is told."""

    def __init__(self, *, missing: bool = False) -> None:
        self.requests: list[Any] = []
        self._missing = missing

    async def GetReplicationState(self, request: Any, *, timeout: float) -> Any:  # noqa: N802, ASYNC109  # the stub's own
        return pb.GetReplicationStateResponse(epoch=1, registry_time=Timestamp(seconds=HEARD_S))

    async def AppendEntries(self, request: Any, *, timeout: float) -> Any:  # noqa: N802, ASYNC109  # the stub's own
        self.requests.append(request)
        answer = await super().AppendEntries(request, timeout=timeout)
        answer.decisions_missing = self._missing
        return answer


async def test_a_log_is_behind_from_the_moment_that_something_is_submitted_until_it_is_committed() -> None:
    writer = Writer()
    log = CityLog(key=KEY, writer=cast("Any", writer), clock=lambda: 7)
    assert log.behind_us == 0
    first, second = (asyncio.create_task(log.submit(cast("Any", None), entries=1, size=1)) for _ in range(2))
    while len(writer.asked) < 2:  # noqa: ASYNC110  # one turn of the loop
        await asyncio.sleep(0)
    assert log.behind_us > 0
    writer.asked[0].set_result(None)
    await first
    assert log.behind_us > 0
    writer.asked[1].set_result(None)
    await second
    assert log.behind_us == 0


async def test_a_city_whose_clock_is_fast_vouches_for_nothing_since_what_is_under_way_began() -> None:
    stub = Asked()
    log = Log(is_urgent=False, behind_us=3_600 * SECOND_US)
    await replicating(log=log, batches=Batches(), stub=stub, receipts=Receipts()).catch_up()
    assert stub.requests
    assert all(from_timestamp(request.registry_time) < HEARD_S * SECOND_US for request in stub.requests)


class Remembered(Receipts):
    """Keeps which answers had all that the registry had decided."""

    def __init__(self) -> None:
        self.whole: list[bool] = []

    async def take(self, *_: object, **said: object) -> None:
        if "whole_feed" in said:
            self.whole.append(bool(said["whole_feed"]))


@pytest.mark.parametrize("missing", [False, True])
async def test_a_registry_that_lacks_decisions_confirms_nothing_by_its_silence(missing: bool) -> None:
    receipts = Remembered()
    log, stub = Log(is_urgent=False), Asked(missing=missing)
    await replicating(log=log, batches=Batches(), stub=stub, receipts=receipts).catch_up()
    # The first is the comparison's.
    assert receipts.whole[1:] == [not missing] * (len(receipts.whole) - 1)
    assert len(receipts.whole) > 1
