"""How a process listens, whom it lets in and what it passes on, by its place."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from elicense.rpc.active import ActiveCertificates
from elicense.rpc.call_metrics import RpcMetrics
from elicense.rpc.forwarding import Forwarder
from elicense.rpc.interceptor import NodeInterceptor
from elicense.rpc.server import ListenOptions, NodeServer, ReloadingCredentials
from elicense.rpc.serving_metrics import ServingMetrics
from elicense.rpc.telemetry import LineWriter
from elicense.sql.database import Database
from elicense.trust.roles import Policy
from elicense.trust.store import TrustStore
from elicense.workers.place import Place

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

    from elicense.trust.spiffe import ActiveCertificate

KEPT: Final = ("/elicense.v1.VerificationService/", "/grpc.")
"""What a process that only verifies answers itself: verifications, health and reflection."""


class Listening:
    """The server of one process of a node, and what stands before its handlers.

    Args:
        services: Full names of the services that will be added.
        address: The configured address, host:port.
        credentials: Folder of the node's TLS credentials.
        policy: Who may call what.
        database: Where the certificates in force are.
        trust: Their tables.
        metrics: Where calls are counted.
        log: Where one line a call goes; None for nowhere.
        clock: UTC microseconds.
        place: Which of the node's processes this is.

    Attributes:
        certificates: Which certificates are in force.
        forwarder: Passes calls on to the process that writes; None in that one.
        server: The server.

    Raises:
        NotFound: A certificate or its key is missing.
        Malformed: One can not be used.
    """

    def __init__(
        self,
        *,
        services: Sequence[str],
        address: str,
        credentials: Path,
        policy: Policy,
        database: Database,
        trust: TrustStore,
        metrics: CollectorRegistry,
        log: LineWriter | None,
        clock: Callable[[], int],
        place: Place,
    ) -> None:
        async def active(fingerprints: Sequence[bytes]) -> Mapping[bytes, ActiveCertificate]:
            return await database.read(lambda conn: trust.active(conn, fingerprints))

        self.certificates = ActiveCertificates(fetch=active, clock=clock)
        self.forwarder = _forwarder_of(place)
        self.server = NodeServer(
            credentials=ReloadingCredentials(credentials),
            interceptor=NodeInterceptor(
                policy=policy,
                certificates=self.certificates,
                metrics=RpcMetrics(metrics),
                log=log,
                clock=clock,
                forwarder=self.forwarder,
            ),
            services=services,
            options=_options(place, address),
        )
        ServingMetrics(self.server.health, metrics)


def _options(place: Place, address: str) -> ListenOptions:
    return ListenOptions(
        (place.listen or address) if place.listens else "",
        socket=place.socket if place.writes else None,
        reuse_port=place.shares,
        reflection=True,
    )


def _forwarder_of(place: Place) -> Forwarder | None:
    return None if place.writes or place.socket is None else Forwarder(place.socket, kept=KEPT)
