"""Nodes put together from the real parts, without sockets, threads or clocks of their own.

The composition follows ``city_node/app.py`` and ``registry/app.py``, with the
groups that these put together; what is left out (servers, certificates, access
logs, watches) does not touch a log.
"""

from __future__ import annotations

import asyncio
import gc
import secrets
import shutil
from collections.abc import Callable, Coroutine
from contextvars import Context
from dataclasses import dataclass, field, replace
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any, Final, cast

from prometheus_client import CollectorRegistry

from city_node.answers import Answers
from city_node.applications import Applications
from city_node.batches import BatchReader
from city_node.bulk import BulkIssuance
from city_node.changes import LicenseChanges
from city_node.citylog import CityLog
from city_node.claims import PersonClaims
from city_node.comparison import Comparison
from city_node.config import CityConfig
from city_node.custody import CustodyFeed
from city_node.daily import DailyRules
from city_node.decider import CityDecider
from city_node.drafting import Drafting
from city_node.epochs import Epochs, RegistryEpochs
from city_node.erasure import Erasure
from city_node.gate import SigningGate
from city_node.history_reader import History
from city_node.issuance import Issuance
from city_node.keys import CityKeys
from city_node.keys import load_keys as load_city_keys
from city_node.licenses import Licenses
from city_node.metrics import ReplicationMetrics
from city_node.node import COMPARE_SECONDS
from city_node.page_tokens import PageTokens
from city_node.receipts import Receipts
from city_node.replicator import Replicator
from city_node.services.issuance import IssuanceServicer
from city_node.store import CityStore
from elicense.clock import SECOND_US
from elicense.errors import DataLoss, Error
from elicense.log.anchor import Anchor
from elicense.log.model import FIRST_EPOCH, REGISTRY_LOG, LogKey
from elicense.log.scrubber import Scrubber
from elicense.log.writer import LogWriter
from elicense.trust.roles import Role
from elicense.trust.signer import Signer
from elicense.trust.spiffe import Caller, city_id, registry_id
from elicense.view.person import KEY_SIZE, PersonIndex
from elicense.workers.stop_mark import StopMark
from registry.admission import Admission
from registry.config import RegistryConfig
from registry.conflict_metrics import ConflictMetrics
from registry.decider import RegistryDecider
from registry.decisions import PendingDecisions
from registry.disputes import Disputes
from registry.freshness import Freshness
from registry.history import own_doubt
from registry.ingest import Ingest
from registry.keys import RegistryKeys
from registry.keys import load_keys as load_registry_keys
from registry.metrics import CityMetrics
from registry.names import cosigner_name, registry_origin
from registry.publishing import HeadPublisher
from registry.readers import Readers
from registry.replication import DecisionLog, Replication
from registry.services.replication import ReplicationServicer
from registry.store import RegistryStore
from registry.transfer_decider import TransferDecider
from tests.simulation.database import Fate, SimDatabase
from tests.simulation.loop import OWNER, VirtualLoop
from tests.simulation.network import Network
from tests.support.cluster import SUZHOU, TIANJIN, Cluster

if TYPE_CHECKING:
    pass

#: Where virtual time begins (18 May 2033): later than any real moment at which the template was made.
START_US: Final = 2_000_000_000 * SECOND_US
CITIES: Final = (SUZHOU, TIANJIN)


@dataclass(frozen=True)
class Template:
    """A nation that was set up once, to be copied for every seed.

    Attributes:
        registry: The registry's configuration.
        cities: The cities' configurations.
        registry_keys: The registry's keys.
        city_keys: The cities' keys.
        folder: Where the files of the seed that runs lie.
        registry_store: Its queries; making them takes longer than a whole seed.
        city_store: Likewise.
    """

    registry: RegistryConfig
    cities: dict[int, CityConfig]
    registry_keys: RegistryKeys
    city_keys: dict[int, CityKeys]
    folder: Path
    registry_store: RegistryStore = field(default_factory=RegistryStore)
    city_store: CityStore = field(default_factory=CityStore)
    _databases: dict[tuple[type, Path], SimDatabase] = field(default_factory=dict)

    def database(self, kind: type[SimDatabase], path: Path) -> SimDatabase:
        """Return a database that nobody has open; what it has compiled before stays compiled."""
        held = self._databases.get((kind, path))
        if held is None:
            held = self._databases[kind, path] = kind(f"sqlite:///{path}")
        held.forget_work()
        return held


