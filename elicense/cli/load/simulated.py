"""A city that is a key, a certificate and a log in memory: what the registry sees of one, without a node.

It keeps no record that the registry holds, so hundreds fit into one process.
Persons are claimed before their licences are written, as city nodes do.
"""

from __future__ import annotations

import asyncio
import secrets
import uuid
from collections.abc import Iterator
from typing import Final

import grpc
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from google.type.date_pb2 import Date

from elicense.cli.bench.people import name_of, number_of
from elicense.clock import to_timestamp, utc_micros
from elicense.errors import Error, Malformed
from elicense.log.checkpoint import Checkpoint, log_verifier_key, sign_checkpoint
from elicense.log.entry import SALT_SIZE, leaf_hash
from elicense.log.tree import EMPTY_RANGE, EMPTY_ROOT, CompactRange
from elicense.log.verifier_key import format_vkey
from elicense.rpc.channel import DEFAULT_TIMEOUT_S, secure_channel
from elicense.rpc.errors import from_rpc_error
from elicense.trust.credentials import Credentials, make_credentials
from elicense.trust.csr import build_request
from elicense.trust.enrollment import city_log_origin
from elicense.trust.signer import FileSigner
from elicense.trust.spiffe import server_name
from elicense.trust.token import JoinToken
from elicense.trust.x509 import from_der, generate_key
from elicense.v1 import enrollment_pb2, enrollment_pb2_grpc, license_pb2, replication_pb2, replication_pb2_grpc

_EPOCH: Final = 1
_DAY: Final = Date(year=2020, month=1, day=1)


class ClaimLost(Error):
    """Another city holds a person whom this test made up; the registry was used before."""

    reason = "PERSON_HELD_ELSEWHERE"


class SimulatedCity:
    """One city.

    Args:
        code: Division code.
        credentials: Its node's certificate.
        signer: Key of its log.
        people: Ordinals of its people.
    """

    def __init__(self, code: int, credentials: Credentials, signer: FileSigner, people: Iterator[int]) -> None:
        self.code = code
        self._credentials = credentials
        self._signer = signer
        self._people = people
        self._origin = city_log_origin(credentials.subject.trust_domain, code, _EPOCH)
        self._range = EMPTY_RANGE
        self._size = 0
        self._words = 0
        self._signed: tuple[replication_pb2.AppendEntriesRequest, CompactRange] | None = None
        self._turn = asyncio.Lock()
        self._channel: grpc.aio.Channel | None = None

    async def replicate(self, entries: int, timeout_s: float) -> int:
        """Claim that many persons, write their licences and hand them to the registry; one call at a time.

        Raises:
            grpc.RpcError: The registry refused.
            ClaimLost: Another city holds one of the persons.
        """
        async with self._turn:
            stub = self._stub()
            if self._signed is not None:
                # What was signed must be sent: a city that goes on without it has forked its own log.
                await self._deliver(stub, timeout_s)
            numbers = [next(self._people) for _ in range(entries)]
            claims = await stub.ClaimPersons(_claims(numbers), timeout=timeout_s)
            if any(result.held_by_city for result in claims.results):
                raise ClaimLost("a person of this test is held by another city; use a registry of its own")
            records = [
                _record(self.code, number, result.license_id, result.grant).SerializeToString()
                for number, result in zip(numbers, claims.results, strict=True)
            ]
            self._sign(records)
            return await self._deliver(stub, timeout_s)

    async def close(self) -> None:
        """Close its connection."""
        if self._channel is not None:
            await self._channel.close()

    def _sign(self, records: list[bytes]) -> None:
        salts = [secrets.token_bytes(SALT_SIZE) for _ in records]
        after = self._range.append_leaves([leaf_hash(*pair) for pair in zip(salts, records, strict=True)])
        size = self._size + len(records)
        request = replication_pb2.AppendEntriesRequest(
            checkpoint=sign_checkpoint(Checkpoint(self._origin, size, after.root()), self._signer),
            epoch=_EPOCH,
            first_index=self._size,
            tip_size=size,
        )
        for record, salt in zip(records, salts, strict=True):
            request.entries.add(record=record, salt=salt)
        self._signed = (request, after)

    async def _deliver(self, stub: replication_pb2_grpc.ReplicationServiceStub, timeout_s: float) -> int:
        if self._signed is None:
            return 0
        request, after = self._signed
        request.city_time.CopyFrom(to_timestamp(utc_micros()))
        request.dispositions_after = self._words
        answer = await stub.AppendEntries(request, timeout=timeout_s)
        self._range, self._size, self._signed = after, request.tip_size, None
        self._words += len(answer.dispositions)
        return len(request.entries)

    def _stub(self) -> replication_pb2_grpc.ReplicationServiceStub:
        if self._channel is None:
            self._channel = secure_channel(self._credentials, retries=False, local_pool=True)
        return replication_pb2_grpc.ReplicationServiceStub(self._channel)


