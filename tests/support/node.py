"""A node's server with servicers of the test's choice: real gRPC, real TLS, any free port."""

from __future__ import annotations

import io
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
from prometheus_client import CollectorRegistry

from elicense.clock import utc_micros
from elicense.rpc.active import ActiveCertificates
from elicense.rpc.call_metrics import RpcMetrics
from elicense.rpc.channel import secure_channel
from elicense.rpc.forwarding import Forwarder
from elicense.rpc.interceptor import NodeInterceptor
from elicense.rpc.server import ListenOptions, NodeServer, ReloadingCredentials
from elicense.rpc.telemetry import LineWriter
from elicense.trust.credentials import Credentials
from elicense.trust.roles import Policy, registry_policy
from elicense.trust.spiffe import ActiveCertificate
from tests.support.authority import Issued, TestAuthority, spiffe

ReadTable = Callable[[Sequence[bytes]], Awaitable[Mapping[bytes, ActiveCertificate]]]


class TestNode:
    """A node under test; its table of certificates and its clock are the test's.

    Args:
        pki: Where the node's own certificate comes from.
        folder: Where its credentials are kept.
        policy: Who may call it; the registry's by default.
        name: Path of its SPIFFE ID.
    """

    __test__ = False

    def __init__(
        self,
        pki: TestAuthority,
        folder: Path,
        *,
        policy: Policy | None = None,
        name: str = "/registry",
        reflection: bool = False,
        options: ListenOptions | None = None,
        forwarder: Forwarder | None = None,
    ) -> None:
        self.pki = pki
        self.id = spiffe(name)
        self.folder = pki.issue(name).save(folder)
        self.rows: dict[bytes, ActiveCertificate] = {}
        self.read_table: ReadTable | None = None
        self.now_us: int | None = None
        self.registry = CollectorRegistry()
        self.log = io.StringIO()
        self._writer = LineWriter(self.log)
        self.certificates = ActiveCertificates(fetch=self._fetch, clock=self.clock)
        self.credentials = ReloadingCredentials(self.folder)
        self._interceptor = NodeInterceptor(
            policy=policy or registry_policy(),
            certificates=self.certificates,
            metrics=RpcMetrics(self.registry),
            log=self._writer,
            clock=self.clock,
            forwarder=forwarder,
        )
        self.server = NodeServer(
            credentials=self.credentials,
            interceptor=self._interceptor,
            services=["elicense.v1.VerificationService"],
            options=options or ListenOptions("127.0.0.1:0", reflection=reflection),
        )
        self.port = 0

    def clock(self) -> int:
        return utc_micros() if self.now_us is None else self.now_us

    async def _fetch(self, fingerprints: Sequence[bytes]) -> Mapping[bytes, ActiveCertificate]:
        if self.read_table is not None:
            return await self.read_table(fingerprints)
        return {f: self.rows[f] for f in fingerprints if f in self.rows}

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def admit(self, path: str, **how: Any) -> Issued:
        """Credentials for ``path`` that are in force here."""
        issued = self.pki.issue(path, address=self.address, node=self.id, **how)
        self.rows[issued.row.fingerprint] = issued.row
        return issued

    @asynccontextmanager
    async def running(self, *add: Callable[[Any], None]) -> AsyncIterator[TestNode]:
        for servicer in add:
            servicer(self.server.methods)
        self.port = await self.server.start()
        try:
            yield self
        finally:
            await self.server.drain(5)
            await self.certificates.close()
            self._writer.close()

    @asynccontextmanager
    async def channel(self, who: Issued | Credentials | str, **options: Any) -> AsyncIterator[grpc.aio.Channel]:
        """A connection of its own as somebody, or as a caller who is admitted first."""
        if isinstance(who, str):
            who = self.admit(who)
        credentials = who.credentials if isinstance(who, Issued) else who
        async with secure_channel(
            credentials,
            address=self.address,
            server_name=options.pop("server_name", None),
            retries=False,
            local_pool=True,
            **options,
        ) as channel:
            yield channel

    async def all_ended(self) -> None:
        """Return once every call is counted and logged, but for health checks.

        A caller may hear that its call failed before that.
        """
        await self._interceptor.idle()

    def lines(self) -> list[dict[str, Any]]:
        """What the node has logged so far."""
        self._writer.flush()
        return [json.loads(line) for line in self.log.getvalue().splitlines()]
