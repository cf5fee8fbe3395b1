"""The one place where a city node is put together: configuration in, running server out."""

from __future__ import annotations

import random as random_module
import secrets
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from prometheus_client import CollectorRegistry

from city_node.access_log import AccessLog
from city_node.answers import Answers
from city_node.applications import Applications
from city_node.batches import BatchReader
from city_node.bulk import BulkIssuance
from city_node.changes import LicenseChanges
from city_node.citylog import CityLog
from city_node.claims import PersonClaims
from city_node.commands import Command
from city_node.comparison import Comparison
from city_node.config import CityConfig
from city_node.custody import CustodyFeed
from city_node.daily import DailyRules
from city_node.decider import CityDecider, Outcomes
from city_node.epochs import Epochs, RegistryEpochs, known_keys
from city_node.erasure import Erasure
from city_node.gate import SigningGate
from city_node.history_reader import History
from city_node.issuance import Issuance
from city_node.keys import CityKeys, load_keys
from city_node.licenses import Licenses
from city_node.metrics import ReplicationMetrics
from city_node.node import Parts, RunningNode
from city_node.offers import Offers
from city_node.page_tokens import PageTokens
from city_node.progress import open_log
from city_node.receipts import Receipts
from city_node.relay import Relays
from city_node.replicator import Replicator
from city_node.services.conflict import ConflictServicer
from city_node.services.issuance import IssuanceServicer
from city_node.services.transfer import TransferServicer
from city_node.shared_head import SharedHead
from city_node.store import CityStore
from city_node.transfers import Transfers
from city_node.transparency import CityShowing
from city_node.verification import CityAnswers
from city_node.verify_only import verify_only_mark
from elicense.clock import utc_micros
from elicense.log.anchor import Anchor
from elicense.log.metrics import LogMetrics
from elicense.log.transparency import Transparency
from elicense.log.writer import LogWriter
from elicense.quota.database import open_quota_database
from elicense.quota.leases import Quotas
from elicense.rpc.active import ActiveCertificates
from elicense.rpc.channel import secure_channel
from elicense.rpc.enrollment_service import EnrollmentServicer
from elicense.rpc.interceptor import NodeInterceptor
from elicense.rpc.license_fields import LicenseFields
from elicense.rpc.looks import Looks
from elicense.rpc.server import NodeServer, ReloadingCredentials
from elicense.rpc.telemetry import LineWriter, RpcMetrics
from elicense.rpc.transparency_service import TransparencyServicer
from elicense.rpc.verification_service import VerificationServicer
from elicense.rpc.watch_hub import WatchHub
from elicense.rpc.watching import Watching
from elicense.sql.database import Database
from elicense.sql.migrations import require_current
from elicense.trust.enrollment import Enrollment
from elicense.trust.roles import city_policy
from elicense.trust.spiffe import city_id
from elicense.v1 import (
    conflict_pb2,
    conflict_pb2_grpc,
    custody_pb2_grpc,
    enrollment_pb2,
    enrollment_pb2_grpc,
    issuance_pb2,
    issuance_pb2_grpc,
    recovery_pb2_grpc,
    replication_pb2_grpc,
    transfer_pb2,
    transfer_pb2_grpc,
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
from elicense.workers.place import ALONE, Place

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from elicense.trust.spiffe import ActiveCertificate

ISSUANCE: Final = issuance_pb2.DESCRIPTOR.services_by_name["IssuanceService"].full_name
SERVICES: Final = (
    ISSUANCE,
    verification_pb2.DESCRIPTOR.services_by_name["VerificationService"].full_name,
    enrollment_pb2.DESCRIPTOR.services_by_name["EnrollmentService"].full_name,
    transfer_pb2.DESCRIPTOR.services_by_name["TransferService"].full_name,
    transparency_pb2.DESCRIPTOR.services_by_name["TransparencyService"].full_name,
    conflict_pb2.DESCRIPTOR.services_by_name["ConflictService"].full_name,
)
"""What a city node offers, besides health and reflection."""


async def build(
    config: CityConfig,
    *,
    clock: Callable[[], int] = utc_micros,
    random: Callable[[int], bytes] = secrets.token_bytes,
    log: LineWriter | None = None,
    place: Place = ALONE,
) -> RunningNode:
    """Put a city node together; nothing listens yet.

    Args:
        config: Its configuration.
        clock: UTC microseconds.
        random: Gives that many random bytes.
        log: Where one line a call goes; None for nowhere.
        place: Which of the node's processes this is.

    Raises:
        ConfigInvalid: A key or certificate is missing or can not be used; all problems are named.
        NotFound: The node has no log: it never joined.
        StoreUnavailable: The database is away or has another schema.
    """
    keys = load_keys(config, random=random)
    require_current(config.database_url, "city_node")
    city = config.city.code
    metrics = CollectorRegistry()
    store = CityStore()
    gate = SigningGate(verify_only_mark(config, clock))
    database = Database(config.database_url)
    key = open_log(await database.read(store.logs.keys), city)
    epochs = Epochs(config.node.trust_domain, city, keys.log.of)
    epoch_keys = await known_keys(database, store, epochs, key)

    # The registry: one channel for writes and claims, and one for questions, so
    # that a large batch never stands before a person at a counter.
    upstream = secure_channel(keys.credentials, address=config.city.registry_address, retries=False)
    questions = secure_channel(keys.credentials, address=config.city.registry_address, retries=False, local_pool=True)
    registry = replication_pb2_grpc.ReplicationServiceStub(upstream)

    # The log, what was signed of it and what the registry has confirmed.
    anchor = Anchor(config.anchor_path, epochs.origin(key.epoch))
    comparison = Comparison(database=database, store=store, key=key, anchor=anchor, gate=gate)
    writer: LogWriter[Command, Outcomes] = LogWriter(
        database=database,
        log_store=store.logs,
        key=key,
        signer=keys.log.of(key.epoch),
        origin=epochs.origin(key.epoch),
        decider=CityDecider(
            store=store,
            persons=keys.persons,
            gate=gate,
            actor=str(city_id(config.node.trust_domain, city)),
            clock=clock,
        ),
        clock=clock,
        random=random,
        metrics=LogMetrics(metrics),
        on_fatal=gate.shut,
        before_answer=comparison.keep,
        signed_before=anchor.last,
    )
    city_log = CityLog(
        key=key,
        writer=writer,
        clock=clock,
        shared=SharedHead(database=database, store=store.logs, key=key, clock=clock) if place.shares else None,
    )
    led = leadership(place, database=database, store=store.lease, name=f"city-{city}", clock=clock)
    receipts = Receipts(
        database=database,
        store=store,
        key=key,
        keys=epochs.trusted(epoch_keys, keys.cosigner),
        custody=CustodyFeed(store=store, persons=keys.persons),
        clock=clock,
    )
    replicator = Replicator(
        key=key,
        log=city_log,
        batches=BatchReader(database=database, store=store, sign=epochs.sign),
        stub=registry,
        opening=RegistryEpochs(
            database=database, store=store, epochs=epochs, stub=recovery_pb2_grpc.RecoveryServiceStub(upstream)
        ),
        receipts=receipts,
        comparison=comparison,
        gate=gate,
        metrics=ReplicationMetrics(registry=metrics, city=city, clock=clock),
        heartbeat_s=config.limits.heartbeat_seconds,
        jitter=random_module.random,
    )
    writer.add_listener(lambda _size: replicator.wake())

    # The use cases.
    answers = Answers(log=city_log, database=database, store=store, receipts=receipts)
    tokens = PageTokens(keys.index_key)
    history = History(custody_pb2_grpc.CustodyServiceStub(questions))
    licenses = Licenses(city=city, database=database, store=store, answers=answers, history=history, tokens=tokens)
    daily = DailyRules(city=city, log=city_log, database=database, store=store, gate=gate, tokens=tokens, clock=clock)
    claims = PersonClaims(
        stub=replication_pb2_grpc.ReplicationServiceStub(questions), city=city, timeout_s=config.limits.claim_seconds
    )
    applications = Applications(city=city, database=database, store=store, clock=clock, random=random)
    issuance = Issuance(
        log=city_log,
        applications=applications,
        persons=keys.persons,
        claims=claims,
        answers=answers,
        gate=gate,
        issue_provisional=config.city.provisional_policy == "issue",
    )
    bulk = BulkIssuance(
        log=city_log,
        applications=applications,
        persons=keys.persons,
        claims=claims,
        backlog=replicator,
        gate=gate,
        backlog_limit=config.limits.bulk_backlog,
    )
    changes = LicenseChanges(
        log=city_log,
        database=database,
        store=store,
        licenses=licenses,
        daily=daily,
        answers=answers,
        gate=gate,
        clock=clock,
    )
    relays = Relays(
        connect=lambda: secure_channel(
            keys.credentials, address=config.city.registry_address, retries=False, local_pool=True
        ),
        clock=clock,
        jitter=random_module.random,
    )
    verification = CityAnswers(
        log=city_log,
        database=database,
        store=store,
        persons=keys.persons,
        fields=LicenseFields(RecordReader(database=database, logs=store.logs)),
        gate=gate,
        stub=verification_pb2_grpc.VerificationServiceStub(questions),
        relays=relays,
        attestor=Attestor(node=str(city_id(config.node.trust_domain, city)), signer=keys.answers, random=random),
        clock=clock,
    )
    hub = WatchHub(
        positions=lambda: database.read(lambda conn: store.position(conn, city)),
        marks=lambda keys: database.read(lambda conn: store.view.marks(conn, keys)),
        as_of=None,
        clock=clock,
    )
    writer.add_listener(lambda _size: hub.notify())
    receipts.add_listener(hub.notify)

    # Who looked: recorded here, shipped to the registry.
    quotas = Quotas(
        database=open_quota_database(config.database_url),
        store=store.quota,
        clock=clock,
        looks=config.quotas.looks_per_day,
    )
    accesses = AccessLog(
        config=config,
        stub=registry,
        chores=[quotas.housekeep],
        metrics=metrics,
        clock=clock,
        place=place,
        leads=lambda: led.leads,
    )
    looks = Looks(
        answering=verification,
        watching=Watching(judging=verification, hub=hub, persons=keys.persons, clock=clock),
        quotas=quotas,
        recorder=accesses.recorder,
        subjects=keys.subjects,
        clock=clock,
    )

    # The server.
    async def active(fingerprints: Sequence[bytes]) -> Mapping[bytes, ActiveCertificate]:
        return await database.read(lambda conn: store.trust.active(conn, fingerprints))

    certificates = ActiveCertificates(fetch=active, clock=clock)
    forwarder = forwarder_of(place)
    server = NodeServer(
        credentials=ReloadingCredentials(config.credentials_dir),
        interceptor=NodeInterceptor(
            policy=city_policy(city),
            certificates=certificates,
            metrics=RpcMetrics(metrics),
            log=log,
            clock=clock,
            forwarder=forwarder,
        ),
        services=SERVICES,
        options=listen_options(place, config.node.listen),
    )
    _serve_clerks(
        server,
        IssuanceServicer(
            city=city,
            issuance=issuance,
            bulk=bulk,
            changes=changes,
            licenses=licenses,
            daily=daily,
            erasure=Erasure(
                log=city_log,
                database=database,
                url=config.database_url,
                store=store,
                receipts=receipts,
                gate=gate,
                retention_days=config.limits.retention_days,
                clock=clock,
            ),
        ),
        ConflictServicer(
            stub=conflict_pb2_grpc.ConflictServiceStub(questions), cosigner=keys.cosigner, wake=replicator.wake
        ),
    )
    _serve_transfers(
        server,
        history,
        Transfers(
            city=city,
            log=city_log,
            database=database,
            store=store,
            changes=changes,
            offers=Offers(
                stub=custody_pb2_grpc.CustodyServiceStub(questions),
                city=city,
                trust_domain=config.node.trust_domain,
                cosigner=keys.cosigner,
                persons=keys.persons,
            ),
            answers=answers,
            gate=gate,
            tokens=tokens,
            clock=clock,
        ),
        receipts,
    )
    verification_pb2_grpc.add_VerificationServiceServicer_to_server(VerificationServicer(looks), server.grpc)
    enrollment_pb2_grpc.add_EnrollmentServiceServicer_to_server(
        EnrollmentServicer(enrollment(config, keys, database, store, clock=clock, random=random)), server.grpc
    )
    transparency_pb2_grpc.add_TransparencyServiceServicer_to_server(
        TransparencyServicer(
            Transparency(
                database=database,
                store=store.logs,
                showing=CityShowing(store=store.logs, epochs=epochs, keys=epoch_keys, clock=clock),
            )
        ),
        server.grpc,
    )
    parts = Parts(
        database=database,
        accesses=accesses,
        channels=(upstream, questions),
        gate=gate,
        anchor=anchor,
        comparison=comparison,
        writer=writer,
        receipts=receipts,
        replicator=replicator,
        daily=daily,
        coalescing=(applications, licenses, claims, verification, city_log, relays, certificates, quotas)
        + ((forwarder,) if forwarder else ()),
        hub=hub,
        leadership=led,
        colleagues=_colleagues(place, led, gate, receipts, replicator),
        server=server,
        issuance_service=ISSUANCE,
    )
    return RunningNode(config=config, parts=parts, metrics=metrics, place=place)


def _serve_clerks(server: NodeServer, issuance: IssuanceServicer, conflicts: ConflictServicer) -> None:
    """Offer what clerks call."""
    issuance_pb2_grpc.add_IssuanceServiceServicer_to_server(issuance, server.grpc)
    conflict_pb2_grpc.add_ConflictServiceServicer_to_server(conflicts, server.grpc)


def enrollment(
    config: CityConfig,
    keys: CityKeys,
    database: Database,
    store: CityStore,
    *,
    clock: Callable[[], int],
    random: Callable[[int], bytes],
) -> Enrollment:
    """Return the use case that enrols the city's own clerks and verifiers."""
    return Enrollment(
        database=database,
        store=store.trust,
        authority=keys.authority,
        node=city_id(config.node.trust_domain, config.city.code),
        root=keys.root,
        clock=clock,
        random=random,
    )


def _serve_transfers(server: NodeServer, history: History, transfers: Transfers, receipts: Receipts) -> None:
    # A take-over waits for the registry's word.
    receipts.add_listener(transfers.notify)
    transfer_pb2_grpc.add_TransferServiceServicer_to_server(
        TransferServicer(transfers=transfers, history=history), server.grpc
    )


def _colleagues(
    place: Place, led: Leadership, gate: SigningGate, receipts: Receipts, replicator: Replicator
) -> Colleagues:
    """Return what looks at the work of the node's other processes."""

    async def look_at_gate() -> None:
        gate.refresh()

    async def look_at_receipts() -> None:
        if not led.leads:
            before = receipts.size
            await receipts.load()
            replicator.heard_elsewhere(receipts.size > before or not replicator.backlog)
            await replicator.compare_if_due()

    return Colleagues([(HALT_S, look_at_gate), (REFRESH_S, look_at_receipts)] if place.accompanied else [])
