"""The one place where the registry is put together: configuration in, running server out."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import structlog
from prometheus_client import CollectorRegistry

from elicense.clock import SECOND_US, utc_micros
from elicense.errors import Error
from elicense.log.anchor import Anchor
from elicense.log.metrics import LogMetrics
from elicense.log.model import LogKey
from elicense.log.store import LogStore
from elicense.log.transparency import Transparency
from elicense.log.writer import LogWriter
from elicense.quota.database import open_quota_database
from elicense.quota.leases import Quotas
from elicense.rpc.active import ActiveCertificates
from elicense.rpc.enrollment_service import EnrollmentServicer
from elicense.rpc.forwarding import Forwarder
from elicense.rpc.interceptor import NodeInterceptor
from elicense.rpc.license_fields import LicenseFields
from elicense.rpc.looks import Looks, Recording
from elicense.rpc.server import DRAIN_GRACE_S, NodeServer, ReloadingCredentials
from elicense.rpc.telemetry import LineMetrics, LineWriter, MetricsServer, RpcMetrics
from elicense.rpc.transparency_service import TransparencyServicer
from elicense.rpc.verification_service import VerificationServicer
from elicense.rpc.watch_hub import WatchHub
from elicense.rpc.watching import Watching
from elicense.sql.database import Database
from elicense.sql.migrations import require_current
from elicense.sql.scrub import Scrubber
from elicense.trust.roles import registry_policy
from elicense.trust.spiffe import registry_id
from elicense.v1 import (
    access_pb2,
    access_pb2_grpc,
    conflict_pb2,
    conflict_pb2_grpc,
    custody_pb2,
    custody_pb2_grpc,
    enrollment_pb2,
    enrollment_pb2_grpc,
    oversight_pb2,
    oversight_pb2_grpc,
    recovery_pb2,
    recovery_pb2_grpc,
    replication_pb2,
    replication_pb2_grpc,
    transparency_pb2,
    transparency_pb2_grpc,
    verification_pb2,
    verification_pb2_grpc,
)
from elicense.verification.attest import Attestor
from elicense.view.records import RecordReader
from elicense.workers.colleagues import HALT_S, REFRESH_S, Colleagues
from elicense.workers.leader import Leadership, leadership
from elicense.workers.listening import forwarder_of, listen_options
from elicense.workers.place import ALONE, STOP_MARK, Place
from elicense.workers.stop_mark import StopMark
from registry.access_log import AccessLog
from registry.board import Outcome
from registry.config import RegistryConfig
from registry.conflict_metrics import ConflictMetrics
from registry.conflict_view import Conflicts
from registry.custody import Custody
from registry.decider import Command, RegistryDecider
from registry.decisions import PendingDecisions
from registry.disputes import Disputes
from registry.enrollment import enrollment
from registry.epochs import HeldLogs
from registry.freshness import Freshness
from registry.history import own_doubt
from registry.ingest import Ingest
from registry.keys import RegistryKeys, load_keys
from registry.metrics import CityMetrics
from registry.names import FIRST_EPOCH, REGISTRY_LOG, cosigner_name, registry_origin
from registry.publishing import HeadPublisher
from registry.replication import DecisionLog, Replication
from registry.services.access import AccessServicer
from registry.services.conflict import ConflictRulingServicer, ConflictServicer
from registry.services.custody import CustodyServicer
from registry.services.oversight import OversightServicer
from registry.services.recovery import RecoveryServicer
from registry.services.replication import ReplicationServicer
from registry.store import RegistryStore
from registry.transfer_decider import TransferDecider
from registry.transparency import RegistryShowing
from registry.verification import NationalAnswers

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from elicense.trust.spiffe import ActiveCertificate

__all__ = ["SERVICES", "RunningNode", "build", "enrollment"]

SERVICES: Final = (
    replication_pb2.DESCRIPTOR.services_by_name["ReplicationService"].full_name,
    recovery_pb2.DESCRIPTOR.services_by_name["RecoveryService"].full_name,
    verification_pb2.DESCRIPTOR.services_by_name["VerificationService"].full_name,
    access_pb2.DESCRIPTOR.services_by_name["AccessService"].full_name,
    custody_pb2.DESCRIPTOR.services_by_name["CustodyService"].full_name,
    enrollment_pb2.DESCRIPTOR.services_by_name["EnrollmentService"].full_name,
    transparency_pb2.DESCRIPTOR.services_by_name["TransparencyService"].full_name,
    conflict_pb2.DESCRIPTOR.services_by_name["ConflictService"].full_name,
    conflict_pb2.DESCRIPTOR.services_by_name["ConflictRulingService"].full_name,
    oversight_pb2.DESCRIPTOR.services_by_name["OversightService"].full_name,
)
"""What the registry offers, besides health and reflection."""

_log = structlog.stdlib.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class _Parts:
    """What must be started and ended, in this order and in the reverse."""

    database: Database
    logs: LogStore
    anchor: Anchor
    scrubber: Scrubber
    certificates: ActiveCertificates
    quotas: Quotas
    accesses: AccessLog
    answers: NationalAnswers
    writer: LogWriter[Command, Outcome]
    decisions: PendingDecisions
    heads: HeadPublisher
    hub: WatchHub
    leadership: Leadership
    colleagues: Colleagues
    forwarder: Forwarder | None
    server: NodeServer


class RunningNode:
    """A registry that was put together; serves between :meth:`start` and :meth:`stop`.

    Args:
        config: Its configuration.
        parts: What it is made of.
        metrics: What it counts.
        place: Which of the registry's processes it is.
    """

    def __init__(self, *, config: RegistryConfig, parts: _Parts, metrics: CollectorRegistry, place: Place) -> None:
        self._config = config
        self._place = place
        self._parts = parts
        self._metrics = metrics
        self._metrics_server: MetricsServer | None = None
        self._flushing: asyncio.Task[None] | None = None
        self.address = ""

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
            PeerUnreachable: An address can not be listened on.
            StoreUnavailable: The database can not be used.
            StoreCorrupt: The registry's own log contradicts itself.
        """
        parts = self._parts
        port = await parts.server.start()
        self.address = f"{self._config.node.listen.rpartition(':')[0]}:{port}"
        if self._place.writes:
            await self._start_writer()
            parts.leadership.start(parts.decisions.wake, lambda: None)
            parts.decisions.start()
            parts.heads.start()
        parts.colleagues.start()
        parts.accesses.start()
        parts.hub.start()
        if self._config.metrics is not None:
            host, _, metrics_port = self._place.metrics(self._config.metrics.listen).rpartition(":")
            self._metrics_server = MetricsServer(
                self._metrics, host=host.strip("[]"), port=int(metrics_port), credentials=self._config.credentials_dir
            )
        await parts.server.set_ready()
        _log.info("registry_ready", address=self.address)

    async def _start_writer(self) -> None:
        """Compare the registry's own log with its anchor; one that was set back decides nothing more."""
        parts, key = self._parts, LogKey(REGISTRY_LOG, FIRST_EPOCH)
        reason = await parts.database.read(lambda conn: own_doubt(conn, parts.logs, key, parts.anchor))
        if reason is not None:
            _log.critical("history_in_doubt", reason=reason.reason, detail=reason.message)
            parts.writer.halt(reason)
            return
        await parts.writer.start()
        self._flushing = asyncio.create_task(parts.anchor.flush_for_ever(), name="anchor")

    async def stop(self, grace_s: float = DRAIN_GRACE_S) -> None:
        """Take no new call, let running ones finish, and close everything."""
        parts = self._parts
        # Watches last until somebody ends them; nothing else would.
        await parts.hub.close()
        await parts.server.drain(grace_s)
        await parts.decisions.stop()
        await parts.heads.stop()
        await parts.writer.close()
        if self._flushing is not None:
            self._flushing.cancel()
        await asyncio.to_thread(parts.anchor.close)
        await parts.scrubber.close()
        await parts.colleagues.close()
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
        _log.info("registry_stopped")


