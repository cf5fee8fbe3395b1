"""Enrolment over the wire: a token and requests go in, certificates that work come out."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import pytest
from sqlalchemy import MetaData

from elicense.clock import SECOND_US, utc_micros
from elicense.errors import (
    CallerNotAllowed,
    CheckpointInvalid,
    CsrInvalid,
    Error,
    Malformed,
    SignatureInvalid,
    TokenExpired,
    TokenSpent,
    Unauthenticated,
)
from elicense.log.checkpoint import Checkpoint, log_verifier_key, sign_checkpoint
from elicense.log.tree import EMPTY_ROOT
from elicense.log.verifier_key import format_vkey
from elicense.rpc.enrollment_service import EnrollmentServicer
from elicense.rpc.errors import from_rpc_error
from elicense.sql.database import Database
from elicense.sql.schema import create_tables
from elicense.trust.credentials import Credentials, make_credentials
from elicense.trust.csr import build_request
from elicense.trust.enrollment import Enrollment, NewCity, NodeKeys, city_log_origin
from elicense.trust.roles import city_policy
from elicense.trust.signer import generate_key_file
from elicense.trust.store import TrustStore, define_trust_tables
from elicense.trust.token import format_token, parse_token
from elicense.trust.x509 import from_der, generate_key, verify_chain
from elicense.v1 import enrollment_pb2, enrollment_pb2_grpc
from tests.support.authority import DAY_US, TRUST_DOMAIN, TestAuthority, spiffe
from tests.support.node import TestNode

ORIGIN = city_log_origin(TRUST_DOMAIN, 320500, 1)


@dataclass
class Desk:
    """A node that enrols, with its table in a real database."""

    node: TestNode
    database: Database
    store: TrustStore
    enrollment: Enrollment
    cities: list[NewCity] = field(default_factory=list)

    async def token(self, path: str, **how: Any) -> Credentials:
        token = await self.enrollment.create_token(
            subject=spiffe(path), address=self.node.address, issued_by="spiffe://elicense.test/operator/wang", **how
        )
        return parse_token(format_token(token)).credentials()

    async def enroll(
        self, credentials: Credentials, request: enrollment_pb2.EnrollRequest
    ) -> enrollment_pb2.EnrollResponse:
        async with self.node.channel(credentials) as channel:
            stub = enrollment_pb2_grpc.EnrollmentServiceStub(channel)
            try:
                response: enrollment_pb2.EnrollResponse = await stub.Enroll(request, timeout=10)
            except grpc.aio.AioRpcError as error:
                raise from_rpc_error(error) from error
            return response


@asynccontextmanager
async def enrolling(pki: TestAuthority, folder: Path, *, city: int | None = None) -> AsyncIterator[Desk]:
    url = f"sqlite:///{folder / 'trust.db'}"
    metadata = MetaData()
    store = TrustStore(define_trust_tables(metadata))
    create_tables(url, metadata)
    database = Database(url)
    if city is None:
        node = TestNode(pki, folder / "node")
    else:
        node = TestNode(pki, folder / "node", policy=city_policy(city), name=f"/city/{city}")
    cities: list[NewCity] = []
    enrollment = Enrollment(
        database=database,
        store=store,
        authority=pki.registry if city is None else pki.city(city),
        node=node.id,
        root=pki.root.certificate,
        clock=node.clock,
        random=secrets.token_bytes,
        keys=NodeKeys("registry-log-key", "registry-cosigner-key", b"s" * 32) if city is None else None,
        on_city=lambda _, new: bool(cities.append(new)),  # type: ignore[func-returns-value]
    )
    node.read_table = lambda fingerprints: database.read(lambda c: store.active(c, fingerprints))

    def add(server: grpc.aio.Server) -> None:
        enrollment_pb2_grpc.add_EnrollmentServiceServicer_to_server(EnrollmentServicer(enrollment), server)

    try:
        async with node.running(add):
            yield Desk(node, database, store, enrollment, cities)
    finally:
        database.close()


@pytest.fixture
async def desk(pki: TestAuthority, tmp_path: Path) -> AsyncIterator[Desk]:
    async with enrolling(pki, tmp_path) as running:
        yield running


def clerk_request() -> enrollment_pb2.EnrollRequest:
    return enrollment_pb2.EnrollRequest(tls_csr=build_request(generate_key()))


@pytest.fixture
def city_request(tmp_path: Path) -> enrollment_pb2.EnrollRequest:
    signer = generate_key_file(tmp_path / "log-key.pem")
    return enrollment_pb2.EnrollRequest(
        tls_csr=build_request(generate_key(), dns_names=("node.suzhou.example",)),
        authority_csr=build_request(generate_key()),
        log_verifier_key=format_vkey(log_verifier_key(ORIGIN, signer.public_key())),
        log_possession_note=sign_checkpoint(Checkpoint(ORIGIN, 0, EMPTY_ROOT), signer),
    )


async def test_a_verifier_joins_with_a_token_and_is_in_force_at_once(pki: TestAuthority, desk: Desk) -> None:
    key = generate_key()
    request = enrollment_pb2.EnrollRequest(tls_csr=build_request(key, dns_names=("registry.elicense.test",)))
    response = await desk.enroll(await desk.token("/verifier/police/suzhou"), request)
    chain = [from_der(der) for der in response.tls_chain]
    assert response.subject == "spiffe://elicense.test/verifier/police/suzhou"
    assert str(verify_chain(chain, pki.root.certificate, at_us=utc_micros())) == response.subject
    assert not response.authority_chain
    assert not response.subject_key
    assert "registry.elicense.test" not in str(chain[0].extensions)
    joined = make_credentials(key=key, chain=chain, root=pki.root.certificate, server_name="registry.elicense.test")
    with pytest.raises(CallerNotAllowed):  # known, and no enrollee any more
        await desk.enroll(joined, request)


async def test_a_city_joins_with_its_own_authority_and_log_key(
    pki: TestAuthority, desk: Desk, city_request: enrollment_pb2.EnrollRequest
) -> None:
    response = await desk.enroll(await desk.token("/city/320500"), city_request)
    authority = [from_der(der) for der in response.authority_chain]
    assert authority[0].subject.rfc4514_string().startswith("CN=authority/city/320500")
    assert len(response.tls_chain) == len(response.authority_chain) == 2
    assert (response.registry_log_key, response.registry_cosigner_key) == ("registry-log-key", "registry-cosigner-key")
    assert response.subject_key == b"s" * 32
    assert [(c.city, c.log_verifier_key) for c in desk.cities] == [(320500, city_request.log_verifier_key)]
    names = str(from_der(response.tls_chain[0]).extensions)
    assert "city-320500.elicense.test" in names
    assert "node.suzhou.example" in names


async def test_the_same_request_may_be_repeated_and_another_may_not(
    desk: Desk, city_request: enrollment_pb2.EnrollRequest
) -> None:
    token = await desk.token("/city/320500")
    first = await desk.enroll(token, city_request)
    assert await desk.enroll(token, city_request) == first
    assert len(desk.cities) == 1
    other = enrollment_pb2.EnrollRequest()
    other.CopyFrom(city_request)
    other.tls_csr = build_request(generate_key())
    with pytest.raises(TokenSpent):
        await desk.enroll(token, other)


async def test_an_old_token_says_that_it_is_too_old(desk: Desk) -> None:
    desk.node.now_us = utc_micros()
    token = await desk.token("/operator/zhou", lifetime_us=60 * SECOND_US)
    request = clerk_request()
    desk.node.now_us += 60 * SECOND_US
    with pytest.raises(TokenExpired):
        await desk.enroll(token, request)


async def test_a_failed_attempt_does_not_spend_the_token(desk: Desk) -> None:
    token = await desk.token("/operator/zhou")
    with pytest.raises(CsrInvalid):
        await desk.enroll(token, enrollment_pb2.EnrollRequest(tls_csr=b"no"))
    await desk.enroll(token, clerk_request())


async def test_a_token_that_was_never_made_is_worth_nothing(pki: TestAuthority, desk: Desk) -> None:
    forged = pki.issue(f"/enrollee/{'00' * 16}", node=desk.node.id)
    await desk.database.write(lambda c: desk.store.add(c, forged.row, issued_us=0, issued_by="test"))
    with pytest.raises(Unauthenticated):
        await desk.enroll(forged.credentials, clerk_request())


async def test_a_revoked_token_is_worth_nothing(desk: Desk) -> None:
    token = await desk.token("/operator/zhou")
    subject = str(token.subject)
    assert await desk.database.write(lambda c: desk.store.revoke_subject(c, subject)) == 1
    with pytest.raises(Unauthenticated):
        await desk.enroll(token, clerk_request())


def without(name: str) -> Callable[[enrollment_pb2.EnrollRequest], None]:
    return lambda request: request.ClearField(name)


def with_key_of(other: str) -> Callable[[enrollment_pb2.EnrollRequest], None]:
    def change(request: enrollment_pb2.EnrollRequest) -> None:
        request.log_verifier_key = format_vkey(log_verifier_key(other, bytes(range(32))))

    return change


def with_the_same_key(request: enrollment_pb2.EnrollRequest) -> None:
    request.authority_csr = request.tls_csr


def with_the_registrys_name(request: enrollment_pb2.EnrollRequest) -> None:
    request.tls_csr = build_request(generate_key(), dns_names=("registry.elicense.test",))


@pytest.mark.parametrize(
    ("change", "error"),
    [
        (without("authority_csr"), Malformed),
        (without("log_verifier_key"), Malformed),
        (without("log_possession_note"), Malformed),
        (with_key_of(city_log_origin(TRUST_DOMAIN, 510100, 1)), Malformed),
        (with_key_of(city_log_origin(TRUST_DOMAIN, 320500, 2)), Malformed),
        (with_key_of(ORIGIN), SignatureInvalid),
        (with_the_same_key, CsrInvalid),
        (with_the_registrys_name, CsrInvalid),
    ],
)
async def test_a_city_must_send_what_makes_a_city(
    desk: Desk,
    city_request: enrollment_pb2.EnrollRequest,
    change: Callable[[enrollment_pb2.EnrollRequest], None],
    error: type[Error],
) -> None:
    change(city_request)
    with pytest.raises(error):
        await desk.enroll(await desk.token("/city/320500"), city_request)
    assert desk.cities == []


async def test_the_possession_note_is_over_the_empty_log(
    desk: Desk, city_request: enrollment_pb2.EnrollRequest, tmp_path: Path
) -> None:
    signer = generate_key_file(tmp_path / "other-key.pem")
    city_request.log_verifier_key = format_vkey(log_verifier_key(ORIGIN, signer.public_key()))
    city_request.log_possession_note = sign_checkpoint(Checkpoint(ORIGIN, 1, bytes(32)), signer)
    with pytest.raises(CheckpointInvalid):
        await desk.enroll(await desk.token("/city/320500"), city_request)


async def test_only_cities_send_what_makes_a_city(desk: Desk, city_request: enrollment_pb2.EnrollRequest) -> None:
    with pytest.raises(Malformed) as caught:
        await desk.enroll(await desk.token("/operator/zhou"), city_request)
    assert {v.field for v in caught.value.violations} == {
        "authority_csr",
        "log_verifier_key",
        "log_possession_note",
    }


@pytest.mark.parametrize(
    "path", ["/clerk/320500/li", "/city/320500/verifier/police/p", "/registry", f"/enrollee/{'00' * 16}"]
)
async def test_the_registry_enrols_no_ones_people_but_its_own(desk: Desk, path: str) -> None:
    with pytest.raises(CallerNotAllowed):
        await desk.token(path)


async def test_a_city_enrols_its_own_clerks_and_verifiers(pki: TestAuthority, tmp_path: Path) -> None:
    async with enrolling(pki, tmp_path, city=320500) as desk:
        for path in ("/clerk/320500/li", "/city/320500/verifier/police/p"):
            response = await desk.enroll(await desk.token(path), clerk_request())
            assert response.subject == f"spiffe://elicense.test{path}"
            assert len(response.tls_chain) == 3
        for path in ("/clerk/510100/li", "/city/510100/verifier/police/p", "/verifier/police/p", "/operator/zhou"):
            with pytest.raises(CallerNotAllowed):
                await desk.token(path)


async def test_nothing_outlives_the_authority_that_signed_it(tmp_path: Path) -> None:
    pki = TestAuthority(lifetime_us=10 * DAY_US)
    async with enrolling(pki, tmp_path) as desk:
        response = await desk.enroll(await desk.token("/operator/zhou"), clerk_request())
        leaf = from_der(response.tls_chain[0])
    assert leaf.not_valid_after_utc <= pki.registry.certificate.not_valid_after_utc


async def test_a_token_that_leaked_is_void_once_its_subject_is_revoked(desk: Desk) -> None:
    credentials = await desk.token("/operator/zhou")
    desk.database.write_now(lambda c: desk.store.revoke_subject(c, str(spiffe("/operator/zhou"))))
    with pytest.raises(TokenExpired):
        await desk.enroll(credentials, enrollment_pb2.EnrollRequest(tls_csr=build_request(generate_key())))


async def test_no_token_is_made_for_more_than_thirty_days(desk: Desk) -> None:
    await desk.token("/operator/zhou", lifetime_us=30 * DAY_US)
    with pytest.raises(Malformed):
        await desk.token("/operator/zhou", lifetime_us=30 * DAY_US + 1)
