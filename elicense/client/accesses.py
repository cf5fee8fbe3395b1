"""Who looked at a holder, read page by page.

Pages go from the newest look to the oldest, so looks that are made meanwhile do
not move them, and what the first page says of completeness holds for all of them.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Generator, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

import grpc

from elicense.client.verdict import read_field, read_instant, read_outcome
from elicense.errors import Error, Refused
from elicense.license.fields import LicenseField
from elicense.license.verdict import Outcome
from elicense.rpc.errors import from_rpc_error
from elicense.trust.roles import Purpose
from elicense.v1 import access_pb2 as pb

LARGEST_PAGE: Final = 1_000
"""Most looks that the registry gives at once."""


@dataclass(frozen=True, slots=True)
class Access:
    """One look at a licence.

    Attributes:
        at: When it was asked.
        verifier: SPIFFE ID of who looked.
        via: SPIFFE ID of the city node that asked for the verifier; empty when it asked by itself.
        node: Name of the node that answered.
        role: The verifier's role, as in its SPIFFE ID.
        purpose: Why it looked; a number where this version does not know it.
        case_number: Case number, where one was given.
        method: Name of the RPC.
        outcome: What the verifier was told; NO_MATCH when it had another name.
        fields: Parts of the licence that it was given; a number where this version does not know one.
        was_sealed: Whether the look was sealed, and appears now that its delay is over.
    """

    at: datetime
    verifier: str
    via: str
    node: str
    role: str
    purpose: Purpose | int
    case_number: str = field(repr=False)
    method: str
    outcome: Outcome
    fields: tuple[LicenseField | int, ...]
    was_sealed: bool


@dataclass(frozen=True, slots=True)
class Completeness:
    """Up to when one node's looks are in a list.

    Attributes:
        node: Name of the node.
        until: Every look asked there before this is in the list, sealed ones excepted; None when nothing is
            known of the node's looks.
    """

    node: str
    until: datetime | None


@dataclass(frozen=True, slots=True)
class _Listed:
    """What is known of a list before it is read.

    Attributes:
        completeness: One a node, the registry and every enrolled city.
    """

    completeness: tuple[Completeness, ...]

    @property
    def complete_until(self) -> datetime | None:
        """Every look that was asked before this, anywhere, is in the list; None when a node has not told of its own.

        Looks that the police sealed in a case are the exception: they may follow for as long as
        the law lets them be sealed, and nobody says whether there are any.
        """
        known = [each.until for each in self.completeness if each.until is not None]
        return min(known) if known and len(known) == len(self.completeness) else None


@dataclass(frozen=True, slots=True)
class Accesses(_Listed):
    """Who looked at a holder, newest first; can be read once.

    Attributes:
        looks: The looks; asks for the pages after the first as they are reached.
    """

    looks: Generator[Access, None, None]

    def __iter__(self) -> Iterator[Access]:
        return self.looks


@dataclass(frozen=True, slots=True)
class AsyncAccesses(_Listed):
    """The same as :class:`Accesses`, read with ``async for``."""

    looks: AsyncGenerator[Access, None]

    def __aiter__(self) -> AsyncIterator[Access]:
        return self.looks


def accesses_sync(service: Any, request: pb.ListAccessesRequest, timeout_s: float) -> Accesses:
    """Ask for a list; see :meth:`elicense.client.Client.accesses`."""

    def ask(page_token: str) -> pb.ListAccessesResponse:
        try:
            page: pb.ListAccessesResponse = service.ListAccesses(_page(request, page_token), timeout=timeout_s)
        except grpc.RpcError as error:
            raise _refusal(error) from error
        return page

    def looks(page: pb.ListAccessesResponse) -> Generator[Access, None, None]:
        yield from map(_access, page.accesses)
        while page.next_page_token:
            page = ask(page.next_page_token)
            yield from map(_access, page.accesses)

    first = ask("")
    return Accesses(_completeness(first), looks(first))


async def accesses_async(service: Any, request: pb.ListAccessesRequest, timeout_s: float) -> AsyncAccesses:
    """Ask for a list; see :meth:`elicense.client.AsyncClient.accesses`."""

    async def ask(page_token: str) -> pb.ListAccessesResponse:
        try:
            page: pb.ListAccessesResponse = await service.ListAccesses(_page(request, page_token), timeout=timeout_s)
        except grpc.RpcError as error:
            raise _refusal(error) from error
        return page

    async def looks(page: pb.ListAccessesResponse) -> AsyncGenerator[Access, None]:
        for access in page.accesses:
            yield _access(access)
        while page.next_page_token:
            page = await ask(page.next_page_token)
            for access in page.accesses:
                yield _access(access)

    first = await ask("")
    return AsyncAccesses(_completeness(first), looks(first))


def _page(request: pb.ListAccessesRequest, page_token: str) -> pb.ListAccessesRequest:
    return pb.ListAccessesRequest(query=request.query, page_size=request.page_size, page_token=page_token)


def _refusal(error: grpc.RpcError) -> Error:
    if error.code() is grpc.StatusCode.UNIMPLEMENTED:
        return Refused("this node has only its own looks; ask the registry, with credentials that the registry gave")
    return from_rpc_error(error)


def _completeness(page: pb.ListAccessesResponse) -> tuple[Completeness, ...]:
    return tuple(
        Completeness(each.node, read_instant(each.complete_until) if each.HasField("complete_until") else None)
        for each in page.completeness
    )


def _access(message: pb.Access) -> Access:
    return Access(
        at=read_instant(message.access_time),
        verifier=message.verifier,
        via=message.via,
        node=message.node,
        role=message.role,
        purpose=_purpose(message.purpose),
        case_number=message.case_number,
        method=message.method,
        outcome=read_outcome(message.outcome),
        fields=tuple(map(read_field, message.fields)),
        was_sealed=message.was_sealed,
    )


def _purpose(number: int) -> Purpose | int:
    try:
        return Purpose(number)
    except ValueError:
        return number
