"""What the registry offers, and to whom: to everybody, to cities, and to those who settle disputes."""

from __future__ import annotations

from typing import Final

from elicense.log.transparency import Transparency
from elicense.rpc.enrollment_service import EnrollmentServicer
from elicense.rpc.looks import Looks
from elicense.rpc.server import NodeServer
from elicense.rpc.transparency_service import TransparencyServicer
from elicense.rpc.verification_service import VerificationServicer
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
from registry.access_log import AccessLog
from registry.conflict_view import Conflicts
from registry.custody import Custody
from registry.disputes import Disputes
from registry.enrollment import enrollment
from registry.epochs import HeldLogs
from registry.given_back import GivenBack
from registry.ground import Ground
from registry.holder_documents import HolderDocuments
from registry.mirrored import OwnPages
from registry.replication import DecisionLog, Replication
from registry.services.access import AccessServicer
from registry.services.conflict import ConflictRulingServicer, ConflictServicer
from registry.services.custody import CustodyServicer
from registry.services.oversight import OversightServicer
from registry.services.recovery import RecoveryServicer
from registry.services.replication import ReplicationServicer
from registry.transparency import RegistryShowing

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

QUARANTINE_HEALTH: Final = "elicense.quarantine"
"""Name by which the health service tells whether no city is in quarantine; the registry itself goes on serving."""


def serve_everybody(server: NodeServer, ground: Ground, *, looks: Looks, accesses: AccessLog) -> None:
    """Offer verdicts, lists of who looked, certificates and the public logs."""
    database, store, keys, clock = ground.database, ground.store, ground.keys, ground.clock
    verification_pb2_grpc.add_VerificationServiceServicer_to_server(VerificationServicer(looks), server.methods)
    documents = HolderDocuments(database=database, store=store, persons=keys.persons)
    access_pb2_grpc.add_AccessServiceServicer_to_server(
        AccessServicer(looks=looks, documents=documents, accesses=accesses.lists), server.methods
    )
    enrollment_pb2_grpc.add_EnrollmentServiceServicer_to_server(
        EnrollmentServicer(enrollment(ground.config, keys, database, store, clock=clock, random=ground.random)),
        server.methods,
    )
    showing = RegistryShowing(
        store=store, trust_domain=ground.trust_domain, signer=keys.log, cosigner=keys.cosigner, clock=clock
    )
    transparency_pb2_grpc.add_TransparencyServiceServicer_to_server(
        TransparencyServicer(Transparency(database=database, store=store.logs, showing=showing)), server.methods
    )


def serve_cities(
    server: NodeServer,
    ground: Ground,
    *,
    replication: Replication,
    log: DecisionLog,
    given_back: GivenBack,
    accesses: AccessLog,
) -> None:
    """Offer to take in their logs, to give them back, and to show what moves between cities."""
    database, store, keys, clock = ground.database, ground.store, ground.keys, ground.clock
    replication_pb2_grpc.add_ReplicationServiceServicer_to_server(
        ReplicationServicer(replication=replication, persons=keys.persons, accesses=accesses.intake), server.methods
    )
    held = HeldLogs(
        database=database, store=store, cosigner=keys.cosigner, cosigner_name=ground.cosigner_name, clock=clock
    )
    own = OwnPages(database=database, store=store, signer=keys.log, trust_domain=ground.trust_domain)
    recovery_pb2_grpc.add_RecoveryServiceServicer_to_server(
        RecoveryServicer(held=held, own=own, given_back=given_back, log=log, trust_domain=ground.trust_domain),
        server.methods,
    )
    custody = Custody(
        database=database,
        store=store,
        persons=keys.persons,
        cosigner=keys.cosigner,
        cosigner_name=ground.cosigner_name,
        clock=clock,
    )
    custody_pb2_grpc.add_CustodyServiceServicer_to_server(
        CustodyServicer(custody=custody, persons=keys.persons), server.methods
    )


def serve_disputes(server: NodeServer, *, conflicts: Conflicts, disputes: Disputes) -> None:
    """Offer to see and to settle what cities contradict each other, or themselves, in."""
    conflict_pb2_grpc.add_ConflictServiceServicer_to_server(ConflictServicer(conflicts), server.methods)
    conflict_pb2_grpc.add_ConflictRulingServiceServicer_to_server(ConflictRulingServicer(conflicts), server.methods)
    oversight_pb2_grpc.add_OversightServiceServicer_to_server(OversightServicer(disputes), server.methods)