async def make_template(folder: Path, scratch: Path) -> Template:
    """Set up a registry and its cities in the ordinary way, and stop them.

    Args:
        folder: Where they are set up.
        scratch: Where seeds run.
    """
    cluster = Cluster(folder)
    await cluster.start_registry()
    for code in CITIES:
        await cluster.add_city(code)
    await cluster.close()
    configs = {code: city.config for code, city in cluster.cities.items()}
    # What has been made so far stays: there is no need to look through it after each seed.
    gc.collect()
    gc.freeze()
    # Rows are read in the order of person tags: with the same tags in every run a seed replays exactly.
    index_key = bytes(KEY_SIZE)
    persons = PersonIndex(index_key)
    registry_keys = load_registry_keys(cluster.registry_config, random=secrets.token_bytes)
    return Template(
        cluster.registry_config,
        configs,
        replace(registry_keys, persons=persons, index_key=index_key),
        {
            code: replace(load_city_keys(config, random=secrets.token_bytes), persons=persons)
            for code, config in configs.items()
        },
        scratch,
    )


class WatchedAnchor(Anchor):
    """Knows what of its file would survive a power cut."""

    def __init__(self, path: Path, origin: str) -> None:
        super().__init__(path, origin)
        self.durable = path.read_bytes()

    def flush(self) -> None:
        super().flush()
        self.durable = self.path.read_bytes()


@dataclass
class Doubles:
    """Parts that a test may put in place of the real ones, to see whether the simulation notices.

    Attributes:
        clock_off_s: How far the cities' clocks are off at first.
    """

    database: type[SimDatabase] = SimDatabase
    city_decider: type[CityDecider] = CityDecider
    ingest: type[Ingest] = Ingest
    clock_off_s: float = 0.0


@dataclass
class Surroundings:
    """What every node of a run shares.

    Attributes:
        witness: Wraps each signer, so that nothing is signed unseen.
        doubles: What takes the place of real parts.
        fate: What becomes of the next COMMIT.
    """

    template: Template
    loop: VirtualLoop
    random: Random
    network: Network
    witness: Callable[[Signer], Signer]
    doubles: Doubles = field(default_factory=Doubles)
    fate: Callable[[], Fate] = lambda: Fate.HEARD


