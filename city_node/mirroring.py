"""The city's mirror of the registry's log, put together."""

from __future__ import annotations

from typing import TYPE_CHECKING

from city_node.ground import Ground
from city_node.mirror import Mirror, RegistryHistory
from elicense.auditor.joining import Joining
from elicense.client.transparency import LogClient
from elicense.log.model import LogKey
from elicense.log.verifier_key import parse_vkey
from elicense.v1 import recovery_pb2_grpc
from elicense.verification.head_evidence import HeadEvidence, NoteStatement

if TYPE_CHECKING:
    import grpc


def mirror_of_registry(ground: Ground, upstream: grpc.aio.Channel) -> Mirror:
    """Return what keeps the mirror.

    Args:
        ground: What the node stands on.
        upstream: Channel to the registry.
    """
    history = RegistryHistory(parse_vkey(ground.config.city.registry_log_key))

    def witnesses(key: LogKey, first: bytes, second: bytes) -> HeadEvidence | None:
        with LogClient(ground.keys.credentials, address=ground.config.city.registry_address) as node:
            alarm = Joining(node, [history.key(key.epoch)]).join(key, NoteStatement(first), NoteStatement(second))
        return None if alarm is None else alarm.evidence

    return Mirror(
        database=ground.database,
        logs=ground.store.logs,
        history=history,
        stub=recovery_pb2_grpc.RecoveryServiceStub(upstream),
        witnesses=witnesses,
        folder=ground.config.evidence_dir,
        interval_s=ground.config.limits.heartbeat_seconds,
        metrics=ground.metrics,
    )
