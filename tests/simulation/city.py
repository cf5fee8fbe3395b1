"""A city of a simulated nation, put together from the real parts as ``city_node/app.py`` does it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, cast

from city_node.admissions import Admissions
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
from city_node.drafting import Drafting
from city_node.epochs import Epochs, RegistryEpochs
from city_node.erasure import Erasure
from city_node.gate import SigningGate
from city_node.history_reader import History
from city_node.issuance import Issuance
from city_node.keys import LogSigners
from city_node.licenses import Licenses
from city_node.metrics import ReplicationMetrics
from city_node.mirror import Mirror, RegistryHistory
from city_node.node import COMPARE_SECONDS
from city_node.offers import Offers
from city_node.ordered_erasures import OrderedErasures
from city_node.page_tokens import PageTokens
from city_node.progress import open_log
from city_node.receipts import Receipts
from city_node.replicator import Replicator
from city_node.services.conflict import ConflictServicer
from city_node.services.issuance import IssuanceServicer
from city_node.services.transfer import TransferServicer
from city_node.transfers import Transfers
from city_node.vectors import VectorCheck
from city_node.verify_only import verify_only_mark
from elicense.errors import DataLoss, Error
from elicense.log.scrubber import Scrubber
from elicense.log.verifier_key import VerifierKey, parse_vkey
from elicense.log.writer import LogWriter
from elicense.rpc.license_fields import LicenseFields
from elicense.rpc.verification_service import VerificationServicer
from elicense.trust.roles import Role
from elicense.trust.spiffe import Caller, city_id
from elicense.verification.attest import Attestor
from elicense.view.records import RecordReader
from tests.simulation.nodes import Node, WatchedAnchor, looks_of
from tests.simulation.registry import RegistryNode


@dataclass(eq=False)
class CityNode(Node):
    """A city.

    Attributes:
        code: Division code.
        config: Its configuration.
        signers: The keys of its log.
        mirrors: Whether it mirrors the registry's own log.
        find_registry: Gives the registry as it runs now.
    """

    code: int = field(kw_only=True)
    config: CityConfig = field(kw_only=True)
    signers: LogSigners = field(kw_only=True)
    mirrors: bool = field(kw_only=True)
    find_registry: Callable[[], RegistryNode | None] = field(kw_only=True)

    def build(self) -> None:
        around, template, database = self.around, self.around.template, self.database
        keys, config, store = template.city_keys[self.code], self.config, template.city_store
        domain, key = (
            config.node.trust_domain,
            database.read_now(lambda conn: open_log(store.logs.keys(conn), self.code)),
        )
        epochs = Epochs(domain, self.code, around.watched(self.signers).of)
        known = database.read_now(lambda conn: store.epoch_keys(conn, self.code))
        known.setdefault(key.epoch, epochs.own_key(key.epoch))
        origin, us = epochs.origin(key.epoch), city_id(domain, self.code)
        upstream = around.network.connect(
            self.find_registry, caller=Caller(us, Role.CITY, self.code, bytes(32)), name=self.name
        )
        self.gate = SigningGate(verify_only_mark(config, self.clock))
        self.anchor = WatchedAnchor(config.anchor_path, origin)
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
            keys=epochs.trusted(known, keys.cosigner),
            custody=CustodyFeed(store=store, persons=keys.persons),
            clock=self.clock,
        )

        self.replicator = Replicator(
            key=key,
            log=log,
            batches=BatchReader(database=database, store=store, sign=epochs.sign, max_entries=8),
            sign_told=epochs.sign_told,
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
        self.mirror = self._mirror(upstream, [keys.cosigner, *(parse_vkey(each.log_key) for each in known.values())])
        answers = Answers(log=log, database=database, store=store, receipts=self.receipts)
        tokens = PageTokens(keys.index_key)
        history = History(upstream)
        licenses = Licenses(
            city=self.code, database=database, store=store, answers=answers, history=history, tokens=tokens
        )
        daily = DailyRules(
            city=self.code,
            log=log,
            database=database,
            store=store,
            gate=self.gate,
            tokens=tokens,
            backlog=lambda: self.replicator.backlog,
            clock=self.clock,
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
            admissions=Admissions(
                applications=applications, claims=claims, gate=self.gate, issue_provisional=True, timeout_s=1.0
            ),
            answers=answers,
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
        transfers = Transfers(
            city=self.code,
            log=log,
            database=database,
            store=store,
            changes=changes,
            offers=Offers(
                stub=upstream, city=self.code, trust_domain=domain, cosigner=keys.cosigner, persons=keys.persons
            ),
            answers=answers,
            gate=self.gate,
            tokens=tokens,
            clock=self.clock,
        )
        self.receipts.add_listener(transfers.notify)
        scrubber = Scrubber(f"sqlite:///{self.database_path}", database=database, erased=store.logs.erased)
        self.ordered = OrderedErasures(
            city=self.code, log=log, database=database, store=store, scrubber=scrubber, gate=self.gate
        )
        self.receipts.add_listener(self.ordered.notify)
        verdicts = around.doubles.city_answers(
            log=log,
            database=database,
            store=store,
            persons=keys.persons,
            fields=LicenseFields(RecordReader(database=database, logs=store.logs)),
            gate=self.gate,
            stub=upstream,
            relays=cast("Any", None),  # nobody follows a licence here
            attestor=Attestor(node=str(us), signer=keys.answers, random=self.bytes_of),
            clock=self.clock,
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
                    scrubber=scrubber,
                    store=store,
                    receipts=self.receipts,
                    gate=self.gate,
                    retention_days=0,  # the law's years are over at once
                    clock=self.clock,
                ),
            ),
            TransferServicer(transfers=transfers, history=history),
            ConflictServicer(stub=upstream, cosigner=keys.cosigner, wake=self.replicator.wake),
            VerificationServicer(looks_of(verdicts, keys.subjects, self.clock)),
        ]

    def _mirror(self, upstream: Any, own_keys: list[VerifierKey]) -> Mirror:
        logs, config = self.around.template.city_store.logs, self.config
        history = RegistryHistory(parse_vkey(config.city.registry_log_key))

        async def say_sound(_is_sound: bool) -> None:
            return None

        return Mirror(
            database=self.database,
            logs=logs,
            history=history,
            stub=upstream,
            witnesses=lambda _key, _first, _second: None,  # the oracle sees whatever is signed
            vectors=VectorCheck(
                database=self.database,
                logs=logs,
                city=self.code,
                registry_key=history.key,
                own_keys=lambda: own_keys,
                gate=self.gate,
                compare=lambda: self.replicator.compare(COMPARE_SECONDS),
                folder=config.evidence_dir,
                metrics=self.metrics,
            ),
            say_sound=say_sound,
            folder=config.evidence_dir,
            interval_s=3.0,
            metrics=self.metrics,
        )

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
        self.spawn(self.ordered.run())
        if self.mirrors:
            self.spawn(self.mirror.run())
        self.spawn(self.anchor.flush_for_ever())