@dataclass(eq=False)
class Node:
    """One life of a node, from a start to a crash.

    Attributes:
        name: Its name, the same over all its lives.
        clock_off_s: How far its clock is off.
    """

    around: Surroundings
    name: str
    database_path: Path
    clock_off_s: float = 0.0
    alive: bool = True
    services: list[Any] = field(default_factory=list)
    tasks: list[asyncio.Task[Any]] = field(default_factory=list)
    anchor: WatchedAnchor = field(init=False)
    context: Context = field(default_factory=Context)

    def __post_init__(self) -> None:
        self.context.run(OWNER.set, self)
        self.database = self.around.template.database(self.around.doubles.database, self.database_path)
        self.database.fate = self.around.fate
        self.metrics = CollectorRegistry()
        self.build()

    def build(self) -> None:
        raise NotImplementedError

    async def begin(self) -> None:
        raise NotImplementedError

    def clock(self) -> int:
        return START_US + int((self.around.loop.time() + self.clock_off_s) * SECOND_US)

    def bytes_of(self, count: int) -> bytes:
        return self.around.random.randbytes(count)

    def spawn(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        task = self.around.loop.create_task(work, context=self.context.copy())
        self.tasks.append(task)
        return task

    def crash(self, *, power: bool = False) -> None:
        """End at once: nothing of it runs again, and what it had not committed is gone.

        Args:
            power: The machine loses power: what was written and not flushed is gone as well.  SQLite
                flushes each commit, so that this touches only files beside the database.
        """
        self.alive = False
        self.database.close()
        durable = self.anchor.durable
        self.anchor.close()
        if power:
            self.anchor.path.write_bytes(durable)


class RegistryNode(Node):
    """The registry."""

    def build(self) -> None:
        around, template = self.around, self.around.template
        keys, domain, store, database = (
            template.registry_keys,
            template.registry.node.trust_domain,
            template.registry_store,
            self.database,
        )
        origin = registry_origin(domain, FIRST_EPOCH)
        self.anchor = WatchedAnchor(anchor_of(self.database_path), origin)
        self.writer = LogWriter(
            database=database,
            log_store=store.logs,
            key=LogKey(REGISTRY_LOG, FIRST_EPOCH),
            signer=around.witness(keys.log),
            origin=origin,
            decider=RegistryDecider(
                store=store,
                transfers=TransferDecider(store=store, persons=keys.persons),
                actor=str(registry_id(domain)),
                lease_us=template.registry.limits.claim_lease_minutes * 60 * SECOND_US,
                conflict_us=template.registry.limits.conflict_days * 86_400 * SECOND_US,
                clock=self.clock,
            ),
            clock=self.clock,
            random=self.bytes_of,
            before_answer=self.anchor.keep,
            signed_before=self.anchor.last,
        )
        log = DecisionLog(self.writer)
        self.decisions = PendingDecisions(
            database=database,
            store=store,
            deciding=log,
            leads=lambda: True,
            metrics=ConflictMetrics(registry=self.metrics),
            clock=self.clock,
        )
        self.heads = HeadPublisher(log=log, leads=lambda: True)
        freshness = Freshness(database=database, store=store, clock=self.clock)
        self.disputes = Disputes(
            database=database,
            store=store,
            log=log,
            trust_domain=domain,
            cosigner_name=cosigner_name(domain),
            metrics=self.metrics,
            clock=self.clock,
        )
        replication = Replication(
            database=database,
            store=store,
            ingest=around.doubles.ingest(
                database=database,
                store=store,
                readers=Readers(keys.index_key),
                cosigner=around.witness(keys.cosigner),
                cosigner_name=cosigner_name(domain),
                trust_domain=domain,
                disputes=self.disputes,
                clock=self.clock,
            ),
            admission=Admission(database=database, store=store),
            decisions=self.decisions,
            log=log,
            freshness=freshness,
            on_without_custody=lambda: None,
            on_change=lambda: None,
            metrics=CityMetrics(registry=self.metrics, clock=self.clock),
        )
        # No looks are shipped here.
        self.services = [ReplicationServicer(replication=replication, persons=keys.persons, accesses=cast("Any", None))]

    async def begin(self) -> None:
        await self.disputes.refresh()
        doubt = await self.database.read(
            lambda conn: own_doubt(
                conn, self.around.template.registry_store.logs, LogKey(REGISTRY_LOG, FIRST_EPOCH), self.anchor
            )
        )
        if doubt is not None:
            self.writer.halt(doubt)  # the oracle sees it
            return
        await self.writer.start()
        self.spawn(self.anchor.flush_for_ever())
        self.decisions.start()
        self.heads.start()


@dataclass(eq=False)
class CityNode(Node):
    """A city.

    Attributes:
        code: Division code.
        find_registry: Gives the registry as it runs now.
    """

    code: int = field(kw_only=True)
    find_registry: Callable[[], RegistryNode | None] = field(kw_only=True)

    def build(self) -> None:
        around, template, database = self.around, self.around.template, self.database
        keys, config, store = template.city_keys[self.code], template.cities[self.code], template.city_store
        domain, key = config.node.trust_domain, LogKey(self.code, 1)
        epochs = Epochs(domain, self.code, lambda epoch: around.witness(keys.log.of(epoch)))
        origin, us = epochs.origin(key.epoch), city_id(domain, self.code)
        upstream = around.network.connect(
            self.find_registry, caller=Caller(us, Role.CITY, self.code, bytes(32)), name=self.name
        )
        self.gate = SigningGate(StopMark(self.database_path.with_suffix(".mark"), self.clock))
        self.anchor = WatchedAnchor(anchor_of(self.database_path), origin)
        self.comparison = Comparison(database=database, store=store, key=key, anchor=self.anchor, gate=self.gate)
        self.writer = LogWriter(
            database=database,
            log_store=store.logs,
            key=key,
            signer=epochs.signer(key.epoch),
            origin=origin,
            decider=around.doubles.city_decider(
                store=store, persons=keys.persons, gate=self.gate, actor=str(us), clock=self.clock
            ),
            clock=self.clock,
            random=self.bytes_of,
            on_fatal=self.gate.shut,
            before_answer=self.comparison.keep,
            signed_before=self.anchor.last,
        )
        log = CityLog(key=key, writer=self.writer, clock=self.clock)
        self.receipts = Receipts(
            database=database,
            store=store,
            key=key,
            keys=epochs.trusted({key.epoch: epochs.own_key(key.epoch)}, keys.cosigner),
            custody=CustodyFeed(store=store, persons=keys.persons),
            clock=self.clock,
        )

        self.replicator = Replicator(
            key=key,
            log=log,
            batches=BatchReader(database=database, store=store, sign=epochs.sign, max_entries=8),
            stub=upstream,
            opening=RegistryEpochs(database=database, store=store, epochs=epochs, stub=upstream),
            receipts=self.receipts,
            comparison=self.comparison,
            gate=self.gate,
            metrics=ReplicationMetrics(registry=self.metrics, city=self.code, clock=self.clock),
            heartbeat_s=3.0,
            jitter=around.random.random,
        )
        self.writer.add_listener(lambda _size: self.replicator.wake())
        answers = Answers(log=log, database=database, store=store, receipts=self.receipts)
        tokens = PageTokens(keys.index_key)
        # No licence moves between cities here, so nobody asks another city for its history.
        history = History(upstream)
        licenses = Licenses(
            city=self.code, database=database, store=store, answers=answers, history=history, tokens=tokens
        )
        daily = DailyRules(
            city=self.code, log=log, database=database, store=store, gate=self.gate, tokens=tokens, clock=self.clock
        )
        claims = PersonClaims(stub=upstream, city=self.code, timeout_s=1.0)
        drafting = Drafting(city=self.code, persons=keys.persons, clock=self.clock)
        applications = Applications(
            city=self.code, database=database, store=store, clock=self.clock, random=self.bytes_of
        )
        issuance = Issuance(
            log=log,
            applications=applications,
            drafting=drafting,
            claims=claims,
            answers=answers,
            gate=self.gate,
            issue_provisional=True,
        )
        bulk = BulkIssuance(
            log=log,
            applications=applications,
            drafting=drafting,
            claims=claims,
            backlog=self.replicator,
            gate=self.gate,
            backlog_limit=1_000,
        )
        changes = LicenseChanges(
            log=log,
            database=database,
            store=store,
            licenses=licenses,
            persons=keys.persons,
            claims=claims,
            daily=daily,
            answers=answers,
            gate=self.gate,
            clock=self.clock,
            random=self.bytes_of,
        )
        self.services = [
            IssuanceServicer(
                city=self.code,
                issuance=issuance,
                bulk=bulk,
                changes=changes,
                licenses=licenses,
                daily=daily,
                erasure=Erasure(
                    log=log,
                    database=database,
                    scrubber=Scrubber(config.database_url, database=database, erased=store.logs.erased),
                    store=store,
                    receipts=self.receipts,
                    gate=self.gate,
                    retention_days=0,  # the law's years are over at once
                    clock=self.clock,
                ),
            )
        ]

    async def begin(self) -> None:
        await self.receipts.load()
        try:
            await self.replicator.compare(COMPARE_SECONDS)
        except DataLoss:
            pass  # the gate is shut, and the oracle sees it
        except Error:
            await self.comparison.run(None)
        await self.writer.start()
        self.spawn(self.replicator.run())
        self.spawn(self.anchor.flush_for_ever())


def anchor_of(database: Path) -> Path:
    """Return where the anchor of a city's database lies."""
    return database.with_suffix(".anchor")


def copy_stores(template: Template) -> tuple[Path, dict[int, Path]]:
    """Copy the databases and anchors of a template; return those of the registry and of each city."""
    folder = template.folder
    for left in folder.iterdir():
        left.unlink()
    registry = folder / "registry.db"
    shutil.copyfile(_file(template.registry.database.url), registry)
    shutil.copyfile(template.registry.anchor_path, anchor_of(registry))
    cities = {}
    for code, config in template.cities.items():
        cities[code] = folder / f"{code}.db"
        shutil.copyfile(_file(config.database_url), cities[code])
        shutil.copyfile(config.anchor_path, anchor_of(cities[code]))
    return registry, cities


def _file(url: str) -> str:
    return url.removeprefix("sqlite://")
