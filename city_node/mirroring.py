"""The city's mirror of the registry's log, put together."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Final

from city_node.ground import Ground
from city_node.mirror import Mirror, RegistryHistory
from city_node.store import EpochKey
from city_node.vectors import VectorCheck
from elicense.auditor.joining import Joining
from elicense.client.transparency import LogClient
from elicense.log.model import LogKey
from elicense.log.verifier_key import parse_vkey
from elicense.v1 import recovery_pb2_grpc
from elicense.verification.head_evidence import HeadEvidence, NoteStatement

if TYPE_CHECKING:
    import grpc


REGISTRY_LOG_HEALTH: Final = "elicense.registry-log"
"""Name by which the health service tells whether the registry's log is sound as this city sees it."""

_COMPARE_SECONDS: Final = 10.0


def mirror_of_registry(
    ground: Ground,
    upstream: grpc.aio.Channel,
    *,
    epoch_keys: Mapping[int, EpochKey],
    compare: Callable[[float], Awaitable[None]],
    say_sound: Callable[[bool], Awaitable[None]],
) -> Mirror:
    """Return what keeps the mirror.

    Args:
        ground: What the node stands on.
        upstream: Channel to the registry.
        epoch_keys: Keys of the city's log, by epoch.
        compare: Compares the city's database with its witnesses, in so many seconds.
        say_sound: Says by the health service whether the registry's log is what it should be.
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
        vectors=VectorCheck(
            database=ground.database,
            logs=ground.store.logs,
            city=ground.city,
            registry_key=history.key,
            own_keys=lambda: [ground.keys.cosigner, *(parse_vkey(key.log_key) for key in epoch_keys.values())],
            gate=ground.gate,
            compare=lambda: compare(_COMPARE_SECONDS),
            folder=ground.config.evidence_dir,
            metrics=ground.metrics,
        ),
        say_sound=say_sound,
        folder=ground.config.evidence_dir,
        interval_s=ground.config.limits.heartbeat_seconds,
        metrics=ground.metrics,
    )
