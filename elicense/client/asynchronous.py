"""The client for code with an event loop."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable
from datetime import datetime
from types import TracebackType
from typing import Self

import grpc

from elicense.client.accesses import LARGEST_PAGE, AsyncAccesses, accesses_async
from elicense.client.requests import following, looks_at, many, one, streamed
from elicense.client.stream import stream_async
from elicense.client.verdict import Question, SignedVerdict, Verdict, read_signed, read_verdict
from elicense.client.watch import watch_async
from elicense.license.model import DocumentType
from elicense.rpc.channel import secure_channel
from elicense.rpc.errors import from_rpc_error
from elicense.trust.credentials import Credentials
from elicense.trust.roles import Purpose
from elicense.v1 import access_pb2_grpc
from elicense.v1 import verification_pb2 as pb
from elicense.v1 import verification_pb2_grpc as rpc


class AsyncClient:
    """The same as :class:`~elicense.client.Client`, with coroutines; belongs to the event loop that it was made in."""

    def __init__(self, credentials: Credentials, *, address: str | None, timeout_s: float) -> None:
        self._channel = secure_channel(credentials, address=address)
        self._service = rpc.VerificationServiceStub(self._channel)
        self._looks = access_pb2_grpc.AccessServiceStub(self._channel)
        self._timeout_s = timeout_s

    async def verify(
        self,
        number: str,
        *,
        purpose: Purpose,
        name: str = "",
        case_number: str = "",
        document_type: DocumentType = DocumentType.RESIDENT_ID,
        at: datetime | None = None,
        as_known_at: datetime | None = None,
    ) -> Verdict:
        """Ask for one licence; arguments, result and errors as :meth:`~elicense.client.Client.verify`."""
        request = one(Question(number, name, document_type), purpose, case_number, at=at, as_known_at=as_known_at)
        try:
            answer: pb.VerifyLicenseResponse = await self._service.VerifyLicense(request, timeout=self._timeout_s)
        except grpc.RpcError as error:
            raise from_rpc_error(error) from error
        return read_verdict(answer.verdict)

    async def verify_signed(
        self,
        question: Question,
        *,
        purpose: Purpose,
        case_number: str = "",
        at: datetime | None = None,
        as_known_at: datetime | None = None,
    ) -> SignedVerdict:
        """Ask for one licence and have the answer signed; as :meth:`~elicense.client.Client.verify_signed`."""
        request = one(question, purpose, case_number, at=at, as_known_at=as_known_at, sign=True)
        try:
            return read_signed(await self._service.VerifyLicense(request, timeout=self._timeout_s))
        except grpc.RpcError as error:
            raise from_rpc_error(error) from error

    def watch(
        self,
        number: str,
        *,
        purpose: Purpose,
        name: str = "",
        case_number: str = "",
        document_type: DocumentType = DocumentType.RESIDENT_ID,
    ) -> AsyncGenerator[Verdict, None]:
        """Follow one licence; as :meth:`~elicense.client.Client.watch`.

        Leave the loop with ``aclosing`` to end the watch at once.
        """
        question = Question(number, name, document_type)
        return watch_async(self._service, following(question, purpose, case_number), self._timeout_s)

    async def verify_batch(
        self,
        questions: Iterable[Question],
        *,
        purpose: Purpose,
        case_number: str = "",
        at: datetime | None = None,
        as_known_at: datetime | None = None,
    ) -> list[Verdict]:
        """Ask for many licences; as :meth:`~elicense.client.Client.verify_batch`."""
        verdicts: list[Verdict] = []
        for request in many(questions, purpose, case_number, at=at, as_known_at=as_known_at):
            try:
                answer = await self._service.BatchVerifyLicenses(request, timeout=self._timeout_s)
            except grpc.RpcError as error:
                raise from_rpc_error(error) from error
            verdicts += map(read_verdict, answer.verdicts)
        return verdicts

    def verify_many(
        self, questions: Iterable[Question], *, purpose: Purpose, case_number: str = ""
    ) -> AsyncGenerator[Verdict, None]:
        """Ask for any number of licences over one stream; as :meth:`~elicense.client.Client.verify_many`.

        Leave the loop with ``aclosing`` to end the stream at once.
        """
        return stream_async(self._service, streamed(questions, purpose, case_number), self._timeout_s)

    async def accesses(
        self,
        number: str,
        name: str,
        *,
        document_type: DocumentType = DocumentType.RESIDENT_ID,
        page_size: int = LARGEST_PAGE,
    ) -> AsyncAccesses:
        """List who looked at a holder; as :meth:`~elicense.client.Client.accesses`, read with ``async for``."""
        request = looks_at(Question(number, name, document_type), page_size)
        return await accesses_async(self._looks, request, self._timeout_s)

    async def close(self) -> None:
        """Close the connection; calls under way fail."""
        await self._channel.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()
