"""Requests as they are sent."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from itertools import islice
from typing import Any, Final

from google.protobuf.timestamp_pb2 import Timestamp

from elicense.client.verdict import Question
from elicense.errors import Malformed, Violation
from elicense.trust.roles import Purpose
from elicense.v1 import access_pb2
from elicense.v1 import verification_pb2 as pb

BATCH_SIZE: Final = 1_000
"""Questions that one call may carry; longer batches are sent as several calls."""


def one(
    question: Question,
    purpose: Purpose,
    case_number: str,
    *,
    at: datetime | None = None,
    as_known_at: datetime | None = None,
    sign: bool = False,
) -> pb.VerifyLicenseRequest:
    """Return the request for one licence.

    Raises:
        Malformed: A moment has no time zone.
    """
    wish = _wish(at, as_known_at)
    return pb.VerifyLicenseRequest(
        query=question.to_message(), context=_context(purpose, case_number), sign=sign, **wish
    )


def many(
    questions: Iterable[Question],
    purpose: Purpose,
    case_number: str,
    *,
    at: datetime | None = None,
    as_known_at: datetime | None = None,
) -> Iterator[pb.BatchVerifyLicensesRequest]:
    """Yield the requests for many licences, a thousand each.

    Raises:
        Malformed: A moment has no time zone.
    """
    rest = iter(questions)
    context, wish = _context(purpose, case_number), _wish(at, as_known_at)
    while batch := _take(rest):
        queries = [question.to_message() for question in batch]
        yield pb.BatchVerifyLicensesRequest(queries=queries, context=context, **wish)


def streamed(
    questions: Iterable[Question], purpose: Purpose, case_number: str
) -> Iterator[pb.StreamVerifyLicensesRequest]:
    """Yield the chunks of a stream, made as they are asked for."""
    rest = iter(questions)
    context = _context(purpose, case_number)
    while chunk := _take(rest):
        yield pb.StreamVerifyLicensesRequest(queries=[question.to_message() for question in chunk], context=context)


def following(question: Question, purpose: Purpose, case_number: str) -> pb.WatchLicenseRequest:
    """Return the request to follow one licence."""
    return pb.WatchLicenseRequest(query=question.to_message(), context=_context(purpose, case_number))


def looks_at(question: Question, page_size: int) -> access_pb2.ListAccessesRequest:
    """Return the request for the first page of who looked at a holder."""
    return access_pb2.ListAccessesRequest(query=question.to_message(), page_size=page_size)


def _take(questions: Iterator[Question]) -> Sequence[Question]:
    return tuple(islice(questions, BATCH_SIZE))


def _context(purpose: Purpose, case_number: str) -> pb.LookContext:
    return pb.LookContext(purpose=pb.Purpose.Name(purpose), case_number=case_number)


def _wish(at: datetime | None, as_known_at: datetime | None) -> dict[str, Any]:
    moments = {"at_time": at, "as_known_time": as_known_at}
    return {name: _timestamp(name, moment) for name, moment in moments.items() if moment is not None}


def _timestamp(name: str, moment: datetime) -> Timestamp:
    if moment.tzinfo is None:
        # Which instant is meant decides whether a licence was valid: nobody should guess.
        raise Malformed(
            "a moment must say its time zone",
            violations=[Violation(name, "TIME_ZONE_REQUIRED", "give a datetime with a time zone")],
        )
    timestamp = Timestamp()
    timestamp.FromDatetime(moment)
    return timestamp