async def build(
    config: RegistryConfig,
    *,
    clock: Callable[[], int] = utc_micros,
    random: Callable[[int], bytes] = secrets.token_bytes,
    log: LineWriter | None = None,
    recording: Recording | None = None,
    place: Place = ALONE,
) -> RunningNode:
    """Put a registry together; nothing listens yet.

    Args:
        config: Its configuration.
        clock: UTC microseconds.
        random: Gives that many random bytes.
        log: Where one line a call goes; None for nowhere.
        recording: Where looks are recorded; None for the access log. No configuration can set it.
        place: Which of the registry's processes this is.

    Raises:
        NotFound: A key or certificate is missing.
        Malformed: A key or certificate can not be used.
        StoreUnavailable: The database is away or has another schema.
    """
    require_current(config.database.url, "registry")
    keys = load_keys(config, random=random)
    metrics = CollectorRegistry()
    if log is not None:
        LineMetrics(log, metrics)
    store = RegistryStore()
    database = Database(config.database.url, readers=config.database.readers, writers=config.database.writers)
    led = leadership(place, database=database, store=store.lease, name="registry", clock=clock)
    quotas = Quotas(
        database=open_quota_database(config.database.url),
        store=store.quota,
        clock=clock,
        looks=config.quotas.looks_per_day,
    )
    accesses = AccessLog(
        config=config,
        registry=database,
        store=store,
        token_key=keys.subject_key,
        chores=[quotas.housekeep],
        metrics=metrics,
        clock=clock,
        place=place,
        leads=lambda: led.leads,
    )

    async def active(fingerprints: Sequence[bytes]) -> Mapping[bytes, ActiveCertificate]:
        return await database.read(lambda conn: store.trust.active(conn, fingerprints))

    certificates = ActiveCertificates(fetch=active, clock=clock)
    forwarder = forwarder_of(place)
    server = NodeServer(
        credentials=ReloadingCredentials(config.credentials_dir),
        interceptor=NodeInterceptor(
            policy=registry_policy(),
            certificates=certificates,
            metrics=RpcMetrics(metrics),
            log=log,
            clock=clock,
            forwarder=forwarder,
        ),
        services=SERVICES,
        options=listen_options(place, config.node.listen),
    )
    mark = None if place.folder is None else StopMark(place.folder / STOP_MARK, clock)
    anchor = Anchor(config.anchor_path, registry_origin(config.node.trust_domain, FIRST_EPOCH))
    writer = _writer(config, keys, database, store, metrics, server, mark, anchor, clock, random)
    decision_log = DecisionLog(writer)
    decisions = PendingDecisions(
        database=database,
        store=store,
        deciding=decision_log,
        leads=lambda: led.leads,
        metrics=ConflictMetrics(registry=metrics),
        clock=clock,
    )
    freshness = Freshness(database=database, store=store, clock=clock)
    answers = NationalAnswers(
        database=database,
        store=store,
        freshness=freshness,
        persons=keys.persons,
        fields=LicenseFields(RecordReader(database=database, logs=store.logs)),
        attestor=Attestor(node=str(registry_id(config.node.trust_domain)), signer=keys.answers, random=random),
        clock=clock,
    )
    hub = WatchHub(
        positions=lambda: database.read(store.logs.sizes),
        marks=lambda keys: database.read(lambda conn: store.view.marks(conn, keys)),
        as_of=freshness.as_of,
        clock=clock,
    )
    writer.add_listener(lambda _size: hub.notify())
    looks = Looks(
        answering=answers,
        watching=Watching(judging=answers, hub=hub, persons=keys.persons, clock=clock),
        quotas=quotas,
        recorder=accesses.recorder if recording is None else recording,
        subjects=keys.subjects,
        clock=clock,
    )
    city_metrics = CityMetrics(registry=metrics, clock=clock)

    async def halt() -> None:
        # One process that must not sign any more is reason enough for all.
        if mark is not None and (reason := mark.read()) is not None:
            writer.halt(reason)

    async def reseed() -> None:
        city_metrics.seed(await database.read(store.states))

    await reseed()
    disputes = Disputes(
        database=database,
        store=store,
        log=DecisionLog(writer),
        trust_domain=config.node.trust_domain,
        cosigner_name=cosigner_name(config.node.trust_domain),
        metrics=metrics,
        clock=clock,
    )
    await disputes.refresh()
    oversight_pb2_grpc.add_OversightServiceServicer_to_server(OversightServicer(disputes), server.grpc)
    colleagues = Colleagues(
        [(HALT_S, halt), (REFRESH_S, reseed), (REFRESH_S, disputes.refresh)] if place.accompanied else []
    )
    scrubber = Scrubber(config.database.url)
    replication = Replication(
        database=database,
        store=store,
        ingest=Ingest(
            database=database,
            store=store,
            persons=keys.persons,
            cosigner=keys.cosigner,
            cosigner_name=cosigner_name(config.node.trust_domain),
            trust_domain=config.node.trust_domain,
            disputes=disputes,
            clock=clock,
            on_erased=scrubber.due,
        ),
        decisions=decisions,
        log=decision_log,
        freshness=freshness,
        on_change=hub.notify,
        metrics=city_metrics,
    )
    replication_pb2_grpc.add_ReplicationServiceServicer_to_server(
        ReplicationServicer(replication=replication, persons=keys.persons, accesses=accesses.intake), server.grpc
    )
    recovery_pb2_grpc.add_RecoveryServiceServicer_to_server(
        RecoveryServicer(
            held=HeldLogs(
                database=database,
                store=store,
                cosigner=keys.cosigner,
                cosigner_name=cosigner_name(config.node.trust_domain),
                clock=clock,
            ),
            log=decision_log,
            trust_domain=config.node.trust_domain,
        ),
        server.grpc,
    )
    conflicts = Conflicts(database=database, store=store, log=decision_log, on_change=hub.notify, clock=clock)
    conflict_pb2_grpc.add_ConflictServiceServicer_to_server(ConflictServicer(conflicts), server.grpc)
    conflict_pb2_grpc.add_ConflictRulingServiceServicer_to_server(ConflictRulingServicer(conflicts), server.grpc)
    custody_pb2_grpc.add_CustodyServiceServicer_to_server(
        CustodyServicer(
            custody=Custody(
                database=database,
                store=store,
                cosigner=keys.cosigner,
                cosigner_name=cosigner_name(config.node.trust_domain),
                clock=clock,
            ),
            persons=keys.persons,
        ),
        server.grpc,
    )
    verification_pb2_grpc.add_VerificationServiceServicer_to_server(VerificationServicer(looks), server.grpc)
    access_pb2_grpc.add_AccessServiceServicer_to_server(
        AccessServicer(looks=looks, accesses=accesses.lists), server.grpc
    )
    enrollment_pb2_grpc.add_EnrollmentServiceServicer_to_server(
        EnrollmentServicer(enrollment(config, keys, database, store, clock=clock, random=random)), server.grpc
    )
    transparency_pb2_grpc.add_TransparencyServiceServicer_to_server(
        TransparencyServicer(_transparency(config, keys, database, store, clock)), server.grpc
    )
    heads = HeadPublisher(log=decision_log, leads=lambda: led.leads)
    parts = _Parts(
        database=database,
        logs=store.logs,
        anchor=anchor,
        scrubber=scrubber,
        certificates=certificates,
        quotas=quotas,
        accesses=accesses,
        answers=answers,
        writer=writer,
        decisions=decisions,
        heads=heads,
        hub=hub,
        leadership=led,
        colleagues=colleagues,
        forwarder=forwarder,
        server=server,
    )
    return RunningNode(config=config, parts=parts, metrics=metrics, place=place)


