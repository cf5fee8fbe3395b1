"""What stands before every handler (certificate, role, city, shape) and what comes after it (status, log, counts)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any

import grpc
import pytest

from elicense.clock import SECOND_US, utc_micros
from elicense.errors import (
    CallerNotAllowed,
    Error,
    Malformed,
    NotFound,
    PeerUnreachable,
    SequenceGap,
    StoreUnavailable,
    Unauthenticated,
)
from elicense.rpc.context import current_caller
from elicense.rpc.errors import INTERNAL_TEXT, from_rpc_error
from elicense.trust.roles import Policy, Role, city_policy, registry_policy
from elicense.trust.x509 import Validity
from elicense.v1 import license_pb2, verification_pb2, verification_pb2_grpc
from tests.support.authority import DAY_US, TestAuthority
from tests.support.node import TestNode

VERIFY = "/elicense.v1.VerificationService/VerifyLicense"
GOOD = verification_pb2.VerifyLicenseRequest(
    query=verification_pb2.LicenseQuery(
        document=license_pb2.IdentityDocument(type=license_pb2.DOCUMENT_TYPE_RESIDENT_ID, number="320501199001011234")
    ),
    context=verification_pb2.LookContext(purpose=verification_pb2.PURPOSE_ROADSIDE_CHECK, case_number="c-1"),
)
BAD = verification_pb2.VerifyLicenseRequest(query=verification_pb2.LicenseQuery())

Answer = Callable[[], Awaitable[None]]


class Servicer(verification_pb2_grpc.VerificationServiceServicer):
    """Does what the test says and answers with the caller's SPIFFE ID."""

    def __init__(self, behave: Answer | None = None) -> None:
        self.behave = behave
        self.calls = 0

    async def VerifyLicense(  # noqa: N802 - the name of the RPC
        self, request: Any, context: Any
    ) -> verification_pb2.VerifyLicenseResponse:
        self.calls += 1
        if self.behave is not None:
            await self.behave()
        verdict = verification_pb2.Verdict(summary=str(current_caller().spiffe_id))
        return verification_pb2.VerifyLicenseResponse(verdict=verdict)


def serving(servicer: Servicer) -> Callable[[grpc.aio.Server], None]:
    return partial(verification_pb2_grpc.add_VerificationServiceServicer_to_server, servicer)


def stub_of(channel: grpc.aio.Channel | grpc.Channel) -> Any:
    return verification_pb2_grpc.VerificationServiceStub(channel)


async def ask(channel: grpc.aio.Channel, request: Any = GOOD, **options: Any) -> str:
    """The caller that the node saw; raises the error of the domain."""
    try:
        response = await stub_of(channel).VerifyLicense(request, timeout=10, **options)
    except grpc.aio.AioRpcError as error:
        raise from_rpc_error(error) from error
    return str(response.verdict.summary)


@pytest.fixture
def servicer() -> Servicer:
    return Servicer()


@pytest.fixture
async def node(pki: TestAuthority, tmp_path: Path, servicer: Servicer) -> AsyncIterator[TestNode]:
    async with TestNode(pki, tmp_path / "node").running(serving(servicer)) as running:
        yield running


async def test_a_caller_with_an_active_certificate_is_known_by_name(node: TestNode) -> None:
    async with node.channel("/verifier/police/suzhou") as channel:
        assert await ask(channel) == "spiffe://elicense.test/verifier/police/suzhou"


async def test_a_certificate_of_another_root_gets_nothing(node: TestNode, servicer: Servicer) -> None:
    stranger = TestAuthority().issue("/verifier/police/suzhou", node=node.id)
    node.rows[stranger.row.fingerprint] = stranger.row
    own_root = type(stranger.credentials)(
        subject=stranger.credentials.subject,
        address="",
        server_name=stranger.credentials.server_name,
        key_pem=stranger.credentials.key_pem,
        chain_pem=stranger.credentials.chain_pem,
        root_pem=node.credentials.current.root_pem,
    )
    for credentials in (stranger.credentials, own_root):
        async with node.channel(credentials) as channel:
            with pytest.raises(PeerUnreachable):
                await ask(channel)
    assert servicer.calls == 0


async def test_no_certificate_gets_nothing(node: TestNode, servicer: Servicer) -> None:
    tls = grpc.ssl_channel_credentials(node.credentials.current.root_pem)
    options = [("grpc.ssl_target_name_override", "registry.elicense.test"), ("grpc.enable_retries", 0)]
    async with grpc.aio.secure_channel(node.address, tls, options=options) as channel:
        with pytest.raises(PeerUnreachable):
            await ask(channel)
    async with grpc.aio.insecure_channel(node.address) as channel:
        with pytest.raises(PeerUnreachable):
            await ask(channel)
    assert servicer.calls == 0


