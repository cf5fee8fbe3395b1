"""The one place where the registry is put together: configuration in, running server out."""

from __future__ import annotations

import secrets
from collections.abc import Callable

from prometheus_client import CollectorRegistry

from elicense.clock import utc_micros
from elicense.log.scrubber import Scrubber
from elicense.quota.database import open_quota_database
from elicense.quota.leases import Quotas
from elicense.rpc.looks import Recording
from elicense.rpc.telemetry import LineMetrics, LineWriter
from elicense.sql.database import Database
from elicense.sql.schema_version import require_current
from elicense.trust.roles import registry_policy
from elicense.workers.colleagues import HALT_S, REFRESH_S, Colleagues
from elicense.workers.leader import leadership
from elicense.workers.listening import Listening
from elicense.workers.place import ALONE, Place
from registry.access_log import AccessLog
from registry.answering import Answering
from registry.config import RegistryConfig
from registry.conflict_metrics import ConflictMetrics
from registry.conflict_view import Conflicts
from registry.decisions import PendingDecisions
from registry.disputes import Disputes
from registry.erasure_metrics import ErasureMetrics
from registry.ground import Ground
from registry.history import open_key
from registry.intake import Intake
from registry.keys import load_keys
from registry.node import Parts, RunningNode
from registry.own_log import OwnLog
from registry.postponed import PostponedErasures
from registry.publishing import HeadPublisher
from registry.replication import DecisionLog
from registry.serving import QUARANTINE_HEALTH, SERVICES, serve_cities, serve_disputes, serve_everybody
from registry.store import RegistryStore


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
    ground = Ground(
        config=config,
        keys=keys,
        database=database,
        store=store,
        leadership=leadership(place, database=database, store=store.lease, name="registry", clock=clock),
        metrics=metrics,
        place=place,
        own_key=await database.read(lambda conn: open_key(conn, store.logs)),
        clock=clock,
        random=random,
    )

    # Who may call, how often, and where it is kept that somebody looked.
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
        leads=ground.leads,
    )
    listening = Listening(
        services=SERVICES,
        address=config.node.listen,
        credentials=config.credentials_dir,
        policy=registry_policy(),
        database=database,
        trust=store.trust,
        metrics=metrics,
        log=log,
        clock=clock,
        place=place,
    )

    # What the registry decides.
    async def say_ready(ready: bool) -> None:
        await listening.server.set_ready(ready)
        # What followers were told may not be certain any more.
        answering.hub.wake_all()

    own_log = OwnLog(ground, say_ready=say_ready)
    decision_log = DecisionLog(own_log.writer)
    erasures = ErasureMetrics(registry=metrics)
    scrubber = Scrubber(config.database.url, database=database, erased=store.logs.erased)
    postponed = PostponedErasures(
        database=database,
        store=store,
        persons=keys.persons,
        log_is_whole=own_log.is_whole,
        on_erased=scrubber.due,
        count_erasures=erasures.count,
    )
    decisions = PendingDecisions(
        database=database,
        store=store,
        deciding=decision_log,
        leads=ground.leads,
        metrics=ConflictMetrics(registry=metrics),
        clock=clock,
        erase=postponed.carry_out,
        on_erased=scrubber.due,
    )
    disputes = Disputes(
        database=database,
        store=store,
        log=decision_log,
        trust_domain=ground.trust_domain,
        cosigner_name=ground.cosigner_name,
        metrics=metrics,
        say_free=lambda free: listening.server.health.set_ready(free, services=(QUARANTINE_HEALTH,)),
        clock=clock,
        log_is_whole=own_log.is_whole,
    )

    # What it answers, and what it takes in.
    answering = Answering(
        ground,
        quotas=quotas,
        recorder=accesses.recorder if recording is None else recording,
        lacks_decisions=own_log.lacks_decisions,
    )
    notify = answering.hub.notify
    own_log.writer.add_listener(lambda _size: notify())
    intake = Intake(
        ground,
        log=decision_log,
        decisions=decisions,
        disputes=disputes,
        freshness=answering.freshness,
        on_change=notify,
        scrubber=scrubber,
        log_is_whole=own_log.is_whole,
        count_erasures=erasures.count,
    )
    await intake.reseed()
    await disputes.refresh()

    def brought_back() -> None:
        decisions.task.wake()
        disputes.task.wake()
        notify()

    given_back = own_log.given_back(on_change=brought_back)
    serve_everybody(listening.server, ground, looks=answering.looks, accesses=accesses)
    serve_cities(
        listening.server,
        ground,
        replication=intake.replication,
        log=decision_log,
        given_back=given_back,
        accesses=accesses,
    )
    serve_disputes(
        listening.server,
        conflicts=Conflicts(database=database, store=store, log=decision_log, on_change=notify, clock=clock),
        disputes=disputes,
    )
    seen = [(HALT_S, own_log.look_at_mark), (REFRESH_S, intake.reseed), (REFRESH_S, disputes.refresh)]
    parts = Parts(
        database=database,
        require_open=own_log.require_open,
        doubt=own_log.doubt,
        anchor=own_log.anchor,
        scrubber=scrubber,
        readers=intake.readers,
        certificates=listening.certificates,
        quotas=quotas,
        accesses=accesses,
        looks=answering.looks,
        answers=answering.answers,
        writer=own_log.writer,
        decisions=decisions,
        disputes=disputes,
        breaches=intake.breaches,
        heads=HeadPublisher(log=decision_log, leads=ground.leads),
        hub=answering.hub,
        leadership=ground.leadership,
        colleagues=Colleagues(seen if place.accompanied else []),
        forwarder=listening.forwarder,
        server=listening.server,
    )
    return RunningNode(config=config, parts=parts, metrics=metrics, place=place)
