"""A node's gRPC server: mutual TLS, limits, health, and an orderly end."""

from __future__ import annotations

import asyncio
import gc
import signal
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, cast

import grpc
import structlog
import uvloop
from grpc_health.v1 import _async as health_aio
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection, reflection_pb2_grpc

from elicense.errors import Error, PeerUnreachable
from elicense.rpc.message_size import MESSAGE_SIZE_OPTIONS
from elicense.rpc.methods import Methods
from elicense.rpc.watch_hub import MAX_WATCHES
from elicense.trust.credentials import CHAIN_FILE, KEY_FILE, ROOT_FILE, Credentials, load_credentials

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Sequence
    from pathlib import Path

    from elicense.rpc.interceptor import NodeInterceptor

DRAIN_GRACE_S: Final = 20.0
"""How long running calls may take once the server is to end; below the 30 s after which Kubernetes kills."""

SETTLE_S: Final = 0.25
"""How long answers may take to leave once the last handler has ended."""

_OBJECTS_PER_COLLECTION: Final = 50_000

_SWITCH_S: Final = 0.000_5
"""How long a thread at work may keep the event loop waiting: every step of every call waits so long for it."""

SERVER_OPTIONS: Final = (
    *MESSAGE_SIZE_OPTIONS,
    # One connection may not take the whole server.
    ("grpc.max_concurrent_streams", 1024),
    ("grpc.max_metadata_size", 16 * 1024),
    # Live connections keep the certificate of their handshake; their age bounds a rotation,
    # and lets clients find new servers.
    ("grpc.max_connection_age_ms", 30 * 60 * 1000),
    ("grpc.max_connection_age_grace_ms", 60 * 1000),
    ("grpc.max_connection_idle_ms", 15 * 60 * 1000),
    ("grpc.keepalive_time_ms", 60 * 1000),
    ("grpc.keepalive_timeout_ms", 20 * 1000),
    # Clients ping every 30 s (see elicense.rpc.channel), calls or not.
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.min_ping_interval_without_data_ms", 20 * 1000),
    ("grpc.server_handshake_timeout_ms", 10 * 1000),
    # A burst beyond 1,000 calls that nobody has taken up yet would be cancelled at random:
    # all who follow licences come at once when a server is back.
    ("grpc.server.max_pending_requests", 8 * 1024),
    ("grpc.server.max_pending_requests_hard_limit", 16 * 1024),
)

_log = structlog.stdlib.get_logger(__name__)