async def test_a_good_certificate_that_is_not_in_the_table_gets_nothing(node: TestNode, servicer: Servicer) -> None:
    async with node.channel(node.pki.issue("/verifier/police/suzhou", node=node.id)) as channel:
        with pytest.raises(Unauthenticated):
            await ask(channel)
    assert servicer.calls == 0


async def test_a_certificate_that_says_more_than_its_row_gets_nothing(node: TestNode, servicer: Servicer) -> None:
    police = node.pki.issue("/verifier/police/suzhou", node=node.id)
    rental = node.pki.issue("/verifier/rental/acme")
    node.rows[police.row.fingerprint] = rental.row
    async with node.channel(police) as channel:
        with pytest.raises(Unauthenticated):
            await ask(channel)
    assert servicer.calls == 0


async def test_a_city_can_not_vouch_for_callers_of_the_registry(node: TestNode) -> None:
    forged = node.pki.issue("/operator/wang", node=node.id, authority=node.pki.city(320500))
    async with node.channel(forged) as channel:
        with pytest.raises(Unauthenticated):
            await ask(channel)


async def test_a_city_can_not_stand_in_for_the_registrys_server(pki: TestAuthority, tmp_path: Path) -> None:
    node = TestNode(pki, tmp_path / "node")
    pki.issue("/registry", authority=pki.city(320500)).save(tmp_path / "node")
    async with node.running(serving(Servicer())), node.channel("/verifier/police/suzhou") as channel:
        with pytest.raises(PeerUnreachable):
            await ask(channel)


async def test_a_client_refuses_a_server_of_another_name(node: TestNode) -> None:
    async with node.channel("/verifier/police/suzhou", server_name="city-320500.elicense.test") as channel:
        with pytest.raises(PeerUnreachable):
            await ask(channel)


async def test_the_wrong_role_is_refused_before_the_request_is_looked_at(node: TestNode, servicer: Servicer) -> None:
    async with node.channel("/operator/wang") as channel:
        with pytest.raises(CallerNotAllowed) as caught:
            await ask(channel, BAD)
        assert caught.value.metadata == {"role": "operator"}
        raw: Any = channel.unary_unary(VERIFY)
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await raw(b"\xff\xff\xff", timeout=10)
        assert refused.value.code() is grpc.StatusCode.PERMISSION_DENIED
    assert servicer.calls == 0


async def test_a_city_node_serves_its_own_verifiers_alone(pki: TestAuthority, tmp_path: Path) -> None:
    node = TestNode(pki, tmp_path, policy=city_policy(320500), name="/city/320500")
    city = pki.city(320500)
    async with node.running(serving(Servicer())):
        async with node.channel(node.admit("/city/320500/verifier/police/p1", authority=city)) as channel:
            assert await ask(channel) == "spiffe://elicense.test/city/320500/verifier/police/p1"
        for path in ("/city/510100/verifier/police/p1", "/verifier/police/p1"):
            async with node.channel(path) as channel:
                with pytest.raises(CallerNotAllowed):
                    await ask(channel)


async def test_a_method_that_is_not_listed_does_not_run(pki: TestAuthority, tmp_path: Path) -> None:
    methods = {name: roles for name, roles in registry_policy().methods.items() if name != VERIFY}
    servicer = Servicer()
    async with TestNode(pki, tmp_path, policy=Policy(methods=methods)).running(serving(servicer)) as node:
        for role in ("/verifier/police/p", "/operator/wang", "/city/320500"):
            async with node.channel(role) as channel:
                with pytest.raises(CallerNotAllowed):
                    await ask(channel)
    assert servicer.calls == 0


async def test_a_revoked_certificate_is_refused_within_the_cache_time(node: TestNode) -> None:
    node.now_us = utc_micros()
    police = node.admit("/verifier/police/suzhou")
    async with node.channel(police) as channel:
        await ask(channel)
        node.rows.clear()
        node.now_us += SECOND_US
        with pytest.raises(Unauthenticated):
            await ask(channel)


async def test_a_connection_does_not_outlive_its_certificate(node: TestNode) -> None:
    node.now_us = utc_micros()
    police = node.admit("/verifier/police/suzhou", validity=Validity.starting(node.now_us, DAY_US))
    async with node.channel(police) as channel:
        await ask(channel)
        node.now_us += 2 * DAY_US
        with pytest.raises(Unauthenticated, match="expired"):
            await ask(channel)


