"""Requests that wait for a commit: urgent ones first, bulk ones in what room is left."""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Generic, TypeVar

from elicense.errors import Malformed, QueueFull

if TYPE_CHECKING:
    from elicense.log.decision import Committed

C = TypeVar("C")
R = TypeVar("R")

ENTRIES_PER_COMMIT: Final = 2_048
"""Most entries of one commit: a batch that one replication call can carry."""

BYTES_PER_COMMIT: Final = 3 * 1024 * 1024
"""Most bytes of records and salts of one commit: what one replication call can carry."""

BULK_ENTRIES_PER_COMMIT: Final = 1_024
"""Most bulk entries of one commit; far fewer while anything urgent comes (:mod:`elicense.log.pace`)."""

MAX_WAITING_ENTRIES: Final = 32_768
"""Most entries that wait, urgent and bulk each; beyond it a caller is told at once."""

MAX_WAITING_BYTES: Final = 64 * 1024 * 1024
"""Most bytes that wait, urgent and bulk each."""


@dataclass(slots=True, eq=False)
class Request(Generic[C, R]):
    """A command that waits.

    Attributes:
        command: What to decide.
        weight: Most records that it may come to.
        size: Most bytes that its records may come to.
        bulk: Whether it yields to requests that are not.
        done: Gets the answer.
    """

    command: C
    weight: int
    size: int
    bulk: bool
    done: asyncio.Future[Committed[R]] = field(repr=False)


class _Lane(Generic[C, R]):
    def __init__(self) -> None:
        self.requests: deque[Request[C, R]] = deque()
        self.weight = 0
        self.size = 0

    def add(self, request: Request[C, R]) -> None:
        if self.weight + request.weight > MAX_WAITING_ENTRIES or self.size + request.size > MAX_WAITING_BYTES:
            raise QueueFull("too many requests wait for the log; try again later")
        self.requests.append(request)
        self.weight += request.weight
        self.size += request.size

    def pop(self) -> Request[C, R]:
        request = self.requests.popleft()
        self.weight -= request.weight
        self.size -= request.size
        return request


class RequestQueue(Generic[C, R]):
    """Two lanes of requests."""

    def __init__(self) -> None:
        self._urgent: _Lane[C, R] = _Lane()
        self._bulk: _Lane[C, R] = _Lane()

    def __len__(self) -> int:
        return len(self._urgent.requests) + len(self._bulk.requests)

    def add(self, request: Request[C, R]) -> None:
        """Queue a request.

        Raises:
            Malformed: It alone is more than a commit may hold.
            QueueFull: Too much waits already.
        """
        limit = BULK_ENTRIES_PER_COMMIT if request.bulk else ENTRIES_PER_COMMIT
        if request.weight > limit or request.size > BYTES_PER_COMMIT:
            raise Malformed("the request is larger than one commit of the log; split it", maxEntries=limit)
        (self._bulk if request.bulk else self._urgent).add(request)

    def take(self, bulk_entries: int = BULK_ENTRIES_PER_COMMIT) -> list[Request[C, R]]:
        """Take the requests of the next commit; those whose callers have gone are dropped.

        Args:
            bulk_entries: Most bulk entries; a request that alone is more comes alone, unless this is 0.
        """
        batch: list[Request[C, R]] = []
        weight, size = self._fill(batch, self._urgent, ENTRIES_PER_COMMIT, BYTES_PER_COMMIT)
        if bulk_entries and self._bulk.requests:
            room = min(max(bulk_entries, self._bulk.requests[0].weight), ENTRIES_PER_COMMIT - weight)
            self._fill(batch, self._bulk, room, BYTES_PER_COMMIT - size)
        return batch

    def take_all(self) -> list[Request[C, R]]:
        """Take everything, to refuse it."""
        lanes = (self._urgent, self._bulk)
        return [lane.pop() for lane in lanes for _ in range(len(lane.requests))]

    @staticmethod
    def _fill(batch: list[Request[C, R]], lane: _Lane[C, R], weight: int, size: int) -> tuple[int, int]:
        taken_weight = taken_size = 0
        while lane.requests:
            first = lane.requests[0]
            if taken_weight + first.weight > weight or taken_size + first.size > size:
                break
            lane.pop()
            if not first.done.cancelled():
                batch.append(first)
                taken_weight += first.weight
                taken_size += first.size
        return taken_weight, taken_size
