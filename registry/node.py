"""A registry that was put together: how it starts and how it ends."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog

from elicense.errors import Error
from elicense.log.anchor import Anchor
from elicense.log.scrubber import Scrubber
from elicense.quota.leases import Quotas
from elicense.rpc.active import ActiveCertificates
from elicense.rpc.forwarding import Forwarder
from elicense.rpc.looks import Looks
from elicense.rpc.server import DRAIN_GRACE_S, NodeServer
from elicense.rpc.telemetry import MetricsServer
from elicense.rpc.watch_hub import WatchHub
from elicense.sql.database import Database
from elicense.sql.schema_version import require_current
from elicense.workers.colleagues import Colleagues
from elicense.workers.leader import Leadership
from elicense.workers.node_lock import hold_serving
from elicense.workers.place import Place
from registry.access_log import AccessLog
from registry.breaches import Breaches
from registry.config import RegistryConfig
from registry.decisions import PendingDecisions
from registry.disputes import Disputes
from registry.publishing import HeadPublisher
from registry.readers import Readers
from registry.verification import NationalAnswers

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

    from elicense.log.writer import LogWriter
    from registry.board import Outcome
    from registry.decider import Command

_log = structlog.stdlib.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Parts:
    """What must be started and ended.

    Attributes:
        database: The registry's database.
        require_open: Refuses an epoch of the registry's log that has ended since it was put together.
        doubt: Says why the registry must decide nothing, or that it may.
        anchor: The head that was signed last.
        scrubber: Wipes what was erased from the database's files.
        readers: Read large batches.
        certificates: Which certificates are in force.
        quotas: How many looks each caller has left.
        accesses: The access log.
        looks: What verifiers are answered, once it is recorded.
        answers: What they are answered from.
        writer: Writes the registry's own log.
        decisions: What is still to be decided.
        disputes: Judges what cities signed.
        breaches: Judges records without custody.
        heads: Has the vector of city heads written.
        hub: Wakes those who follow licences.
        leadership: Whether this process does what is to be done once.
        colleagues: Looks at what the registry's other processes did.
        forwarder: Passes calls on to the process that writes; None in that one.
        server: The listening server.
    """

    database: Database
    require_open: Callable[[], Awaitable[None]]
    doubt: Callable[[], Awaitable[Error | None]]
    anchor: Anchor
    scrubber: Scrubber
    readers: Readers
    certificates: ActiveCertificates
    quotas: Quotas
    accesses: AccessLog
    looks: Looks
    answers: NationalAnswers
    writer: LogWriter[Command, Outcome]
    decisions: PendingDecisions
    disputes: Disputes
    breaches: Breaches
    heads: HeadPublisher
    hub: WatchHub
    leadership: Leadership
    colleagues: Colleagues
    forwarder: Forwarder | None
    server: NodeServer


class RunningNode:
    """A registry; serves between :meth:`start` and :meth:`stop`.

    Args:
        config: Its configuration.
        parts: What it is made of.
        metrics: What it counts.
        place: Which of the registry's processes it is.
    """

    def __init__(self, *, config: RegistryConfig, parts: Parts, metrics: CollectorRegistry, place: Place) -> None:
        self._config = config
        self._place = place
        self._parts = parts
        self._metrics = metrics
        self._metrics_server: MetricsServer | None = None
        self._flushing: asyncio.Task[None] | None = None
        self._lock: int | None = None
        self.address = ""

    @property
    def metrics(self) -> CollectorRegistry:
        """What the registry counts."""
        return self._metrics

    @property
    def breaches(self) -> Breaches:
        """What judges records without custody."""
        return self._parts.breaches

    @property
    def disputes(self) -> Disputes:
        """What judges the heads that cities signed."""
        return self._parts.disputes

    @property
    def metrics_port(self) -> int | None:
        """Port that Prometheus reads, while there is one."""
        return None if self._metrics_server is None else self._metrics_server.port

    @property
    def watches(self) -> int:
        """How many licences are being followed now."""
        return self._parts.hub.watches

    @property
    def running_calls(self) -> int:
        """How many calls are being handled now; health checks do not count."""
        return self._parts.server.running

    async def publish_heads(self) -> bool:
        """Write the vector of city heads if one is due; tell whether it was."""
        return await self._parts.heads.publish()

    async def start(self) -> None:
        """Listen, read and sign the log's head, then say that the node is ready.

        Raises:
            NodeBusy: A command works on the registry.
            NodeLockUnusable: The lock file can not be used.
            PeerUnreachable: An address can not be listened on.
            EpochClosed: The next epoch of the registry's log was opened since the registry was put together.
            StoreUnavailable: The database can not be used.
            StoreCorrupt: The registry's own log contradicts itself.
        """
        parts = self._parts
        self._lock = hold_serving(self._config.node.data_dir)
        # An upgrade or a new epoch may have come since the registry was put together; from here on none does.
        require_current(self._config.database.url, "registry")
        await parts.require_open()
        port = await parts.server.start()
        self.address = f"{self._config.node.listen.rpartition(':')[0]}:{port}"
        in_doubt = await self._is_in_doubt()
        if self._place.writes:
            self._flushing = asyncio.create_task(parts.anchor.flush_for_ever(), name="anchor")
            if not in_doubt:
                await parts.writer.start()
            parts.scrubber.start()
            parts.leadership.start(parts.decisions.task.wake, lambda: None)
            parts.decisions.task.start()
            parts.disputes.task.start()
            parts.heads.start()
            parts.breaches.task.start()
        parts.colleagues.start()
        parts.accesses.start()
        parts.hub.start()
        if self._config.metrics is not None:
            host, _, metrics_port = self._place.metrics(self._config.metrics.listen).rpartition(":")
            self._metrics_server = MetricsServer(
                self._metrics, host=host.strip("[]"), port=int(metrics_port), credentials=self._config.credentials_dir
            )
        if parts.writer.failure is None:
            await parts.server.set_ready()
        # It answers in doubt too: that it may have to say INDETERMINATE, or refuse, is for who reads this to know.
        _log.info("registry_ready", address=self.address, deciding=self._place.writes and parts.writer.failure is None)

    async def _is_in_doubt(self) -> bool:
        """Compare the registry's own log with its anchor; in doubt it decides nothing and says VALID of nothing.

        A process that only verifies compares too: the one that writes may not have done so yet.
        """
        reason = await self._parts.doubt()
        if reason is None:
            return False
        _log.critical("history_in_doubt", reason=reason.reason, detail=reason.message)
        self._parts.writer.halt(reason)
        return True

    async def stop(self, grace_s: float = DRAIN_GRACE_S) -> None:
        """Take no new call, let running ones finish, and close everything."""
        parts = self._parts
        # Watches last until somebody ends them; nothing else would.
        await parts.hub.close()
        await parts.server.drain(grace_s)
        await parts.decisions.task.stop()
        await parts.disputes.task.stop()
        await parts.heads.stop()
        await parts.breaches.task.stop()
        await parts.writer.close()
        if self._flushing is not None:
            self._flushing.cancel()
        await asyncio.to_thread(parts.anchor.close)
        await parts.readers.close()
        await parts.scrubber.close()
        await parts.colleagues.close()
        await parts.looks.close()
        await parts.answers.close()
        await parts.accesses.close()
        await parts.quotas.close()
        await parts.leadership.close()
        if parts.forwarder is not None:
            await parts.forwarder.close()
        await parts.certificates.close()
        if self._metrics_server is not None:
            await asyncio.to_thread(self._metrics_server.close)
        await asyncio.to_thread(parts.database.close)
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None
        _log.info("registry_stopped")
