"""The verifier's SDK: connect, verify, read the verdict.

::

    from elicense.client import Purpose, connect

    with connect("police-credentials") as client:
        verdict = client.verify("110101199003070134", purpose=Purpose.ROADSIDE_CHECK, case_number="R-17")
        print(verdict.outcome.name, verdict.summary)

The folder is what ``elicense join`` made: it holds key and certificate, and knows
which node to ask.  :func:`connect_async` gives the same client for code with an
event loop.

An unknown, suspended or expired licence is an answer, not an error.  An error of
:mod:`elicense.errors` means that the question could not be answered; it is of the
class that the server raised, so ``except Malformed as error`` and
``error.violations`` work across the wire.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Generator, Iterable
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Self

import grpc

from elicense.client.accesses import (
    LARGEST_PAGE,
    Access,
    Accesses,
    AsyncAccesses,
    Completeness,
    accesses_async,
    accesses_sync,
)
from elicense.client.requests import following, looks_at, many, one, streamed
from elicense.client.stream import stream_async, stream_sync
from elicense.client.verdict import (
    Freshness,
    LastKnown,
    Question,
    SignedVerdict,
    Source,
    Verdict,
    read_signed,
    read_verdict,
)
from elicense.client.watch import watch_async, watch_sync
from elicense.license.model import DocumentType
from elicense.license.verdict import LetterStanding, Outcome, VerdictReason
from elicense.rpc.channel import DEFAULT_TIMEOUT_S, secure_channel, secure_channel_sync
from elicense.rpc.errors import from_rpc_error
from elicense.trust.credentials import Credentials, load_credentials
from elicense.trust.roles import Purpose
from elicense.v1 import access_pb2_grpc
from elicense.v1 import verification_pb2 as pb
from elicense.v1 import verification_pb2_grpc as rpc

__all__ = [
    "Access",
    "Accesses",
    "AsyncAccesses",
    "AsyncClient",
    "Client",
    "Completeness",
    "DocumentType",
    "Freshness",
    "LastKnown",
    "LetterStanding",
    "Outcome",
    "Purpose",
    "Question",
    "SignedVerdict",
    "Source",
    "Verdict",
    "VerdictReason",
    "connect",
    "connect_async",
]


def connect(
    credentials: Path | str | Credentials, *, address: str | None = None, timeout_s: float = DEFAULT_TIMEOUT_S
) -> Client:
    """Return a client of the node that the credentials belong to.

    Nothing is sent yet; the first call opens the connection.

    Args:
        credentials: Folder that ``elicense join`` made, or credentials that were loaded already.
        address: Where that node is reached, host:port, if not where the credentials say.
        timeout_s: Seconds after which a call fails with :class:`~elicense.errors.PeerUnreachable`.

    Raises:
        NotFound: A file of the folder is missing.
        Malformed: A file can not be read, or the key is open to other users.
    """
    return Client(_loaded(credentials), address=address, timeout_s=timeout_s)


def connect_async(
    credentials: Path | str | Credentials, *, address: str | None = None, timeout_s: float = DEFAULT_TIMEOUT_S
) -> AsyncClient:
    """Return a client for the running event loop; arguments and errors as :func:`connect`."""
    return AsyncClient(_loaded(credentials), address=address, timeout_s=timeout_s)


class Client:
    """Asks a registry or a city node whether licences are in force; safe to share between threads.

    Args:
        credentials: Who asks, and whom.
        address: Address to call instead of the credentials' own.
        timeout_s: Seconds that a call may take.
    """

    def __init__(self, credentials: Credentials, *, address: str | None, timeout_s: float) -> None:
        self._channel = secure_channel_sync(credentials, address=address)
        self._service = rpc.VerificationServiceStub(self._channel)
        self._looks = access_pb2_grpc.AccessServiceStub(self._channel)
        self._timeout_s = timeout_s

    def verify(
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
        """Ask for one licence.

        Args:
            number: Number of the holder's document, which is the licence number.
            purpose: Why you ask; must be one that your role may state.
            name: The holder's name as printed; commercial roles must give it.
            case_number: Case under which you ask; police must give one.
            document_type: Kind of document.
            at: A past moment to ask about, with its time zone; now, when left out.
            as_known_at: Answer from what was known at this moment, not before ``at``.

        Returns:
            The verdict, also for a licence that is unknown or not in force.

        Raises:
            Malformed: Something is missing or in the wrong form; ``violations`` names each field.
            CallerNotAllowed: Your role may not ask.
            Unauthenticated: Your certificate is not active, or no longer.
            Exhausted: The node can not record the look; it gives no unrecorded answer.
            Unavailable: The node or its database can not be reached.
        """
        request = one(Question(number, name, document_type), purpose, case_number, at=at, as_known_at=as_known_at)
        try:
            answer: pb.VerifyLicenseResponse = self._service.VerifyLicense(request, timeout=self._timeout_s)
        except grpc.RpcError as error:
            raise from_rpc_error(error) from error
        return read_verdict(answer.verdict)

    def verify_signed(
        self,
        question: Question,
        *,
        purpose: Purpose,
        case_number: str = "",
        at: datetime | None = None,
        as_known_at: datetime | None = None,
    ) -> SignedVerdict:
        """Ask for one licence and have the answer signed, for a third party that was not there.

        Raises:
            Error: As :meth:`verify`.
        """
        request = one(question, purpose, case_number, at=at, as_known_at=as_known_at, sign=True)
        try:
            return read_signed(self._service.VerifyLicense(request, timeout=self._timeout_s))
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
    ) -> Generator[Verdict, None, None]:
        """Follow one licence: yields the verdict of now, then each one that differs.

        A connection that ends is opened again; an outage of more than the client's
        timeout is raised, since nobody vouches for the last verdict then.  Leaving
        the loop ends the watch.  Arguments as :meth:`verify`.

        Raises:
            Error: As :meth:`verify`.
            WatchesExhausted: You follow as many licences as you may.
        """
        question = Question(number, name, document_type)
        return watch_sync(self._service, following(question, purpose, case_number), self._timeout_s)

    def verify_batch(
        self,
        questions: Iterable[Question],
        *,
        purpose: Purpose,
        case_number: str = "",
        at: datetime | None = None,
        as_known_at: datetime | None = None,
    ) -> list[Verdict]:
        """Ask for many licences; one verdict a question, in their order.

        More than a thousand questions are sent as several calls.

        Raises:
            Error: As :meth:`verify`; nothing is returned then.
        """
        verdicts: list[Verdict] = []
        for request in many(questions, purpose, case_number, at=at, as_known_at=as_known_at):
            try:
                answer = self._service.BatchVerifyLicenses(request, timeout=self._timeout_s)
            except grpc.RpcError as error:
                raise from_rpc_error(error) from error
            verdicts += map(read_verdict, answer.verdicts)
        return verdicts

    def verify_many(
        self, questions: Iterable[Question], *, purpose: Purpose, case_number: str = ""
    ) -> Generator[Verdict, None, None]:
        """Ask for any number of licences over one stream; yields one verdict a question, in their order.

        Questions are taken as verdicts are, some thousands ahead, so neither must fit
        into memory.  A connection that ends is opened again, and what was not answered
        is asked again; an outage of more than the client's timeout is raised.

        Args:
            questions: Document numbers, with names where your role must give them.
            purpose: Why you ask; one that your role may state.
            case_number: Case under which you ask; police must give one.

        Raises:
            Error: As :meth:`verify`; the verdicts before it stand.
        """
        return stream_sync(self._service, streamed(questions, purpose, case_number), self._timeout_s)

    def accesses(
        self,
        number: str,
        name: str,
        *,
        document_type: DocumentType = DocumentType.RESIDENT_ID,
        page_size: int = LARGEST_PAGE,
    ) -> Accesses:
        """List who looked at a holder, newest first, on every node and under every number that the holder has had.

        For the holder's app, at the registry.  The first page is asked for at once, the
        others as the loop reaches them.  Each page is a look itself: it is recorded, and
        counts in your quota.

        Args:
            number: Number of the holder's document, one that the holder has or had.
            name: The holder's name as printed.
            document_type: Kind of document.
            page_size: Looks asked for at once, 1 to 1,000.

        Returns:
            The looks, and up to when they are all there; sealed ones follow when their delay is over.

        Raises:
            Malformed: Something is missing or in the wrong form; ``violations`` names each field.
            LicenseNotFound: No licence has this number, or the name is not its holder's; nobody says which.
            CallerNotAllowed: You are not a holder's app.
            Refused: You asked a city node; only the registry has the looks of all.
            Unauthenticated: Your certificate is not active, or no longer.
            Exhausted: Your quota is used up, or the registry can not record the look.
            Unavailable: The registry or its database can not be reached.
                The loop raises the same; what it gave before stands.
        """
        request = looks_at(Question(number, name, document_type), page_size)
        return accesses_sync(self._looks, request, self._timeout_s)

    def close(self) -> None:
        """Close the connection; calls under way fail."""
        self._channel.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class AsyncClient:
    """The same as :class:`Client`, with coroutines; belongs to the event loop that it was made in."""

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
        """Ask for one licence; arguments, result and errors as :meth:`Client.verify`."""
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
        """Ask for one licence and have the answer signed; as :meth:`Client.verify_signed`."""
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
        """Follow one licence; as :meth:`Client.watch`. Leave the loop with ``aclosing`` to end the watch at once."""
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
        """Ask for many licences; as :meth:`Client.verify_batch`."""
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
        """Ask for any number of licences over one stream; as :meth:`Client.verify_many`.

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
        """List who looked at a holder; as :meth:`Client.accesses`, read with ``async for``."""
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


def _loaded(credentials: Path | str | Credentials) -> Credentials:
    if isinstance(credentials, Credentials):
        return credentials
    return load_credentials(Path(credentials))
