"""The client whose calls return when they are answered."""

from __future__ import annotations

from collections.abc import Generator, Iterable
from datetime import datetime
from types import TracebackType
from typing import Self

import grpc

from elicense.client.accesses import LARGEST_PAGE, Accesses, accesses_sync
from elicense.client.requests import following, looks_at, many, one, streamed
from elicense.client.stream import stream_sync
from elicense.client.verdict import Question, SignedVerdict, Verdict, read_signed, read_verdict
from elicense.client.watch import watch_sync
from elicense.license.model import DocumentType
from elicense.rpc.channel import secure_channel_sync
from elicense.rpc.errors import from_rpc_error
from elicense.trust.credentials import Credentials
from elicense.trust.roles import Purpose
from elicense.v1 import access_pb2_grpc
from elicense.v1 import verification_pb2 as pb
from elicense.v1 import verification_pb2_grpc as rpc


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