def _transparency(
    config: RegistryConfig, keys: RegistryKeys, database: Database, store: RegistryStore, clock: Callable[[], int]
) -> Transparency:
    showing = RegistryShowing(
        store=store,
        trust_domain=config.node.trust_domain,
        signer=keys.log,
        cosigner=keys.cosigner,
        clock=clock,
    )
    return Transparency(database=database, store=store.logs, showing=showing)


def _writer(
    config: RegistryConfig,
    keys: RegistryKeys,
    database: Database,
    store: RegistryStore,
    metrics: CollectorRegistry,
    server: NodeServer,
    mark: StopMark | None,
    anchor: Anchor,
    clock: Callable[[], int],
    random: Callable[[int], bytes],
) -> LogWriter[Command, Outcome]:
    trust_domain = config.node.trust_domain
    running: set[asyncio.Task[None]] = set()

    def on_fatal(error: Error) -> None:
        # A registry that must not sign is of no use to cities; verifiers are told to go elsewhere too.
        _log.error("signing_stopped", reason=error.reason)
        if mark is not None and mark.read() is None:
            with suppress(OSError):
                mark.set(error)
        task = asyncio.get_running_loop().create_task(server.set_ready(False))
        running.add(task)
        task.add_done_callback(running.discard)

    return LogWriter(
        database=database,
        log_store=store.logs,
        key=LogKey(REGISTRY_LOG, FIRST_EPOCH),
        signer=keys.log,
        origin=registry_origin(trust_domain, FIRST_EPOCH),
        decider=RegistryDecider(
            store=store,
            transfers=TransferDecider(store=store, persons=keys.persons),
            actor=str(registry_id(trust_domain)),
            lease_us=config.limits.claim_lease_minutes * 60 * SECOND_US,
            conflict_us=config.limits.conflict_days * 86_400 * SECOND_US,
            clock=clock,
        ),
        clock=clock,
        random=random,
        metrics=LogMetrics(metrics),
        on_fatal=on_fatal,
        before_answer=anchor.keep,
        signed_before=anchor.last,
    )
