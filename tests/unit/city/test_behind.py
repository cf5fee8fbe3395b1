"""What is under way in a city's log vouches for nothing, by whichever clock."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any, cast

from google.protobuf.timestamp_pb2 import Timestamp
from prometheus_client import CollectorRegistry

from city_node.citylog import CityLog
from city_node.metrics import ReplicationMetrics
from city_node.replicator import Replicator
from elicense.clock import SECOND_US, from_timestamp
from elicense.log.model import LogKey
from elicense.v1 import replication_pb2 as pb
from tests.unit.city.test_replicator_turns import Batches, Comparison, Log, Receipts, Stub

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

    def __init__(self) -> None:
        self.requests: list[Any] = []

    async def GetReplicationState(self, request: Any, *, timeout: float) -> Any:  # noqa: N802, ASYNC109  # the stub's own
        return pb.GetReplicationStateResponse(epoch=1, registry_time=Timestamp(seconds=HEARD_S))

    async def AppendEntries(self, request: Any, *, timeout: float) -> Any:  # noqa: N802, ASYNC109  # the stub's own
        self.requests.append(request)
        return await super().AppendEntries(request, timeout=timeout)


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
    an_hour_us = 3_600 * SECOND_US
    replicator = Replicator(
        key=KEY,
        log=Log(is_urgent=False, behind_us=an_hour_us),
        batches=cast("Any", Batches()),
        sign_told=lambda _: b"",
        stub=cast("Any", stub),
        opening=cast("Any", None),
        receipts=cast("Any", Receipts()),
        comparison=cast("Any", Comparison()),
        gate=cast("Any", SimpleNamespace(waits=False, reason=None)),
        metrics=ReplicationMetrics(registry=CollectorRegistry(), city=KEY.log, clock=lambda: 0),
        heartbeat_s=1,
        jitter=lambda: 0.5,
    )
    await replicator.catch_up()
    assert stub.requests
    assert all(from_timestamp(request.registry_time) < HEARD_S * SECOND_US for request in stub.requests)