async def test_the_table_has_the_last_word_on_the_role(node: TestNode) -> None:
    node.now_us = utc_micros()
    police = node.admit("/verifier/police/suzhou")
    async with node.channel(police) as channel:
        await ask(channel)
        row = police.row
        demoted = type(row)(row.fingerprint, row.subject, Role.AUDITOR, None, row.not_after_us)
        node.rows[row.fingerprint] = demoted
        node.now_us += SECOND_US
        with pytest.raises(CallerNotAllowed):
            await ask(channel)


async def test_a_malformed_request_names_every_field(node: TestNode, servicer: Servicer) -> None:
    async with node.channel("/verifier/police/suzhou") as channel:
        with pytest.raises(Malformed) as caught:
            await ask(channel, BAD)
        assert {v.field for v in caught.value.violations} == {"query.document", "context"}
        raw: Any = channel.unary_unary(VERIFY)
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await raw(b"\xff\xff\xff", timeout=10)
        assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert servicer.calls == 0


@pytest.mark.parametrize(
    "error",
    [
        NotFound("No such thing.", name="x"),
        SequenceGap("Send from there.", expectedIndex=17),
        StoreUnavailable("Try again."),
        Malformed("Wrong."),
    ],
)
async def test_an_error_arrives_as_the_class_that_was_raised(node: TestNode, servicer: Servicer, error: Error) -> None:
    async def fail() -> None:
        raise error

    servicer.behave = fail
    async with node.channel("/verifier/police/suzhou") as channel:
        with pytest.raises(type(error)) as caught:
            await ask(channel)
    assert caught.value.message == error.message
    assert caught.value.metadata == error.metadata


async def test_an_unexpected_exception_gives_the_fixed_text_and_nothing_else(
    node: TestNode, servicer: Servicer, capsys: pytest.CaptureFixture[str]
) -> None:
    async def fail() -> None:
        raise ValueError("Li Si 320501199001011234")

    servicer.behave = fail
    async with node.channel("/verifier/police/suzhou") as channel:
        stub = stub_of(channel)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.VerifyLicense(GOOD, timeout=10)
    assert caught.value.code() is grpc.StatusCode.INTERNAL
    assert caught.value.details() == INTERNAL_TEXT
    assert b"Li Si" not in b"".join(v for _, v in caught.value.trailing_metadata() or () if isinstance(v, bytes))
    said = capsys.readouterr()
    assert "ValueError" in said.out
    assert "Li Si" not in f"{said.out}{said.err}{node.lines()}"


async def test_each_call_is_one_line_without_its_contents(node: TestNode) -> None:
    async with node.channel("/verifier/police/suzhou") as channel:
        await ask(channel, metadata=(("x-request-id", "r-1.2_3"),))
        with pytest.raises(Malformed):
            await ask(channel, BAD, metadata=(("x-request-id", 'no"such'),))
    await node.all_ended()
    good, bad = node.lines()
    assert good["method"] == bad["method"] == VERIFY
    assert good["caller"] == "spiffe://elicense.test/verifier/police/suzhou"
    assert (good["code"], good["reason"], good["request_id"]) == ("OK", "", "r-1.2_3")
    assert (bad["code"], bad["reason"], bad["request_id"]) == ("INVALID_ARGUMENT", "MALFORMED", "")
    assert "320501199001011234" not in node.log.getvalue()


async def test_calls_are_counted(node: TestNode) -> None:
    async with node.channel("/verifier/police/suzhou") as channel:
        await ask(channel)
        with pytest.raises(Malformed):
            await ask(channel, BAD)
    await node.all_ended()
    labels = {"grpc_type": "unary", "grpc_service": "elicense.v1.VerificationService", "grpc_method": "VerifyLicense"}
    assert node.registry.get_sample_value("grpc_server_started_total", labels) == 2
    for code in ("OK", "InvalidArgument"):
        assert node.registry.get_sample_value("grpc_server_handled_total", {**labels, "grpc_code": code}) == 1


async def test_a_caller_that_hangs_up_ends_its_call(node: TestNode, servicer: Servicer) -> None:
    begun, ended = asyncio.Event(), asyncio.Event()

    async def wait() -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    servicer.behave = wait
    async with node.channel("/verifier/police/suzhou") as channel:
        call = asyncio.create_task(ask(channel))
        await begun.wait()
        call.cancel()
        await ended.wait()
        with pytest.raises(asyncio.CancelledError):
            await call
    await node.all_ended()
    assert node.lines()[-1]["code"] == "CANCELLED"


async def test_every_call_sees_its_own_caller(node: TestNode) -> None:
    paths = [f"/verifier/police/p{i}" for i in range(4)]

    async def as_caller(path: str) -> None:
        async with node.channel(path) as channel:
            seen = await asyncio.gather(*(ask(channel) for _ in range(20)))
        assert set(seen) == {f"spiffe://elicense.test{path}"}

    await asyncio.gather(*(as_caller(path) for path in paths))
