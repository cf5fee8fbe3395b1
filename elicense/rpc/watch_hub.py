"""Who follows whom, and when to look again: one notifier a process, keyed by person.

A watcher is woken when its person's rows have changed, when its verdict would
change by the passing of time alone (midnight in China, a city silent for too
long), and when a silent city is heard again.  A commit in this process wakes the
hub at once; what other processes write is found by reading the positions of all
logs twice a second.  However many follow, one query a thousand persons tells
whose rows have moved.

A wake-up is a flag, not a message: a slow watcher finds one flag and the newest
state, however much happened meanwhile.
"""

from __future__ import annotations

import asyncio
import heapq
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Hashable, Mapping, Sequence
from contextlib import suppress
from itertools import count
from typing import Final

import structlog

from elicense.errors import Error, ShuttingDown, WatchesExhausted
from elicense.rpc.telemetry import describe_exception

POLL_S: Final = 0.5
"""How often the writes of other processes, and the clock, are looked at."""

MIN_GAP_S: Final = 0.05
"""Rest between two readings of who has changed, so that a busy log does not keep the process reading."""

MAX_WATCHES: Final = 10_000
"""Watches of one process; each holds a stream and its buffers."""

_PERSONS_PER_QUERY: Final = 1_000

_log = structlog.stdlib.get_logger(__name__)

Marks = Mapping[bytes, Hashable]
"""By person: a value that changes whenever a row of the person does; one without rows is absent."""


class Subscription:
    """One watcher's place in the hub; made by :meth:`WatchHub.subscribe`.

    Attributes:
        verifier: Who follows.
        person_key: Whom.
        closed: Whether the hub has ended.
    """

    __slots__ = ("_event", "city", "closed", "due_us", "person_key", "recovered_us", "verifier")

    def __init__(self, verifier: str, person_key: bytes) -> None:
        self.verifier = verifier
        self.person_key = person_key
        self.closed = False
        self.due_us = 0
        self.city = 0
        self.recovered_us = 0
        self._event = asyncio.Event()

    def wake(self) -> None:
        """Have the watcher look again."""
        self._event.set()

    def taken(self) -> None:
        """Say that the watcher is about to look: what happens from now on wakes it anew."""
        self._event.clear()

    async def wait(self) -> None:
        """Return as soon as there is reason to look again.

        Raises:
            ShuttingDown: The server ends.
        """
        await self._event.wait()
        if self.closed:
            raise _ending()


