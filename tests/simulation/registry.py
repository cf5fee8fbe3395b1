"""The registry of a simulated nation, put together from the real parts as ``registry/app.py`` does it."""

from __future__ import annotations

from typing import Any, cast

from elicense.clock import SECOND_US
from elicense.log.model import FIRST_EPOCH, REGISTRY_LOG, LogKey
from elicense.log.writer import LogWriter
from elicense.rpc.license_fields import LicenseFields
from elicense.rpc.verification_service import VerificationServicer
from elicense.trust.spiffe import registry_id
from elicense.verification.attest import Attestor
from elicense.view.records import RecordReader
from registry.admission import Admission
from registry.conflict_metrics import ConflictMetrics
from registry.custody import Custody
from registry.decider import RegistryDecider
from registry.decisions import PendingDecisions
from registry.disputes import Disputes
from registry.freshness import Freshness
from registry.history import own_doubt
from registry.metrics import CityMetrics
from registry.names import cosigner_name, registry_origin
from registry.publishing import HeadPublisher
from registry.readers import Readers
from registry.replication import DecisionLog, Replication
from registry.services.custody import CustodyServicer
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
                transfers=around.doubles.transfers(store=store, persons=keys.persons),
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
                persons=keys.persons,
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
        self.services = [
            # No looks are shipped here.
            ReplicationServicer(replication=replication, persons=keys.persons, accesses=cast("Any", None)),
            CustodyServicer(custody=custody, persons=keys.persons),
            VerificationServicer(looks_of(answers, keys.subjects, self.clock)),
        ]

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
        self.decisions.task.start()
        self.heads.start()
