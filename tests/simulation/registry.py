"""The registry of a simulated nation, put together from the real parts as ``registry/app.py`` does it."""

from __future__ import annotations

from contextlib import suppress
from typing import Any, cast

from elicense.clock import SECOND_US
from elicense.errors import DataLoss, Error, LogBehind
from elicense.log.writer import LogWriter
from elicense.rpc.license_fields import LicenseFields
from elicense.rpc.verification_service import VerificationServicer
from elicense.trust.spiffe import registry_id
from elicense.verification.attest import Attestor
from elicense.view.records import RecordReader
from registry.admission import Admission
from registry.conflict_metrics import ConflictMetrics
from registry.conflict_view import Conflicts
from registry.custody import Custody
from registry.decider import RegistryDecider
from registry.decisions import PendingDecisions
from registry.disputes import Disputes
from registry.epochs import HeldLogs
from registry.freshness import Freshness
from registry.given_back import GivenBack
from registry.history import open_key, own_doubt
from registry.metrics import CityMetrics
from registry.mirrored import OwnPages
from registry.names import cosigner_name, registry_origin
from registry.postponed import PostponedErasures
from registry.publishing import HeadPublisher
from registry.readers import Readers
from registry.replay import Replay
from registry.replication import DecisionLog, Replication
from registry.services.conflict import ConflictRulingServicer, ConflictServicer
from registry.services.custody import CustodyServicer
from registry.services.oversight import OversightServicer
from registry.services.recovery import RecoveryServicer
from registry.services.replication import ReplicationServicer
from tests.simulation.nodes import Node, WatchedAnchor, looks_of
from tests.simulation.template import anchor_of


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
        self.key = database.read_now(lambda conn: open_key(conn, store.logs))
        origin = registry_origin(domain, self.key.epoch)
        self.anchor = WatchedAnchor(anchor_of(self.database_path), origin)
        transfers = around.doubles.transfers(store=store, persons=keys.persons, log_is_whole=self.log_is_whole)
        decider = RegistryDecider(
            store=store,
            transfers=transfers,
            actor=str(registry_id(domain)),
            lease_us=template.registry.limits.claim_lease_minutes * 60 * SECOND_US,
            conflict_us=template.registry.limits.conflict_days * 86_400 * SECOND_US,
            clock=self.clock,
        )
        self.writer = LogWriter(
            database=database,
            log_store=store.logs,
            key=self.key,
            signer=around.witness(keys.log),
            origin=origin,
            decider=decider,
            clock=self.clock,
            random=self.bytes_of,
            before_answer=self.anchor.keep,
            signed_before=self.anchor.last,
        )
        log = DecisionLog(self.writer)
        postponed = PostponedErasures(
            database=database,
            store=store,
            persons=keys.persons,
            log_is_whole=self.log_is_whole,
            on_erased=lambda _: None,  # what is left in the database's files is not looked at here
            count_erasures=lambda _city, _came: None,
        )
        self.decisions = PendingDecisions(
            database=database,
            store=store,
            deciding=log,
            leads=lambda: True,
            metrics=ConflictMetrics(registry=self.metrics),
            clock=self.clock,
            erase=postponed.carry_out,
        )
        self.heads = HeadPublisher(log=log, leads=lambda: True)
        freshness = Freshness(database=database, store=store, clock=self.clock, lacks_decisions=self.lacks_decisions)
        self.disputes = Disputes(
            database=database,
            store=store,
            log=log,
            trust_domain=domain,
            cosigner_name=cosigner_name(domain),
            metrics=self.metrics,
            clock=self.clock,
            log_is_whole=self.log_is_whole,
        )
        replication = Replication(
            database=database,
            store=store,
            ingest=around.doubles.ingest(
                database=database,
                store=store,
                readers=Readers(keys.index_key),
                persons=keys.persons,
                cosigner=around.witness(keys.cosigner),
                cosigner_name=cosigner_name(domain),
                trust_domain=domain,
                disputes=self.disputes,
                clock=self.clock,
                log_is_whole=self.log_is_whole,
            ),
            admission=Admission(),
            decisions=self.decisions,
            log=log,
            freshness=freshness,
            on_without_custody=lambda: None,
            on_change=lambda: None,
            metrics=CityMetrics(registry=self.metrics, clock=self.clock),
        )
        custody = Custody(
            database=database,
            store=store,
            persons=keys.persons,
            cosigner=around.witness(keys.cosigner),
            cosigner_name=cosigner_name(domain),
            clock=self.clock,
        )
        answers = around.doubles.national(
            database=database,
            store=store,
            freshness=freshness,
            persons=keys.persons,
            fields=LicenseFields(RecordReader(database=database, logs=store.logs)),
            attestor=Attestor(node=str(registry_id(domain)), signer=keys.answers, random=self.bytes_of),
            clock=self.clock,
        )
        conflicts = Conflicts(database=database, store=store, log=log, on_change=lambda: None, clock=self.clock)
        given_back = GivenBack(
            database=database,
            store=store,
            key=self.key,
            public_key=keys.log.public_key(),
            trust_domain=domain,
            anchor=self.anchor,
            replay=Replay(store=store, decider=decider, transfers=transfers, persons=keys.persons),
            deciding=self,
            on_change=self.decisions.task.wake,
        )
        self.services = [
            # No looks are shipped here.
            ReplicationServicer(replication=replication, persons=keys.persons, accesses=cast("Any", None)),
            RecoveryServicer(
                held=HeldLogs(
                    database=database,
                    store=store,
                    cosigner=around.witness(keys.cosigner),
                    cosigner_name=cosigner_name(domain),
                    clock=self.clock,
                ),
                own=OwnPages(database=database, store=store, signer=around.witness(keys.log), trust_domain=domain),
                given_back=given_back,
                log=log,
                trust_domain=domain,
            ),
            OversightServicer(self.disputes),
            CustodyServicer(custody=custody, persons=keys.persons),
            ConflictServicer(conflicts),
            ConflictRulingServicer(conflicts),
            VerificationServicer(looks_of(answers, keys.subjects, self.clock)),
        ]

    async def begin(self) -> None:
        await self.disputes.refresh()
        doubt = await self._doubt()
        if doubt is not None:
            self.stop(doubt)
        else:
            await self.writer.start()
        self.spawn(self.anchor.flush_for_ever())
        self.decisions.task.start()
        self.heads.start()

    def stop(self, reason: DataLoss) -> None:
        """Decide nothing more."""
        self.writer.halt(reason)

    async def go_on(self) -> bool:
        """Decide again if the database holds everything that was signed; tell whether it does."""
        doubt = await self._doubt()
        if doubt is None and isinstance(self.writer.failure, LogBehind):
            await self.writer.resume()
            self.spawn(self._judge_kept())
        return doubt is None

    def log_is_whole(self) -> bool:
        """Whether the log is whole, as far as this start of the registry knows."""
        return self.writer.last_signed is not None and self.writer.failure is None

    def lacks_decisions(self) -> bool:
        """Whether decisions may be missing: the log is in doubt, or nothing has been compared yet since the start."""
        return not self.log_is_whole()

    async def _judge_kept(self) -> None:
        # What fails is tried again by the real node each minute.
        with suppress(Error):
            await self.disputes.judge_kept()

    async def _doubt(self) -> DataLoss | None:
        logs = self.around.template.registry_store.logs
        return await self.database.read(lambda conn: own_doubt(conn, logs, self.key, self.anchor))
