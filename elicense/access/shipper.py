"""Carrying a process's looks to where holders see them: in order, each once.

The receiver knows where it stands; what it holds is asked for at the start and
after every failure, so nothing about it is kept here.  Looks wait in the node's
own log for as long as it takes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Final

import structlog

from elicense.access.alarms import AccessAlarms, Alarm
from elicense.access.entry import DAY_US, AccessPosition
from elicense.access.recorder import AccessRecorder
from elicense.access.retention import CITY_DAYS
from elicense.access.shipping import to_shipped
from elicense.access.shipping_metrics import ShippingMetrics
from elicense.access.store import AccessStore
from elicense.clock import SECOND_US, to_timestamp
from elicense.errors import Error
from elicense.rpc.telemetry import describe_exception
from elicense.sql.database import Database
from elicense.v1 import replication_pb2 as pb

if TYPE_CHECKING:
    from sqlalchemy import Connection

LOOKS_PER_CALL: Final = 1_024
BYTES_PER_CALL: Final = 3 * 1024 * 1024
CALL_SECONDS: Final = 30.0

Send = Callable[[pb.ShipAccessesRequest], Awaitable[AccessPosition]]
"""Hands looks to the receiver and returns the position of the last that it holds; raises an Error if it took none."""

_log = structlog.stdlib.get_logger(__name__)


class AccessShipper:
    """Ships the looks of one process; start it with :meth:`start`.

    Args:
        database: The access log.
        store: Its queries.
        recorder: Writes it.
        send: Hands looks to the receiver.
        alarms: Told when the registry holds what this log has lost.
        metrics: Told how far the receiver has all.
        clock: UTC microseconds.
        period_s: Seconds between two rounds.
        idle_s: Seconds after which the registry hears from a node without new looks, too.
    """

    def __init__(
        self,
        *,
        database: Database,
        store: AccessStore,
        recorder: AccessRecorder,
        send: Send,
        alarms: AccessAlarms,
        metrics: ShippingMetrics,
        clock: Callable[[], int],
        period_s: float,
        idle_s: float,
    ) -> None:
        self._database = database
        self._store = store
        self._recorder = recorder
        self._send = send
        self._alarms = alarms
        self._metrics = metrics
        self._clock = clock
        self._period_s = period_s
        self._idle_us = int(idle_s * SECOND_US)
        self._shipped_us = 0
        # None: to be asked for.
        self._held: AccessPosition | None = None
        self._failing = False
        self._stop = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin."""
        # What was not shipped before is not older for that: whoever never gets through is seen to wait from now on.
        self._metrics.complete(self._recorder.node, self._clock())
        self._task = asyncio.create_task(self._run(), name="access-shipper")

    async def close(self) -> None:
        """End; a call in flight is made again at the next start."""
        self._stop.set()
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait((self._task,))

    async def drop_old(self) -> None:
        """Delete looks that are old enough and that the registry holds."""
        held = self._held
        if held is None:
            return
        # Whole days: that of the last look that is held may not be wholly held yet.
        day = min(self._clock() // DAY_US - CITY_DAYS, held.day)
        await self._database.write(lambda conn: self._store.drop_before(conn, self._recorder.node, day))

    async def _run(self) -> None:
        while not self._stop.is_set():
            try:
                while await self.ship():
                    pass
                self._failing = False
            except Exception as error:  # whatever goes wrong, it tries again
                self._held = None
                self._note(error)
            try:
                async with asyncio.timeout(self._period_s):
                    await self._stop.wait()
            except TimeoutError:
                continue

    async def ship(self) -> bool:
        """Make one call; return True when another should follow at once.

        Raises:
            Error: The registry did not take the looks, or the log can not be read.
        """
        if self._held is None:
            self._held = await self._send(pb.ShipAccessesRequest(node=self._recorder.node))
            await self._compare(self._held)
        held = self._held
        # The time is read before the rows.
        complete_us = self._recorder.complete_until()
        looks = await self._database.read(
            lambda conn: self._store.after(conn, self._recorder.node, held, LOOKS_PER_CALL)
        )
        if not looks and self._clock() - self._shipped_us < self._idle_us:
            return False
        request = pb.ShipAccessesRequest(node=self._recorder.node)
        size = 0
        for look in looks:
            message = to_shipped(look)
            size += message.ByteSize()
            if size > BYTES_PER_CALL and request.accesses:
                break
            request.accesses.append(message)
        everything = len(request.accesses) == len(looks) < LOOKS_PER_CALL
        if everything:
            request.complete_until.CopyFrom(to_timestamp(complete_us))
        self._held = await self._send(request)
        self._shipped_us = self._clock()
        if everything:
            self._metrics.complete(self._recorder.node, complete_us)
        return not everything

    async def _compare(self, held: AccessPosition) -> None:
        def read(conn: Connection) -> AccessPosition:
            return self._store.last(conn, self._recorder.node)

        last = await self._database.read(read)
        if held.sequence > last.sequence:
            # Numbers were given twice: the registry would take new looks for those that it holds.
            self._alarms.sound(Alarm.LOG_SET_BACK, held=held.sequence, last=last.sequence)
            self._recorder.go_on_after(held)

    def _note(self, error: Exception) -> None:
        if not isinstance(error, Error):
            _log.error("access_shipping_failed", **describe_exception(error))
        elif not self._failing:
            _log.warning("accesses_wait", reason=error.reason, detail=error.message)
        self._failing = True
