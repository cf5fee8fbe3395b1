"""A city node that was put together: how it starts, how it degrades and how it ends."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

import structlog

from city_node.access_log import AccessLog
from city_node.comparison import Comparison
from city_node.config import CityConfig
from city_node.daily import DailyRules
from city_node.gate import SigningGate
from city_node.mirror import Mirror
from city_node.ordered_erasures import OrderedErasures
from city_node.receipts import Receipts
from city_node.replicator import Replicator
from elicense.errors import DataLoss, Error
from elicense.log.anchor import Anchor
from elicense.log.scrubber import Scrubber
from elicense.rpc.server import NodeServer
from elicense.rpc.telemetry import MetricsServer
from elicense.rpc.watch_hub import WatchHub
from elicense.sql.database import Database
from elicense.sql.schema_version import require_current
from elicense.workers.colleagues import Colleagues
from elicense.workers.leader import Leadership
from elicense.workers.node_lock import hold_serving
from elicense.workers.place import Place

if TYPE_CHECKING:
    import grpc
    from prometheus_client import CollectorRegistry

    from city_node.commands import Command
    from city_node.decider import Outcomes
    from elicense.log.writer import LogWriter

_log = structlog.stdlib.get_logger(__name__)

#: How long a starting node asks the registry whether both hold one history, before it signs anything.
COMPARE_SECONDS: Final = 3.0

#: How long the end of a node waits for the call to the registry that is in flight.
LAST_CALL_SECONDS: Final = 2.0


class Closing(Protocol):
    """Something with work in flight."""

    async def close(self) -> None:
        """Wait for it."""


@dataclass(frozen=True, slots=True)
class Parts:
    """What a node is made of.

    Attributes:
        database: The city's database.
        accesses: The access log.
        channels: Channels to the registry.
        gate: Whether the node may sign.
        require_open: Refuses an epoch of the log that has ended since the node was put together.
        anchor: The head that was signed last.
        comparison: Compares database, anchor and registry.
        writer: Writes the log.
        receipts: What the registry has confirmed.
        replicator: Carries the log to the registry.
        mirror: Keeps a copy of the registry's own log.
        daily: Writes what the days bring.
        ordered: Erases what other cities have ordered to be erased.
        scrubber: Wipes what was erased from the database's files.
        coalescing: What may have look-ups in flight.
        hub: Wakes those who follow licences.
        leadership: Whether this process carries the log and does the daily job.
        colleagues: Looks at what the node's other processes did.
        server: The listening server.
        issuance_service: Name of the service that stops when the node may not sign.
    """

    database: Database
    accesses: AccessLog
    channels: Sequence[grpc.aio.Channel]
    gate: SigningGate
    require_open: Callable[[], Awaitable[None]]
    anchor: Anchor
    comparison: Comparison
    writer: LogWriter[Command, Outcomes]
    receipts: Receipts
    replicator: Replicator
    mirror: Mirror
    daily: DailyRules
    ordered: OrderedErasures
    scrubber: Scrubber
    coalescing: Sequence[Closing]
    hub: WatchHub
    leadership: Leadership
    colleagues: Colleagues
    server: NodeServer
    issuance_service: str


class RunningNode:
    """A city node; serves between :meth:`start` and :meth:`stop`.

    Args:
        config: Its configuration.
        parts: What it is made of.
        metrics: What it counts.
        place: Which of the node's processes it is.
    """

    def __init__(self, *, config: CityConfig, parts: Parts, metrics: CollectorRegistry, place: Place) -> None:
        self._config = config
        self._place = place
        self._parts = parts
        self._metrics = metrics
        self._metrics_server: MetricsServer | None = None
        self._replication: asyncio.Task[None] | None = None
        self._mirroring: asyncio.Task[None] | None = None
        self._daily: asyncio.Task[None] | None = None
        self._ordered: asyncio.Task[None] | None = None
        self._flushing: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._lock: int | None = None
        self.address = ""

    @property
    def metrics(self) -> CollectorRegistry:
        """What the node counts."""
        return self._metrics

    @property
    def gate(self) -> SigningGate:
        """Whether the node may sign."""
        return self._parts.gate

    @property
    def receipts(self) -> Receipts:
        """What the registry has confirmed."""
        return self._parts.receipts

    @property
    def replicator(self) -> Replicator:
        """What carries the log to the registry."""
        return self._parts.replicator

    @property
    def mirror(self) -> Mirror:
        """What keeps a copy of the registry's own log."""
        return self._parts.mirror

    async def start(self) -> None:
        """Read the log, compare it with the registry's, listen, and say what is ready.

        Raises:
            NodeBusy: A command works on the node.
            NodeLockUnusable: The lock file can not be used.
            PeerUnreachable: An address can not be listened on.
            EpochClosed: The next epoch of the log was opened since the node was put together.
            StoreUnavailable: The database can not be used.
            StoreCorrupt: The log contradicts itself.
        """
        parts = self._parts
        self._lock = hold_serving(self._config.data_dir)
        # An upgrade or a new epoch may have come since the node was put together; from here on none does.
        require_current(self._config.database_url, "city_node")
        # Before the comparison: in an ended epoch it would find another history, and keep the node from signing.
        await parts.require_open()
        await parts.receipts.load()
        # First: the head that the writer signs at its start would hide that the anchor is missing.
        await self._compare()
        if self._place.writes:
            await parts.writer.start()
        parts.gate.on_change(self._signing_changed)
        loop = asyncio.get_running_loop()

        def compare_soon() -> None:
            loop.call_soon_threadsafe(parts.replicator.compare_soon)

        parts.database.on_reconnect(compare_soon)
        self._flushing = asyncio.create_task(parts.anchor.flush_for_ever(), name="anchor")
        port = await parts.server.start()
        self.address = f"{self._config.node.listen.rpartition(':')[0]}:{port}"
        parts.leadership.start(self._lead, self._follow)
        parts.colleagues.start()
        parts.accesses.start()
        if self._config.metrics is not None:
            host, _, metrics_port = self._place.metrics(self._config.metrics.listen).rpartition(":")
            self._metrics_server = MetricsServer(
                self._metrics, host=host.strip("[]"), port=int(metrics_port), credentials=self._config.credentials_dir
            )
        parts.hub.start()
        await parts.server.set_ready()
        if parts.gate.reason is not None:
            await parts.server.health.set_ready(False, services=(parts.issuance_service,))
        _log.info("city_ready", city=self._config.city.code, address=self.address)

    async def stop(self, grace_s: float | None = None) -> None:
        """Take no new call, let running ones finish, store the last note, and close everything."""
        parts = self._parts
        # Watches last until somebody ends them; nothing else would.
        await parts.hub.close()
        await parts.server.drain(self._config.limits.drain_seconds if grace_s is None else grace_s)
        # From here on another process may lead.
        await parts.leadership.close()
        await parts.colleagues.close()
        parts.daily.stop()
        await _end(self._ordered)
        await parts.writer.close()
        if self._daily is not None:
            # The page in hand ends at once: the closed log takes nothing more.
            await asyncio.wait((self._daily,))
        if self._replication is not None:
            parts.replicator.stop()
            await asyncio.wait((self._replication,), timeout=LAST_CALL_SECONDS)
            # A call to a registry that hangs is not worth waiting for: it is made again at the next start.
            await _end(self._replication)
        await _end(self._mirroring)
        for closing in parts.coalescing:
            await closing.close()
        await parts.accesses.close()
        await parts.scrubber.close()
        if self._flushing is not None:
            self._flushing.cancel()
        await asyncio.to_thread(parts.anchor.close)
        if self._tasks:
            await asyncio.gather(*self._tasks)
        for channel in parts.channels:
            await channel.close()
        if self._metrics_server is not None:
            await asyncio.to_thread(self._metrics_server.close)
        await asyncio.to_thread(parts.database.close)
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None
        _log.info("city_stopped", city=self._config.city.code)

    def _lead(self) -> None:
        self._replication = asyncio.create_task(self._parts.replicator.run(), name="replicator")
        self._mirroring = asyncio.create_task(self._parts.mirror.run(), name="mirror")
        self._daily = asyncio.create_task(self._parts.daily.run(), name="daily-rules")
        self._ordered = asyncio.create_task(self._parts.ordered.run(), name="ordered-erasures")
        self._parts.scrubber.start()

    def _follow(self) -> None:
        for task in (self._replication, self._mirroring, self._daily, self._ordered):
            if task is not None:
                task.cancel()

    async def _compare(self) -> None:
        """Ask the registry where it stands before anything new is signed.

        A database that was set back would sign a second history.  With the
        registry away the node starts all the same: it answers, and issues alone
        if its anchor says that the database holds everything.
        """
        try:
            await self._parts.replicator.compare(COMPARE_SECONDS)
        except DataLoss as error:
            _log.critical("history_in_doubt", reason=error.reason, detail=error.message)
        except Error as error:
            _log.warning("registry_away", reason=error.reason, detail=error.message)
            await self._parts.comparison.run(None)

    def _signing_changed(self) -> None:
        # What this node answers with full authority, or the registry in its place, is another now.
        self._parts.hub.wake_all()
        health, may_sign = self._parts.server.health, self._parts.gate.reason is None
        task = asyncio.ensure_future(health.set_ready(may_sign, services=(self._parts.issuance_service,)))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


async def _end(task: asyncio.Task[None] | None) -> None:
    """Cancel a task, and wait until it has ended."""
    if task is not None:
        task.cancel()
        await asyncio.wait((task,))
