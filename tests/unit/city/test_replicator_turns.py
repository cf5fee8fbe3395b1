"""A city leaves the registry's writer to others while it imports, but not at the expense of its own counter."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, cast

import pytest
from prometheus_client import CollectorRegistry

from city_node import pace as module
from city_node.batches import Batch
from city_node.metrics import ReplicationMetrics
from city_node.pace import FEW_ENTRIES, GATHER_S, LONGEST_TURN_S
from city_node.replicator import Replicator
from elicense.log.model import LogKey
from elicense.v1 import log_pb2
from elicense.v1 import replication_pb2 as pb

ENTRIES, IN_ALL = 64, 256


@dataclass
class Log:
    """A log with a backlog."""

    is_urgent: bool
    size: int = IN_ALL
    shared: bool = False
    behind_us: int = 0

    async def durable(self) -> tuple[int, int]:
        return 1_000_000, self.size

    async def peek(self) -> int:
        return self.size


@dataclass
class Batches:
    """Cuts the log; the clock goes on by as much as the registry takes."""

    entries: int = ENTRIES

    async def read(self, key: LogKey, start: int, *, wanted: int = 0) -> Batch:
        end = min(IN_ALL, start + self.entries)
        return Batch([log_pb2.LogEntry()] * (end - start), b"note", end, 0)


class Stub:
    """A registry whose writer somebody waits for."""

    async def GetReplicationState(self, request: Any, *, timeout: float) -> Any:  # noqa: N802, ASYNC109  # the stub's own
        return pb.GetReplicationStateResponse(epoch=1)

    async def AppendEntries(self, request: Any, *, timeout: float) -> Any:  # noqa: N802, ASYNC109  # the stub's own
        end = request.first_index + len(request.entries)
        return pb.AppendEntriesResponse(next_index=end, entries_wanted=ENTRIES)


class Receipts:
    """Believes everything."""

    cursor = 0
    size = 0

    async def load(self) -> None:
        return

    def open(self, *_: object) -> None:
        return

    def doubt(self) -> None:
        return

    async def take(self, *_: object, **__: object) -> None:
        return


class Comparison:
    """Finds everything in order."""

    async def run(self, _: object) -> None:
        return


def replicating(*, log: Log, batches: Batches, stub: Stub, receipts: Receipts) -> Replicator:
    return Replicator(
        key=LogKey(320500, 1),
        log=log,
        batches=cast("Any", batches),
        sign_told=lambda _: b"",
        stub=cast("Any", stub),
        opening=cast("Any", None),
        receipts=cast("Any", receipts),
        comparison=cast("Any", Comparison()),
        gate=cast("Any", SimpleNamespace(waits=False, reason=None)),
        metrics=ReplicationMetrics(registry=CollectorRegistry(), city=320500, clock=lambda: 0),
        heartbeat_s=0.0,
        jitter=lambda: 0.0,
    )


async def pauses(monkeypatch: pytest.MonkeyPatch, *, is_urgent: bool, entries: int = ENTRIES) -> list[float]:
    """Replicate all there is and return how long the city paused between its batches."""
    paused: list[float] = []
    replicator = replicating(log=Log(is_urgent), batches=Batches(entries), stub=Stub(), receipts=Receipts())

    async def wait(event: asyncio.Event, seconds: float) -> None:
        if event is not replicator._pace._stop:
            replicator.stop()  # the idle city: everything is there
            return
        paused.append(seconds)

    monkeypatch.setattr(module, "wait_for", wait)
    await replicator.run()
    assert replicator.connected
    return paused


async def test_a_city_that_only_imports_pauses_between_its_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    paused = await pauses(monkeypatch, is_urgent=False)
    assert len(paused) == IN_ALL // ENTRIES - 1
    assert max(paused) <= LONGEST_TURN_S


async def test_a_city_does_not_pause_while_somebody_waits_at_its_own_counter(monkeypatch: pytest.MonkeyPatch) -> None:
    assert await pauses(monkeypatch, is_urgent=True) == []


async def test_a_city_with_a_stream_of_single_changes_lets_them_gather_for_a_moment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    paused = await pauses(monkeypatch, is_urgent=True, entries=FEW_ENTRIES // 2)
    assert paused == [GATHER_S] * (IN_ALL // (FEW_ENTRIES // 2) - 1)


async def test_the_next_batch_is_read_while_the_registry_takes_in_the_one_before() -> None:
    order: list[str] = []

    class Read(Batches):
        async def read(self, key: LogKey, start: int, *, wanted: int = 0) -> Batch:
            order.append(f"read {start}")
            return await super().read(key, start, wanted=wanted)

    class Registry(Stub):
        async def AppendEntries(self, request: Any, *, timeout: float) -> Any:  # noqa: N802, ASYNC109  # the stub's own
            await asyncio.sleep(0)
            answer = await super().AppendEntries(request, timeout=timeout)
            answer.entries_wanted = 0
            order.append(f"has {answer.next_index}")
            return answer

    replicator = replicating(log=Log(True, size=3 * ENTRIES), batches=Read(), stub=Registry(), receipts=Receipts())
    await replicator.catch_up()
    # The last one is not waited for by anything: there is nothing behind it.
    assert order == ["read 0", "read 64", "has 64", "read 128", "has 128", "has 192"]


async def test_what_was_read_before_a_database_was_set_back_is_not_sent() -> None:
    sent: list[int] = []
    batches = Batches()

    class Registry(Stub):
        async def GetReplicationState(self, request: Any, *, timeout: float) -> Any:  # noqa: N802, ASYNC109  # the stub's own
            return pb.GetReplicationStateResponse(epoch=1, next_index=sum(sent))

        async def AppendEntries(self, request: Any, *, timeout: float) -> Any:  # noqa: N802, ASYNC109  # the stub's own
            await asyncio.sleep(0)
            sent.append(len(request.entries))
            answer = await super().AppendEntries(request, timeout=timeout)
            answer.entries_wanted = 0
            if len(sent) == 1:
                # The batch behind this one has been read by now.
                batches.entries = 1
                replicator.compare_soon()
            return answer

    log = Log(True, size=2 * ENTRIES)
    replicator = replicating(log=log, batches=batches, stub=Registry(), receipts=Receipts())
    assert await replicator._round()
    assert await replicator._round()
    replicator._ahead.drop()
    assert sent == [ENTRIES, 1]


@pytest.mark.parametrize(("wanted", "left"), [(ENTRIES, ENTRIES), (0, FEW_ENTRIES - 1)])
async def test_nothing_is_read_ahead_while_others_wait_or_single_changes_gather(wanted: int, left: int) -> None:
    read: list[int] = []

    class Read(Batches):
        async def read(self, key: LogKey, start: int, *, wanted: int = 0) -> Batch:
            read.append(start)
            return await super().read(key, start, wanted=wanted)

    class Registry(Stub):
        async def AppendEntries(self, request: Any, *, timeout: float) -> Any:  # noqa: N802, ASYNC109  # the stub's own
            await asyncio.sleep(0)
            answer = await super().AppendEntries(request, timeout=timeout)
            answer.entries_wanted = wanted
            return answer

    replicator = replicating(log=Log(True, size=ENTRIES + left), batches=Read(), stub=Registry(), receipts=Receipts())
    replicator._entries_wanted = wanted
    assert await replicator._round()
    await asyncio.sleep(0)
    assert read == [0]
