"""What the city's log writer is asked to do, and what comes of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from city_node.store import Request
from elicense.errors import Aborted, Error

if TYPE_CHECKING:
    from elicense.license.model import StatusLetter
    from elicense.v1 import license_pb2


class GrantLapsed(Aborted):
    """The registry's grant ended before the record that cites it was written; claim again."""

    reason = "GRANT_LAPSED"


@dataclass(frozen=True, slots=True)
class NewLicense:
    """A licence to issue; every rule but uniqueness has been checked.

    Attributes:
        request_id: Idempotency key, UUID bytes.
        digest: SHA-256 of the request's meaning.
        person_key: Tag of the person.
        record: The first revision, complete but for its time.
        lease_end_us: Until when the cited grant may be used; 0 when none is cited.
    """

    request_id: bytes
    digest: bytes
    person_key: bytes
    record: license_pb2.LicenseRecord
    lease_end_us: int


@dataclass(frozen=True, slots=True)
class IssueLicenses:
    """Issue licences, each for itself: one refused does not hold up the others."""

    items: tuple[NewLicense, ...]


@dataclass(frozen=True, slots=True)
class ChangeStatus:
    """Add and lift status letters of one licence in one revision.

    Attributes:
        request_id: Idempotency key, UUID bytes.
        digest: SHA-256 of the request's meaning.
        license_id: The licence.
        add: Letters to add or replace.
        lift: Letters to lift.
        etag: Version that was read; empty when it does not matter.
        actor: SPIFFE ID of the caller.
    """

    request_id: bytes
    digest: bytes
    license_id: bytes
    add: tuple[StatusLetter, ...]
    lift: tuple[str, ...]
    etag: str
    actor: str


Command = IssueLicenses | ChangeStatus


@dataclass(frozen=True, slots=True)
class Written:
    """A record of this commit.

    Attributes:
        request_id: Key of the request that caused it.
        digest: SHA-256 of the request's meaning.
        index: Its index in the log.
        person_key: Tag of the person.
        record: The record.
        flags: Flags that the licence gets in the city's view, besides those it has.
    """

    request_id: bytes
    digest: bytes
    index: int
    person_key: bytes
    record: license_pb2.LicenseRecord
    flags: int


@dataclass(frozen=True, slots=True)
class Done:
    """A request that an earlier commit has dealt with."""

    request: Request


Outcome = Written | Done | Error
"""What became of one licence of a command."""
