"""The one place where a city node is put together: configuration in, running server out."""

from __future__ import annotations

import secrets
from collections.abc import Callable

from prometheus_client import CollectorRegistry

from city_node.access_log import AccessLog
from city_node.answering import Answering
from city_node.config import CityConfig
from city_node.counter import Counter
from city_node.epochs import Epochs, known_keys
from city_node.gate import SigningGate
from city_node.ground import Ground
from city_node.keys import load_keys
from city_node.mirroring import REGISTRY_LOG_HEALTH, mirror_of_registry
from city_node.node import Parts, RunningNode
from city_node.own_log import OwnLog
from city_node.progress import open_log
from city_node.registry_channels import RegistryChannels
from city_node.replication import Replication
from city_node.services.conflict import ConflictServicer
from city_node.serving import ISSUANCE, SERVICES, serve_clerks, serve_everybody
from city_node.store import CityStore
from city_node.verify_only import verify_only_mark
from elicense.clock import utc_micros
from elicense.quota.database import open_quota_database
from elicense.quota.leases import Quotas
from elicense.rpc.telemetry import LineWriter
from elicense.sql.database import Database
from elicense.sql.schema_version import require_current
from elicense.trust.roles import city_policy
from elicense.v1 import conflict_pb2_grpc, replication_pb2_grpc
from elicense.workers.colleagues import HALT_S, REFRESH_S, Colleagues
from elicense.workers.leader import leadership
from elicense.workers.listening import Listening
from elicense.workers.place import ALONE, Place


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
    ground = Ground(
        config=config,
        keys=keys,
        database=database,
        store=store,
        key=key,
        epochs=epochs,
        gate=gate,
        leadership=leadership(place, database=database, store=store.lease, name=f"city-{city}", clock=clock),
        metrics=metrics,
        place=place,
        clock=clock,
        random=random,
    )

    # The log, and its way to the registry.
    channels = RegistryChannels(credentials=keys.credentials, address=config.city.registry_address)
    own_log = OwnLog(ground)
    replication = Replication(ground, own_log=own_log, epoch_keys=epoch_keys, upstream=channels.upstream)
    replicator = replication.replicator
    own_log.writer.add_listener(lambda _size: replicator.wake())

    # Who may call, how often, and where it is kept that somebody looked.
    quotas = Quotas(
        database=open_quota_database(config.database_url),
        store=store.quota,
        clock=clock,
        looks=config.quotas.looks_per_day,
    )
    accesses = AccessLog(
        config=config,
        stub=replication_pb2_grpc.ReplicationServiceStub(channels.upstream),
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
        policy=city_policy(city),
        database=database,
        trust=store.trust,
        metrics=metrics,
        log=log,
        clock=clock,
        place=place,
    )

    async def say_sound(is_sound: bool) -> None:
        await listening.server.health.set_ready(is_sound, services=(REGISTRY_LOG_HEALTH,))

    mirror = mirror_of_registry(
        ground, channels.upstream, epoch_keys=epoch_keys, compare=replicator.compare, say_sound=say_sound
    )

    # What it answers, and what its clerks do.
    answering = Answering(ground, log=own_log.log, channels=channels, quotas=quotas, recorder=accesses.recorder)
    own_log.writer.add_listener(lambda _size: answering.hub.notify())
    replication.receipts.add_listener(answering.hub.notify)
    counter = Counter(ground, log=own_log.log, replication=replication, questions=channels.questions)
    serve_clerks(
        listening.server,
        counter=counter,
        conflicts=ConflictServicer(
            stub=conflict_pb2_grpc.ConflictServiceStub(channels.questions),
            cosigner=keys.cosigner,
            wake=replicator.wake,
        ),
    )
    serve_everybody(listening.server, ground, looks=answering.looks, epoch_keys=epoch_keys)

    async def look_at_gate() -> None:
        gate.refresh()

    seen = [(HALT_S, look_at_gate), (REFRESH_S, replication.look_at_receipts)]
    parts = Parts(
        database=database,
        accesses=accesses,
        channels=(channels.upstream, channels.questions),
        gate=gate,
        require_open=own_log.require_open,
        anchor=own_log.anchor,
        comparison=own_log.comparison,
        writer=own_log.writer,
        receipts=replication.receipts,
        replicator=replicator,
        mirror=mirror,
        daily=counter.daily,
        ordered=counter.ordered,
        scrubber=counter.scrubber,
        coalescing=(
            counter.drafting,
            counter.admissions,
            counter.licenses,
            answering.answers,
            own_log.log,
            answering.relays,
            listening.certificates,
            quotas,
            *([listening.forwarder] if listening.forwarder else ()),
        ),
        hub=answering.hub,
        leadership=ground.leadership,
        colleagues=Colleagues(seen if place.accompanied else []),
        server=listening.server,
        issuance_service=ISSUANCE,
    )
    return RunningNode(config=config, parts=parts, metrics=metrics, place=place)
