"""A node with real TLS, the real interceptor and a scripted verification service."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from elicense.clock import utc_micros
from elicense.errors import Error, ShuttingDown
from elicense.rpc.active import ActiveCertificates
from elicense.rpc.call_metrics import RpcMetrics
from elicense.rpc.context import current_caller
from elicense.rpc.interceptor import NodeInterceptor
from elicense.rpc.server import ListenOptions, NodeServer, ReloadingCredentials
from elicense.rpc.streams import OpenStreams
from elicense.trust.credentials import Credentials
from elicense.trust.roles import registry_policy
from elicense.trust.spiffe import ActiveCertificate, registry_id
from elicense.v1 import verification_pb2 as pb
from elicense.v1 import verification_pb2_grpc
from elicense.verification.look import admit
from tests.support.authority import TRUST_DOMAIN, TestAuthority

VALID_NUMBER = "110101199003078515"


class ScriptedVerification(verification_pb2_grpc.VerificationServiceServicer):
    """Answers with what a test puts here, and keeps what it was asked."""

    def __init__(self) -> None:
        self.verdict = pb.Verdict(outcome=pb.OUTCOME_VALID)
        self.error: Error | None = None
        self.asked: list[pb.LicenseQuery] = []
        self.batches: list[int] = []
        self.streams = 0
        self.streams_ended = 0
        self.chunks_a_stream = 1_000_000

    async def VerifyLicense(self, request: pb.VerifyLicenseRequest, context: Any) -> pb.VerifyLicenseResponse:  # noqa: N802
        admit(current_caller(), request.context, [("query", request.query)])
        return pb.VerifyLicenseResponse(verdict=self._answer([request.query])[0])

    async def BatchVerifyLicenses(  # noqa: N802
        self, request: pb.BatchVerifyLicensesRequest, context: Any
    ) -> pb.BatchVerifyLicensesResponse:
        self.batches.append(len(request.queries))
        return pb.BatchVerifyLicensesResponse(verdicts=self._answer(request.queries))

    async def StreamVerifyLicenses(  # noqa: N802
        self, requests: AsyncIterator[pb.StreamVerifyLicensesRequest], context: Any
    ) -> AsyncIterator[pb.StreamVerifyLicensesResponse]:
        self.streams += 1
        answered = 0
        try:
            async for request in requests:
                if answered == self.chunks_a_stream:
                    raise ShuttingDown("the server ends")
                admit(current_caller(), request.context, [("queries", query) for query in request.queries])
                self.batches.append(len(request.queries))
                yield pb.StreamVerifyLicensesResponse(verdicts=self._answer(request.queries))
                answered += 1
        finally:
            self.streams_ended += 1

    def _answer(self, queries: Sequence[pb.LicenseQuery]) -> list[pb.Verdict]:
        if self.error is not None:
            raise self.error
        self.asked.extend(queries)
        return [self.verdict] * len(queries)


class Node:
    """The running node; credentials for whoever a test needs."""

    def __init__(self, authority: TestAuthority, service: ScriptedVerification) -> None:
        self.authority = authority
        self.service = service
        self.address = ""
        self._active: dict[bytes, ActiveCertificate] = {}

    async def find(self, fingerprints: Sequence[bytes]) -> dict[bytes, ActiveCertificate]:
        return {each: self._active[each] for each in fingerprints if each in self._active}

    def credentials(self, path: str, *, active: bool = True) -> Credentials:
        issued = self.authority.issue(path, address=self.address, node=registry_id(TRUST_DOMAIN))
        if active:
            self._active[issued.row.fingerprint] = issued.row
        return issued.credentials


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[Node]:
    async with running_node(tmp_path, OpenStreams()) as running:
        yield running


@asynccontextmanager
async def running_node(folder: Path, streams: OpenStreams) -> AsyncIterator[Node]:
    """Run a node with these bounds on streams."""
    authority = TestAuthority()
    service = ScriptedVerification()
    node = Node(authority, service)
    own = authority.issue("/registry").save(folder / "node")
    certificates = ActiveCertificates(fetch=node.find, clock=utc_micros)
    server = NodeServer(
        credentials=ReloadingCredentials(own),
        interceptor=NodeInterceptor(
            policy=registry_policy(),
            certificates=certificates,
            metrics=RpcMetrics(CollectorRegistry()),
            log=None,
            clock=utc_micros,
            streams=streams,
        ),
        services=["elicense.v1.VerificationService"],
        options=ListenOptions("127.0.0.1:0"),
    )
    verification_pb2_grpc.add_VerificationServiceServicer_to_server(service, server.methods)
    node.address = f"127.0.0.1:{await server.start()}"
    await server.set_ready()
    yield node
    await server.drain(0.1)
    await certificates.close()