class ReloadingCredentials:
    """Server credentials that follow the files of their folder.

    gRPC asks at every handshake.  As long as no file has changed, or what is there
    can not be used (half of a rotation, say), the last good pair stays.

    Args:
        folder: Folder of :mod:`elicense.trust.credentials`.

    Raises:
        Error: What the folder holds at the start can not be used.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._stamp = self._read_stamp()
        self.current = load_credentials(folder)
        self.failures = 0

    def server_credentials(self) -> grpc.ServerCredentials:
        """Return credentials for a port that asks every client for a certificate."""
        credentials: grpc.ServerCredentials = grpc.dynamic_ssl_server_credentials(
            _configuration(self.current),
            # The stubs do not know that None means "unchanged".
            cast("Callable[[], grpc.ServerCertificateConfiguration]", self._fetch),
            require_client_authentication=True,
        )
        return credentials

    def _read_stamp(self) -> tuple[tuple[int, int, int], ...]:
        stats = [(self._folder / name).stat() for name in (KEY_FILE, CHAIN_FILE, ROOT_FILE)]
        return tuple((s.st_mtime_ns, s.st_ino, s.st_size) for s in stats)

    def _fetch(self) -> grpc.ServerCertificateConfiguration | None:
        """Return new credentials, or None to keep the last; runs within a handshake on a thread of gRPC."""
        try:
            stamp = self._read_stamp()
            if stamp == self._stamp:
                return None
            credentials = load_credentials(self._folder)
        except (OSError, Error) as error:
            self.failures += 1
            _log.warning("credentials_not_reloaded", error=type(error).__name__)
            return None
        self._stamp = stamp
        self.current = credentials
        _log.info("credentials_reloaded")
        return _configuration(credentials)


def _configuration(credentials: Credentials) -> grpc.ServerCertificateConfiguration:
    configuration: grpc.ServerCertificateConfiguration = grpc.ssl_server_certificate_configuration(
        [(credentials.key_pem, credentials.chain_pem)], credentials.root_pem
    )
    return configuration


class NodeHealth(health_aio.HealthServicer):  # type: ignore[misc]  # the package has no type hints
    """The standard health service; NOT_SERVING until the node says that it is ready.

    Args:
        services: Full names of the node's services; ``""`` stands for the whole node.
    """

    def __init__(self, services: Sequence[str]) -> None:
        super().__init__()
        self._services = ("", *services)
        self._states = dict.fromkeys(self._services, health_pb2.HealthCheckResponse.NOT_SERVING)
        self._server_status.update(self._states)

    def ready(self) -> dict[str, bool]:
        """Return for each service whether it can do its work."""
        serving = health_pb2.HealthCheckResponse.SERVING
        return {service: status == serving for service, status in dict(self._server_status).items()}

    async def set_ready(self, ready: bool, *, services: Sequence[str] | None = None) -> None:
        """State whether these services (all, by default) can do their work."""
        state = health_pb2.HealthCheckResponse.SERVING if ready else health_pb2.HealthCheckResponse.NOT_SERVING
        for service in self._services if services is None else services:
            await self.set(service, state)

    async def List(self, request: health_pb2.HealthListRequest, context: object) -> health_pb2.HealthListResponse:  # noqa: ARG002, N802 - gRPC's names
        """Return the state of every service; the servicer of the package lacks this call."""
        statuses = {
            service: health_pb2.HealthCheckResponse(status=status) for service, status in self._server_status.items()
        }
        return health_pb2.HealthListResponse(statuses=statuses)


@dataclass(frozen=True, slots=True)
class ListenOptions:
    """How a node listens.

    Attributes:
        address: host:port; port 0 takes any that is free, and an empty text none at all.
        socket: Unix socket on which other processes of this node pass calls on; whoever can open it may read
            the node's keys too, so it asks for no certificate.
        reuse_port: Whether several processes share the port (SO_REUSEPORT).
        reflection: Whether operators may read the service descriptors over the wire.
        max_concurrent_calls: Calls beyond this many are refused with RESOURCE_EXHAUSTED; None for no limit.
            Watches, which have a limit of their own, are among them.
    """

    address: str
    socket: Path | None = None
    reuse_port: bool = False
    reflection: bool = False
    max_concurrent_calls: int | None = 4096 + MAX_WATCHES


class NodeServer:
    """One listening server of a node.

    Add servicers to :attr:`methods`, which leaves no way past the interceptor, with
    the generated ``add_*_to_server`` functions before :meth:`start`.

    Args:
        credentials: The node's TLS credentials.
        interceptor: What stands before every handler.
        services: Full names of the services that will be added, for health and reflection.
        options: How to listen.
    """

    def __init__(
        self,
        *,
        credentials: ReloadingCredentials,
        interceptor: NodeInterceptor,
        services: Sequence[str],
        options: ListenOptions,
    ) -> None:
        self._interceptor = interceptor
        self._credentials = credentials
        self._options = options
        self.health = NodeHealth(services)
        self.methods = Methods(interceptor)
        self._server = grpc.aio.server(
            handlers=[self.methods],
            options=(*SERVER_OPTIONS, ("grpc.so_reuseport", int(options.reuse_port))),
            maximum_concurrent_rpcs=options.max_concurrent_calls,
        )
        health_pb2_grpc.add_HealthServicer_to_server(self.health, self.methods)
        if options.reflection:
            health_name = health_pb2.DESCRIPTOR.services_by_name["Health"].full_name
            names = (*services, health_name, reflection.SERVICE_NAME)
            reflection_pb2_grpc.add_ServerReflectionServicer_to_server(
                reflection.aio.ReflectionServicer(names), self.methods
            )
        self._drained: asyncio.Task[None] | None = None

    async def start(self) -> int:
        """Listen and return the port; health stays NOT_SERVING until :meth:`set_ready`.

        Raises:
            PeerUnreachable: The address can not be listened on.
        """
        options, port = self._options, 0
        try:
            if options.address:
                port = self._server.add_secure_port(options.address, self._credentials.server_credentials())
            if options.socket is not None:
                # One that was killed left it behind.
                options.socket.unlink(missing_ok=True)
                local = grpc.local_server_credentials(grpc.LocalConnectionType.UDS)
                self._server.add_secure_port(f"unix:{options.socket}", local)
        except RuntimeError as error:
            raise PeerUnreachable(f"{options.address} can not be listened on; is it in use?") from error
        await self._server.start()
        return port

    @property
    def running(self) -> int:
        """Calls being handled now; health checks do not count."""
        return self._interceptor.running

    async def set_ready(self, ready: bool = True) -> None:
        """State whether the node can do its work."""
        await self.health.set_ready(ready)

    async def drain(self, grace_s: float = DRAIN_GRACE_S) -> None:
        """End in order: say NOT_SERVING, take no new call, let running ones finish, cut off what is left.

        Streams of health watchers do not hold the end up.
        """
        if self._drained is None:
            self._drained = asyncio.create_task(self._drain(grace_s))
        await asyncio.shield(self._drained)

    async def _drain(self, grace_s: float) -> None:
        await self.health.enter_graceful_shutdown()
        self._interceptor.end_streams()
        stopping = asyncio.create_task(self._server.stop(grace_s))
        idle = asyncio.create_task(self._interceptor.idle())
        await asyncio.wait((stopping, idle), return_when=asyncio.FIRST_COMPLETED)
        idle.cancel()
        # The last answers may still be on their way out of the handlers.
        await asyncio.wait((stopping,), timeout=SETTLE_S)
        if not stopping.done():
            # Only health watchers are left: a second stop without grace cuts it short.
            # With a grace of 0 it would wait one turn of the loop first, and if the
            # first stop ends within that turn, grpc cancels calls on a freed server.
            await self._server.stop(None)
        await stopping


def stop_on_signals() -> asyncio.Event:
    """Return an event that SIGTERM and SIGINT set; call it on the running loop."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    return stop


def run(main: Callable[[], Coroutine[Any, Any, int]]) -> int:
    """Run a program on uvloop and return its exit status."""
    # A batch makes tens of thousands of objects that live for a moment.  By default the collector
    # would walk through them, and whatever else there is, every few hundred.
    gc.freeze()
    gc.set_threshold(_OBJECTS_PER_COLLECTION, 20, 20)
    sys.setswitchinterval(_SWITCH_S)
    return uvloop.run(main())