class WatchHub:
    """Wakes watchers; start it with :meth:`start` on the running loop.

    Args:
        positions: Reads a value that changes with every write to logs, view or feed.
        marks: Reads the marks of persons.
        as_of: Returns by city up to when its records are complete; None where this node is the source itself.
        clock: UTC microseconds.
        poll_s: How often to look for the writes of others.
    """

    def __init__(
        self,
        *,
        positions: Callable[[], Awaitable[Hashable]],
        marks: Callable[[Sequence[bytes]], Awaitable[Marks]],
        as_of: Callable[[], Awaitable[Mapping[int, int]]] | None,
        clock: Callable[[], int],
        poll_s: float = POLL_S,
    ) -> None:
        self._read_positions = positions
        self._read_marks = marks
        self._as_of = as_of
        self._clock = clock
        self._poll_s = poll_s
        self._by_person: dict[bytes, set[Subscription]] = defaultdict(set)
        self._by_verifier: Counter[str] = Counter()
        self._silent: set[Subscription] = set()
        self._due: list[tuple[int, int, Subscription]] = []
        self._order = count()
        self._size = 0
        self._positions: Hashable = None
        self._marks: dict[bytes, Hashable] = {}
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._closed = False

    @property
    def watches(self) -> int:
        """Number of watches now."""
        return self._size

    def start(self) -> None:
        """Begin to look."""
        self._task = asyncio.create_task(self._run(), name="watch-hub")

    def notify(self) -> None:
        """Say that something has been written in this process."""
        self._wake.set()

    def subscribe(self, verifier: str, person_key: bytes, *, limit: int) -> Subscription:
        """Return a place for one more watcher; give it back with :meth:`leave`.

        Args:
            verifier: Who follows.
            person_key: Whom.
            limit: Watches that this verifier may have at once.

        Raises:
            WatchesExhausted: The verifier, or this process, has as many as it may.
            ShuttingDown: The server ends.
        """
        if self._closed:
            raise _ending()
        if self._by_verifier[verifier] >= limit or self._size >= MAX_WATCHES:
            raise WatchesExhausted("too many licenses are being followed; end a watch before beginning another")
        held = Subscription(verifier, person_key)
        self._by_person[person_key].add(held)
        self._wake.set()
        self._by_verifier[verifier] += 1
        self._size += 1
        return held

    def leave(self, held: Subscription) -> None:
        """Give a place back."""
        watchers = self._by_person[held.person_key]
        watchers.discard(held)
        if not watchers:
            del self._by_person[held.person_key]
            self._marks.pop(held.person_key, None)
        self._by_verifier[held.verifier] -= 1
        if not self._by_verifier[held.verifier]:
            del self._by_verifier[held.verifier]
        self._silent.discard(held)
        held.due_us = 0
        self._size -= 1

    def expect(self, held: Subscription, *, due_us: int, silent_city: int = 0, recovered_us: int = 0) -> None:
        """Say when a watcher must look again though nothing was written.

        Args:
            held: The watcher.
            due_us: By this time at the latest.
            silent_city: City whose silence its verdict rests on; 0 for none.
            recovered_us: Age below which that city counts as heard again.
        """
        self._silent.discard(held)
        if silent_city:
            held.city, held.recovered_us = silent_city, recovered_us
            self._silent.add(held)
        if held.due_us != due_us:
            held.due_us = due_us
            heapq.heappush(self._due, (due_us, next(self._order), held))

    def wake_all(self) -> None:
        """Have every watcher look again."""
        for watchers in self._by_person.values():
            for held in watchers:
                held.wake()

    async def close(self) -> None:
        """End every watch; their callers are told to go to another server."""
        self._closed = True
        for watchers in self._by_person.values():
            for held in watchers:
                held.closed = True
                held.wake()
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task

    # -- looking -------------------------------------------------------------------------------------------------------

    async def _run(self) -> None:
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(self._poll_s if self._size else None):
                    await self._wake.wait()
            self._wake.clear()
            try:
                await self._look()
            except Error as error:
                # What was missed is found once the database is back: the positions differ then.
                _log.warning("watch_hub_blind", reason=error.reason)
            except Exception as error:  # a bug here must not leave every watcher with an old verdict, in silence
                _log.error("watch_hub_failed", **describe_exception(error))
                self.wake_all()
            await asyncio.sleep(MIN_GAP_S)

    async def _look(self) -> None:
        if not self._size:
            return
        now_us = self._clock()
        while self._due and self._due[0][0] <= now_us:
            due_us, _, held = heapq.heappop(self._due)
            if held.due_us == due_us:  # otherwise it has gone, or expects another time
                held.due_us = 0
                held.wake()
        await self._look_at_cities()
        positions = await self._read_positions()
        if positions != self._positions:
            await self._look_at_persons(list(self._by_person))
            self._positions = positions
        else:
            # Whoever has come since has no mark yet.
            await self._look_at_persons(list(self._by_person.keys() - self._marks.keys()))

    async def _look_at_cities(self) -> None:
        if not self._silent or self._as_of is None:
            return
        as_of, now_us = await self._as_of(), self._clock()
        for held in list(self._silent):
            if now_us - as_of.get(held.city, 0) <= held.recovered_us:
                self._silent.discard(held)
                held.wake()

    async def _look_at_persons(self, keys: Sequence[bytes]) -> None:
        for start in range(0, len(keys), _PERSONS_PER_QUERY):
            part = keys[start : start + _PERSONS_PER_QUERY]
            marks = await self._read_marks(part)
            for key in part:
                mark = marks.get(key)
                if key in self._by_person and (key not in self._marks or self._marks[key] != mark):
                    # The first mark may be younger than the verdict that was given before it: look again.
                    self._marks[key] = mark
                    for held in self._by_person[key]:
                        held.wake()


def _ending() -> ShuttingDown:
    return ShuttingDown("this server is shutting down; watch again at another")
