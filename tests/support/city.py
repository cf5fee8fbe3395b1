"""A city as the registry sees it: a key, a log, a certificate, and nothing else."""

from __future__ import annotations

import asyncio
import secrets
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Any

import grpc
from google.protobuf.message import Message
from google.type.date_pb2 import Date

from elicense.clock import to_timestamp
from elicense.license.civil_date import date_to_message
from elicense.log.checkpoint import Checkpoint, log_verifier_key, sign_checkpoint
from elicense.log.entry import leaf_hash
from elicense.log.merkle import consistency_proof
from elicense.log.tree import EMPTY_RANGE, EMPTY_ROOT, subtree_root
from elicense.log.verifier_key import VerifierKey, format_vkey, parse_vkey
from elicense.rpc.channel import secure_channel
from elicense.rpc.errors import from_rpc_error
from elicense.trust.credentials import Credentials, make_credentials
from elicense.trust.csr import build_request
from elicense.trust.enrollment import city_log_origin
from elicense.trust.signer import FileSigner
from elicense.trust.spiffe import server_name
from elicense.trust.token import JoinToken
from elicense.trust.x509 import from_der, generate_key
from elicense.v1 import enrollment_pb2, enrollment_pb2_grpc, license_pb2, replication_pb2_grpc
from elicense.v1 import replication_pb2 as pb
from elicense.v1.license_pb2 import LicenseRecord
from elicense.verification.told import Told, sign_told

#: Longer than any call takes on a machine that is slow and busy with other tests.
DEADLINE_S = 120.0


async def enroll(
    token: JoinToken, signer: FileSigner, code: int, **changes: Any
) -> tuple[Credentials, enrollment_pb2.EnrollResponse]:
    """Spend a city's token the way `elicense-city join` does."""
    key = generate_key()
    origin = city_log_origin(token.subject.trust_domain, code, 1)
    fields = {
        "tls_csr": build_request(key, dns_names=["localhost"]),
        "authority_csr": build_request(generate_key()),
        "log_verifier_key": format_vkey(log_verifier_key(origin, signer.public_key())),
        "log_possession_note": sign_checkpoint(Checkpoint(origin, 0, EMPTY_ROOT), signer),
    }
    async with secure_channel(token.credentials(), retries=False) as channel:
        try:
            answer = await enrollment_pb2_grpc.EnrollmentServiceStub(channel).Enroll(
                enrollment_pb2.EnrollRequest(**{**fields, **changes}), timeout=DEADLINE_S
            )
        except grpc.aio.AioRpcError as error:
            raise from_rpc_error(error) from error
    credentials = make_credentials(
        key=key,
        chain=[from_der(der) for der in answer.tls_chain],
        root=token.root,
        address=token.address,
        server_name=server_name(token.node),
    )
    return credentials, answer


