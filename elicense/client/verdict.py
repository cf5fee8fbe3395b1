"""Questions and verdicts as frozen values, for people who write verifying programs.

Numbers that this version does not know, because the server is newer, fail safe:
an unknown outcome reads as INDETERMINATE, an unknown reason stays a plain number.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from enum import IntEnum
from typing import Any, NoReturn

from google.protobuf.json_format import MessageToDict
from google.protobuf.timestamp_pb2 import Timestamp

from elicense.license.fields import LicenseField
from elicense.license.model import DocumentType
from elicense.license.verdict import LetterStanding, Outcome, VerdictReason
from elicense.v1 import license_pb2, verification_pb2


class Source(IntEnum):
    """Who vouches for an answer; numbers as in the proto."""

    UNSPECIFIED = 0
    REGISTRY = 1
    CITY = 2


@dataclass(frozen=True, slots=True)
class Question:
    """One licence to ask for.

    Attributes:
        number: Number of the holder's document, which is the licence number; personal.
        name: The holder's name as printed; commercial roles must give it; personal.
        document_type: Kind of document.
    """

    number: str = field(repr=False)
    name: str = field(default="", repr=False)
    document_type: DocumentType = DocumentType.RESIDENT_ID

    def to_message(self) -> verification_pb2.LicenseQuery:
        """Return the question as it is sent."""
        document = license_pb2.IdentityDocument(
            type=license_pb2.DocumentType.Name(self.document_type), number=self.number
        )
        return verification_pb2.LicenseQuery(document=document, holder_name=self.name)


@dataclass(frozen=True, slots=True)
class Freshness:
    """How current an answer is.

    Attributes:
        source: Who vouches.
        as_of: Everything that the city had recorded up to then is in the answer.
        city: Division code of the city in custody.
        log_size: Entries of the city's log behind the answer.
        log_epoch: Epoch of that log.
    """

    source: Source
    as_of: datetime
    city: int
    log_size: int
    log_epoch: int


@dataclass(frozen=True, slots=True)
class LastKnown:
    """What was known of a licence when its city was last heard; for a person to weigh, not for a program.

    Attributes:
        outcome: The outcome then.
        as_of: As of when.
    """

    outcome: Outcome
    as_of: datetime


@dataclass(frozen=True, slots=True)
class Verdict:
    """The answer to a question.

    There are four outcomes, not two, so a verdict is neither true nor false:
    ``if verdict`` raises; write ``if verdict.valid``.

    Attributes:
        outcome: VALID, INVALID, NO_MATCH or INDETERMINATE.
        reasons: Why, most weighty first; empty when valid without remark.
        drivable_classes: Classes that may be driven now, covered ones included; empty unless valid.
        letters: Status letters in effect.
        summary: One sentence for a person at a counter.
        freshness: How current the answer is; None for NO_MATCH.
        last_known: What was last known; only when the city has not been heard for too long.
        given_at: When the verdict was given.
        license: What your role sees of the licence, by field name as in ``license.proto`` (dates as objects
            with year, month and day, bytes in base64); empty when nothing was given; personal.
        fields: Which fields those are; a number where this version does not know it.
        at: The past moment that it is about; None when it is about ``given_at``.
        as_known_at: Whose knowledge it rests on; None for all that was known then.
    """

    outcome: Outcome
    reasons: tuple[VerdictReason | int, ...]
    drivable_classes: tuple[str, ...]
    letters: tuple[LetterStanding, ...]
    summary: str
    freshness: Freshness | None
    last_known: LastKnown | None
    given_at: datetime
    license: Mapping[str, Any] = field(default_factory=dict, repr=False)
    fields: tuple[LicenseField | int, ...] = ()
    at: datetime | None = None
    as_known_at: datetime | None = None

    @property
    def valid(self) -> bool:
        """Whether the licence is real and in force."""
        return self.outcome is Outcome.VALID

    def may_drive(self, vehicle_class: str) -> bool:
        """Tell whether the holder may drive a vehicle of that class now."""
        return self.valid and vehicle_class in self.drivable_classes

    def __bool__(self) -> NoReturn:
        raise TypeError("a verdict has four outcomes; ask verdict.valid or verdict.outcome")


@dataclass(frozen=True, slots=True)
class SignedVerdict:
    """A verdict and the evidence for it.

    Attributes:
        verdict: The verdict.
        statement: COSE_Sign1 over it; holds neither number nor name.
        opening: Salt with which its holder shows what was asked; keep it apart from the statement.
    """

    verdict: Verdict
    statement: bytes
    opening: bytes = field(repr=False)


def read_verdict(message: verification_pb2.Verdict) -> Verdict:
    """Return a verdict as it came over the wire."""
    return Verdict(
        outcome=read_outcome(message.outcome),
        reasons=tuple(map(_reason, message.reasons)),
        drivable_classes=tuple(message.drivable_classes),
        letters=tuple(map(_letter, message.letters)),
        summary=message.summary,
        freshness=_freshness(message.freshness) if message.HasField("freshness") else None,
        last_known=_last_known(message.last_known) if message.HasField("last_known") else None,
        given_at=read_instant(message.verdict_time),
        license=MessageToDict(message.license, preserving_proto_field_name=True),
        fields=tuple(map(read_field, message.fields)),
        at=read_instant(message.at_time) if message.HasField("at_time") else None,
        as_known_at=read_instant(message.as_known_time) if message.HasField("as_known_time") else None,
    )


def read_signed(message: verification_pb2.VerifyLicenseResponse) -> SignedVerdict:
    """Return a verdict with its evidence as they came over the wire."""
    return SignedVerdict(read_verdict(message.verdict), message.evidence.statement, message.evidence.opening)


def read_outcome(number: int) -> Outcome:
    """Return an outcome; INDETERMINATE for one that this version does not know."""
    try:
        return Outcome(number)
    except ValueError:
        return Outcome.INDETERMINATE


def _reason(number: int) -> VerdictReason | int:
    try:
        return VerdictReason(number)
    except ValueError:
        return number


def read_field(number: int) -> LicenseField | int:
    """Return a field; its number where this version does not know it."""
    try:
        return LicenseField(number)
    except ValueError:
        return number


def _source(number: int) -> Source:
    try:
        return Source(number)
    except ValueError:
        return Source.UNSPECIFIED


def _letter(message: verification_pb2.LetterStanding) -> LetterStanding:
    return LetterStanding(
        letter=message.letter,
        name=message.name,
        meaning=message.meaning,
        forbids_driving=message.forbids_driving,
        until=_day(message.until),
    )


def _day(text: str) -> date | None:
    try:
        return date.fromisoformat(text)
    except ValueError:
        return None


def _freshness(message: verification_pb2.Freshness) -> Freshness:
    return Freshness(
        source=_source(message.source),
        as_of=read_instant(message.as_of_time),
        city=message.city,
        log_size=message.log_size,
        log_epoch=message.log_epoch,
    )


def _last_known(message: verification_pb2.LastKnown) -> LastKnown:
    return LastKnown(read_outcome(message.outcome), read_instant(message.as_of_time))


def read_instant(timestamp: Timestamp) -> datetime:
    """Return an instant, in UTC."""
    return timestamp.ToDatetime(tzinfo=UTC)