async def enroll(token: JoinToken, people: Iterator[int]) -> SimulatedCity:
    """Spend a city's token, as ``elicense-city join`` does, with keys that live in memory alone.

    Raises:
        Malformed: The token is not for a city.
        Error: The registry refused.
    """
    kind, _, code = "/".join(token.subject.path).partition("/")
    if kind != "city" or not code.isdecimal():
        raise Malformed("this token is not for a city; make one with `elicense-registry token city`")
    key = generate_key()
    signer = FileSigner(Ed25519PrivateKey.generate())
    origin = city_log_origin(token.subject.trust_domain, int(code), _EPOCH)
    request = enrollment_pb2.EnrollRequest(
        tls_csr=build_request(key, dns_names=["localhost"]),
        authority_csr=build_request(generate_key()),
        log_verifier_key=format_vkey(log_verifier_key(origin, signer.public_key())),
        log_possession_note=sign_checkpoint(Checkpoint(origin, 0, EMPTY_ROOT), signer),
    )
    async with secure_channel(token.credentials(), retries=False, local_pool=True) as channel:
        try:
            answer = await enrollment_pb2_grpc.EnrollmentServiceStub(channel).Enroll(request, timeout=DEFAULT_TIMEOUT_S)
        except grpc.aio.AioRpcError as error:
            raise from_rpc_error(error) from error
    credentials = make_credentials(
        key=key,
        chain=[from_der(der) for der in answer.tls_chain],
        root=token.root,
        address=token.address,
        server_name=server_name(token.node),
    )
    return SimulatedCity(int(code), credentials, signer, people)


def _claims(numbers: list[int]) -> replication_pb2.ClaimPersonsRequest:
    request = replication_pb2.ClaimPersonsRequest()
    for number in numbers:
        request.claims.add(document=_document(number), license_id=uuid.uuid4().bytes, request_id=uuid.uuid4().bytes)
    return request


def _document(number: int) -> license_pb2.IdentityDocument:
    return license_pb2.IdentityDocument(type=license_pb2.DOCUMENT_TYPE_RESIDENT_ID, number=number_of(number))


def _record(city: int, number: int, license_id: bytes, grant: license_pb2.ClaimGrant) -> license_pb2.LicenseRecord:
    now = to_timestamp(utc_micros())
    record = license_pb2.LicenseRecord(
        city=city,
        epoch=_EPOCH,
        license_id=license_id,
        revision=1,
        event=license_pb2.LICENSE_EVENT_ISSUED,
        request_id=str(uuid.uuid4()),
        actor=f"spiffe://load/clerk/{city}/load",
        record_time=now,
        effective_time=now,
        claim=grant,
    )
    holder = record.license.holder
    holder.full_name = name_of(number)
    holder.document.CopyFrom(_document(number))
    holder.birth_date.CopyFrom(Date(year=1990, month=1, day=1))
    record.license.vehicle_classes.add(code="C1", from_date=_DAY)
    record.license.validity.kind = license_pb2.VALIDITY_KIND_LONG_TERM
    record.license.validity.from_date.CopyFrom(_DAY)
    record.license.first_issue_date.CopyFrom(_DAY)
    record.license.photo.capture_date.CopyFrom(_DAY)
    return record
