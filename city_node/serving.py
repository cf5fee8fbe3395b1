"""What a city node offers, and to whom: to clerks, and to everybody."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from city_node.counter import Counter
from city_node.enrollment import enrollment
from city_node.ground import Ground
from city_node.services.conflict import ConflictServicer
from city_node.store import EpochKey
from city_node.transparency import CityShowing
from elicense.log.transparency import Transparency
from elicense.rpc.enrollment_service import EnrollmentServicer
from elicense.rpc.looks import Looks
from elicense.rpc.server import NodeServer
from elicense.rpc.transparency_service import TransparencyServicer
from elicense.rpc.verification_service import VerificationServicer
from elicense.v1 import (
    conflict_pb2,
    conflict_pb2_grpc,
    enrollment_pb2,
    enrollment_pb2_grpc,
    issuance_pb2,
    issuance_pb2_grpc,
    transfer_pb2,
    transfer_pb2_grpc,
    transparency_pb2,
    transparency_pb2_grpc,
    verification_pb2,
    verification_pb2_grpc,
)

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


def serve_clerks(server: NodeServer, *, counter: Counter, conflicts: ConflictServicer) -> None:
    """Offer what clerks call."""
    issuance_pb2_grpc.add_IssuanceServiceServicer_to_server(counter.issuance_service, server.methods)
    transfer_pb2_grpc.add_TransferServiceServicer_to_server(counter.transfer_service, server.methods)
    conflict_pb2_grpc.add_ConflictServiceServicer_to_server(conflicts, server.methods)


def serve_everybody(server: NodeServer, ground: Ground, *, looks: Looks, epoch_keys: Mapping[int, EpochKey]) -> None:
    """Offer verdicts, certificates and the public log."""
    database, store, clock = ground.database, ground.store, ground.clock
    verification_pb2_grpc.add_VerificationServiceServicer_to_server(VerificationServicer(looks), server.methods)
    enrollment_pb2_grpc.add_EnrollmentServiceServicer_to_server(
        EnrollmentServicer(enrollment(ground.config, ground.keys, database, store, clock=clock, random=ground.random)),
        server.methods,
    )
    showing = CityShowing(store=store.logs, epochs=ground.epochs, keys=epoch_keys, clock=clock)
    transparency_pb2_grpc.add_TransparencyServiceServicer_to_server(
        TransparencyServicer(Transparency(database=database, store=store.logs, showing=showing)), server.methods
    )
