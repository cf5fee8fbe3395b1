"""Who of a node's processes does what one alone must do: decided by a lease in the database.

The leader renews its lease every second.  One that can not, stops its work
before the lease ends; another takes it up within seconds.  Two at work at the
same time would still do no harm (all they write is guarded by compare-and-set),
only work for nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final, Protocol

import structlog

from elicense.clock import SECOND_US
from elicense.errors import Error, Unavailable
from elicense.rpc.telemetry import describe_exception
from elicense.sql.database import Database
from elicense.workers.lease_store import LeaseStore
from elicense.workers.place import Duty, Place

LEASE_US: Final = 5 * SECOND_US
"""How long a lease lasts that nobody renews: the longest time without a leader."""

MARGIN_US: Final = SECOND_US
"""How long before the end of its lease a leader stops: also the difference of two machines' clocks that is harmless."""

PERIOD_S: Final = 1.0
"""How often a lease is renewed, or asked for."""

_log = structlog.stdlib.get_logger(__name__)


class Leadership(Protocol):
    """Whether this process leads."""

    @property
    def leads(self) -> bool:
        """Whether it does now."""

    def start(self, begin: Callable[[], None], end: Callable[[], None]) -> None:
        """Call ``begin`` whenever this process begins to lead, and ``end`` whenever it no longer does."""

    async def close(self) -> None:
        """Lead no more; ``end`` is not called again."""


class FixedLeadership:
    """The leadership of a process that leads always, or never.

    Args:
        leads: Which of the two.
    """

    def __init__(self, leads: bool) -> None:
        self._leads = leads

    @property
    def leads(self) -> bool:
        """Whether it leads."""
        return self._leads

    def start(self, begin: Callable[[], None], end: Callable[[], None]) -> None:  # noqa: ARG002  # it never ends
        """Call ``begin`` if it leads."""
        if self._leads:
            begin()

    async def close(self) -> None:
        """Lead no more."""
        self._leads = False


class LeasedLeadership:
    """The leadership of one of several equal processes.

    Args:
        database: Where the lease is.
        store: Its table.
        name: What is led.
        holder: Name of this process.
        clock: UTC microseconds.
    """

    def __init__(
        self, *, database: Database, store: LeaseStore, name: str, holder: str, clock: Callable[[], int]
    ) -> None:
        self._database = database
        self._store = store
        self._name = name
        self._holder = holder
        self._clock = clock
        self._until_us = 0
        self._leading = False
        self._begin: Callable[[], None] = _nothing
        self._end: Callable[[], None] = _nothing
        self._task: asyncio.Task[None] | None = None

    @property
    def leads(self) -> bool:
        """Whether it leads, and its lease is known to last."""
        return self._leading and self._clock() < self._until_us

    def start(self, begin: Callable[[], None], end: Callable[[], None]) -> None:
        """Begin to ask for the lease; see :class:`Leadership`."""
        self._begin, self._end = begin, end
        self._task = asyncio.create_task(self._run(), name="leadership")

    async def close(self) -> None:
        """Give the lease back, so that another need not wait for its end."""
        if self._task is None:
            return
        self._task.cancel()
        await asyncio.wait((self._task,))
        self._task = None
        if self._leading:
            self._leading = False
            try:
                await self._database.write(lambda conn: self._store.give_back(conn, self._name, self._holder))
            except Error as error:
                _log.warning("lease_not_given_back", reason=error.reason)

    async def _run(self) -> None:
        while True:
            try:
                await self._round()
            except Exception as error:  # a bug here must not end the leadership of all, in silence
                _log.error("leadership_failed", **describe_exception(error))
                self._lose()
            await asyncio.sleep(PERIOD_S)

    async def _round(self) -> None:
        # The time is read before the lease is asked for: it lasts at least as long as is thought here.
        now_us = self._clock()
        until_us = now_us + LEASE_US
        left_us = self._until_us - now_us if self._leading else LEASE_US
        try:
            async with asyncio.timeout(max(0, left_us) / SECOND_US):
                held = await self._database.write(
                    lambda conn: self._store.take(conn, self._name, self._holder, now_us=now_us, until_us=until_us)
                )
        except (TimeoutError, Unavailable):
            if self._clock() >= self._until_us:
                self._lose()
            return
        if not held:
            self._lose()
            return
        self._until_us = until_us - MARGIN_US
        if not self._leading:
            self._leading = True
            _log.info("leads", lease=self._name)
            self._begin()

    def _lose(self) -> None:
        if self._leading:
            self._leading = False
            _log.warning("leads_no_more", lease=self._name)
            self._end()


def leadership(
    place: Place, *, database: Database, store: LeaseStore, name: str, clock: Callable[[], int]
) -> Leadership:
    """Return how a process at ``place`` comes to lead ``name``."""
    if place.duty is Duty.EQUAL:
        return LeasedLeadership(database=database, store=store, name=name, holder=place.holder, clock=clock)
    return FixedLeadership(place.writes)


def _nothing() -> None:
    return