@dataclass
class City:
    """A city's log in memory, with the way to the registry.

    Attributes:
        code: Division code.
        credentials: Its node certificate.
        signer: Key of its log.
        clock: UTC microseconds.
        cosigner: Key of the registry's receipts.
        told: What the registry asks it to sign that it knows, by number in the feed; signed with the next batch.
        emptied: Indices of slots that it sends empty.
        receipt: Size and note of the receipt that it shows for them; the greatest that it was given.
    """

    code: int
    credentials: Credentials
    signer: FileSigner
    clock: Callable[[], int]
    cosigner: VerifierKey
    records: list[bytes] = field(default_factory=list)
    salts: list[bytes] = field(default_factory=list)
    feed: list[pb.Disposition] = field(default_factory=list)
    told: dict[int, Told] = field(default_factory=dict)
    emptied: set[int] = field(default_factory=set)
    receipt: tuple[int, bytes] = (0, b"")
    _channel: grpc.aio.Channel | None = None

    @classmethod
    async def join(cls, token: JoinToken, code: int, *, signer: FileSigner, clock: Callable[[], int]) -> City:
        credentials, answer = await enroll(token, signer, code)
        return cls(code, credentials, signer, clock, parse_vkey(answer.registry_cosigner_key))

    @property
    def origin(self) -> str:
        return city_log_origin(self.credentials.subject.trust_domain, self.code, 1)

    @property
    def key(self) -> VerifierKey:
        return log_verifier_key(self.origin, self.signer.public_key())

    @property
    def size(self) -> int:
        return len(self.records)

    def leaves(self, stop: int | None = None) -> list[bytes]:
        pairs = zip(self.salts[:stop], self.records[:stop], strict=True)
        return [leaf_hash(salt, record) for salt, record in pairs]

    def root(self, size: int | None = None) -> bytes:
        return EMPTY_RANGE.append_leaves(self.leaves(size)).root()

    def note(self, size: int | None = None) -> bytes:
        size = self.size if size is None else size
        return sign_checkpoint(Checkpoint(self.origin, size, self.root(size)), self.signer)

    def append(self, record: bytes) -> int:
        self.records.append(record)
        self.salts.append(secrets.token_bytes(32))
        return self.size - 1

    def issue(
        self,
        number: str,
        *,
        name: str = "张伟",
        license_id: bytes | None = None,
        claim: pb.ClaimResult | None = None,
        city: int | None = None,
    ) -> bytes:
        """Write a first revision and return its licence."""
        license_id = license_id or (claim.license_id if claim is not None else uuid.uuid4().bytes)
        message = _record(city or self.code, license_id, number, name, self.clock())
        if claim is None:
            message.provisional = True
        else:
            message.claim.CopyFrom(claim.grant)
        self.append(message.SerializeToString())
        return license_id

    def change(
        self,
        license_id: bytes,
        letters: Sequence[str] = (),
        *,
        event: int = license_pb2.LICENSE_EVENT_STATUS_CHANGED,
        ban_until: date | None = None,
        offered_to_city: int | None = None,
        index: int | None = None,
    ) -> None:
        """Write a revision of a licence that now carries these letters, barred for life if no day is given.

        It follows the latest record, or that at ``index``.
        """
        message = self._following(license_id, event, index=index)
        del message.license.status_letters[:]
        for letter in letters:
            added = message.license.status_letters.add(letter=letter, start_date=Date(year=2020, month=1, day=1))
            if letter in "EF" and ban_until is not None:
                added.ban.until_date.CopyFrom(date_to_message(ban_until))
        if offered_to_city is not None:
            message.license.offered_to_city = offered_to_city
        self.append(message.SerializeToString())

    def renumber(self, license_id: bytes, number: str, claim: pb.ClaimResult | None = None) -> None:
        """Write the revision of a changed identity number, which cites the grant of the new one."""
        message = self._following(license_id, license_pb2.LICENSE_EVENT_UPDATED)
        message.earlier_documents.append(message.license.holder.document)
        message.license.holder.document.number = number
        if claim is not None:
            message.claim.CopyFrom(claim.grant)
        self.append(message.SerializeToString())

    def offer(self, license_id: bytes, to_city: int) -> None:
        """Write an offer of custody; its withdrawal when no city is given."""
        withdrawn = license_pb2.LICENSE_EVENT_TRANSFER_WITHDRAWN
        message = self._following(license_id, license_pb2.LICENSE_EVENT_TRANSFERRED_OUT if to_city else withdrawn)
        message.license.offered_to_city = to_city
        self.append(message.SerializeToString())

    def erase(self, license_id: bytes, *, ordered_by: int = 0, index: int | None = None) -> int:
        """Write the record that erases a licence, upon its latest record or that at ``index``; slots stay full."""
        message = self._following(license_id, license_pb2.LICENSE_EVENT_ERASED, index=index)
        message.ClearField("license")
        message.erases.epoch, message.erases.index = 1, self.leaves().index(message.previous_entry_hash)
        message.erases.ordered_by_city = ordered_by
        return self.append(message.SerializeToString())

    def take_over(self, license_id: bytes, source: City, *, index: int | None = None, **changes: Any) -> int:
        """Write a take-over of the latest revision of ``source``, or of another one; ``changes`` replace its fields."""
        message = source._following(license_id, license_pb2.LICENSE_EVENT_TRANSFERRED_IN, index=index)
        message.city = self.code
        message.license.offered_to_city = 0
        message.taken_over_from.city, message.taken_over_from.epoch = source.code, 1
        message.taken_over_from.index = source.leaves().index(message.previous_entry_hash)
        for name, value in changes.items():
            if isinstance(value, Message):
                getattr(message, name).CopyFrom(value)
            else:
                setattr(message, name, value)
        return self.append(message.SerializeToString())

    def _following(self, license_id: bytes, event: int, *, index: int | None = None) -> LicenseRecord:
        """The record after the latest one of a licence, or after that at ``index``."""
        if index is None:
            parsed = [LicenseRecord.FromString(record) for record in self.records]
            index = max(i for i, record in enumerate(parsed) if record.license_id == license_id)
        message = LicenseRecord.FromString(self.records[index])
        message.previous_entry_hash = leaf_hash(self.salts[index], self.records[index])
        message.revision += 1
        message.event = event  # type: ignore[assignment]
        for name in ("taken_over_from", "claim"):
            message.ClearField(name)
        message.request_id = str(uuid.uuid4())
        message.record_time.CopyFrom(to_timestamp(self.clock()))
        message.effective_time.CopyFrom(message.record_time)
        return message

    def batch(self, first: int = 0, stop: int | None = None, **changes: Any) -> pb.AppendEntriesRequest:
        """The call that carries entries ``first`` to ``stop``; ``changes`` replace its fields."""
        stop = self.size if stop is None else stop
        request = pb.AppendEntriesRequest(
            checkpoint=self.note(stop) if stop else b"",
            epoch=1,
            first_index=first,
            tip_size=self.size,
            city_time=to_timestamp(self.clock()),
            dispositions_after=len(self.feed),
            told=[sign_told(told, self.signer) for told in self.told.values()],
        )
        for index in range(first, stop):
            if index in self.emptied:
                request.entries.add(leaf_hash=leaf_hash(self.salts[index], self.records[index]))
            else:
                request.entries.add(record=self.records[index], salt=self.salts[index])
        if self.receipt[0] and any(first <= index < stop for index in self.emptied):
            request.held_before.CopyFrom(self.held_before(stop))
        for name, value in changes.items():
            setattr(request, name, value)
        return request

    def held_before(self, size: int) -> pb.HeldBefore:
        """What it shows with a batch that ends at ``size``."""
        leaves = self.leaves()
        older, newer = sorted((self.receipt[0], size))
        hashes = consistency_proof(older, newer, lambda start, end: subtree_root(leaves[start:end]))
        return pb.HeldBefore(receipt=self.receipt[1], hashes=hashes)

    def stub(self) -> replication_pb2_grpc.ReplicationServiceStub:
        if self._channel is None:
            self._channel = secure_channel(self.credentials, retries=False, local_pool=True)
        return replication_pb2_grpc.ReplicationServiceStub(self._channel)

    async def send(self, request: pb.AppendEntriesRequest, *, keep_feed: bool = True) -> pb.AppendEntriesResponse:
        """Call AppendEntries; raises the domain error."""
        try:
            answer: pb.AppendEntriesResponse = await self.stub().AppendEntries(request, timeout=DEADLINE_S)
        except grpc.aio.AioRpcError as error:
            raise from_rpc_error(error) from error
        self.receipt = max(self.receipt, (answer.next_index, answer.receipt))
        if keep_feed:
            self.feed.extend(answer.dispositions)
            asked = {number: self.feed[number - 1] for number in answer.unsigned}
            known = {number: Told(self.origin, self.size, word.epoch, word.index) for number, word in asked.items()}
            self.told = {number: self.told.get(number, told) for number, told in known.items()}
        return answer

    async def replicate(self) -> pb.AppendEntriesResponse:
        """Send everything that the registry lacks."""
        state = await self.state()
        return await self.send(self.batch(state.next_index))

    async def state(self) -> pb.GetReplicationStateResponse:
        try:
            answer: pb.GetReplicationStateResponse = await self.stub().GetReplicationState(
                pb.GetReplicationStateRequest(), timeout=DEADLINE_S
            )
        except grpc.aio.AioRpcError as error:
            raise from_rpc_error(error) from error
        return answer

    async def claim(
        self,
        *numbers: str,
        license_ids: Sequence[bytes] | None = None,
        request_ids: Sequence[bytes] | None = None,
        bulk: bool = False,
    ) -> list[pb.ClaimResult]:
        """Claim persons by resident identity number."""
        request = pb.ClaimPersonsRequest(bulk=bulk)
        for position, number in enumerate(numbers):
            request.claims.add(
                document=license_pb2.IdentityDocument(type=license_pb2.DOCUMENT_TYPE_RESIDENT_ID, number=number),
                license_id=license_ids[position] if license_ids else uuid.uuid4().bytes,
                request_id=request_ids[position] if request_ids else uuid.uuid4().bytes,
            )
        try:
            answer: pb.ClaimPersonsResponse = await self.stub().ClaimPersons(request, timeout=DEADLINE_S)
        except grpc.aio.AioRpcError as error:
            raise from_rpc_error(error) from error
        return list(answer.results)

    async def decided(self, count: int) -> list[pb.Disposition]:
        """Send heartbeats until the feed holds ``count`` words of the registry."""
        async with asyncio.timeout(DEADLINE_S):
            while len(self.feed) < count:
                await self.send(self.batch(self.size))
                await asyncio.sleep(0)
        return self.feed

    async def close(self) -> None:
        if self._channel is not None:
            await self._channel.close()
            self._channel = None


def _record(city: int, license_id: bytes, number: str, name: str, now_us: int) -> LicenseRecord:
    day = Date(year=2020, month=1, day=1)
    message = LicenseRecord(
        city=city,
        epoch=1,
        license_id=license_id,
        revision=1,
        event=license_pb2.LICENSE_EVENT_ISSUED,
        request_id=str(uuid.uuid4()),
        actor=f"spiffe://elicense.test/clerk/{city}/test",
        record_time=to_timestamp(now_us),
        effective_time=to_timestamp(now_us),
    )
    message.license.holder.full_name = name
    message.license.holder.document.type = license_pb2.DOCUMENT_TYPE_RESIDENT_ID
    message.license.holder.document.number = number
    message.license.vehicle_classes.add(code="C1", from_date=day)
    message.license.validity.kind = license_pb2.VALIDITY_KIND_LONG_TERM
    message.license.validity.from_date.CopyFrom(day)
    message.license.holder.birth_date.CopyFrom(Date(year=1990, month=1, day=1))
    message.license.first_issue_date.CopyFrom(day)
    message.license.photo.capture_date.CopyFrom(day)
    return message
