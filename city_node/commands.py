"""What the city's log writer is asked to do, and what comes of it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING, NamedTuple

from city_node.drafts import Draft
from city_node.store import Request
from elicense.errors import Aborted, Error
from elicense.license.verdict import ViewFlags
from elicense.log.model import LogKey
from elicense.v1 import license_pb2

if TYPE_CHECKING:
    from elicense.license.change import Change
    from elicense.license.transfer import TakeOver
    from elicense.view.model import ViewRow


class GrantLapsed(Aborted):
    """The registry's grant ended before the record that cites it was written; claim again."""

    reason = "GRANT_LAPSED"


class Deferred(Aborted):
    """Another record of the licence comes first: one of the same commit, or one that the days bring."""

    reason = "LICENSE_BUSY"


class NothingDue(Aborted):
    """No day brings the licence anything any more; somebody else was faster."""

    reason = "NOTHING_DUE"


class NewLicense(NamedTuple):
    """A licence to issue; every rule but uniqueness has been checked.

    Attributes:
        draft: What it holds.
        license_id: The licence, 16 UUID bytes.
        citation: The grant that its record cites, serialized; empty when it is provisional.
        lease_end_us: Until when the cited grant may be used; 0 when none is cited.
    """

    draft: Draft
    license_id: bytes
    citation: bytes = b""
    lease_end_us: int = 0


@dataclass(frozen=True, slots=True)
class IssueLicenses:
    """Issue licences, each for itself: one refused does not hold up the others."""

    items: tuple[NewLicense, ...]


@dataclass(frozen=True, slots=True)
class ChangeLicense:
    """Change one licence in one revision.

    Attributes:
        request_id: Idempotency key, UUID bytes.
        digest: SHA-256 of the request's meaning.
        license_id: The licence.
        change: What to change.
        etag: Version that was read; empty when it does not matter.
        actor: SPIFFE ID of the caller.
        new_key: Tag of the new document of a changed identity; empty for any other change.
        grant: The registry's grant of it, as the record cites it; None where none is needed.
    """

    request_id: bytes
    digest: bytes
    license_id: bytes
    change: Change
    etag: str
    actor: str
    new_key: bytes = b""
    grant: license_pb2.ClaimGrant | None = None


@dataclass(frozen=True, slots=True)
class ApplyRules:
    """Apply to each licence the next step that the days up to one day bring; one that is due nothing stays.

    Attributes:
        licenses: The licences, each by its person's tag and its id.
        day: The last day that counts, in China; never one to come.
    """

    licenses: tuple[tuple[bytes, bytes], ...]
    day: date


@dataclass(frozen=True, slots=True)
class TakeOverLicense:
    """Take over a licence that another city offers; that the offer is genuine has been checked.

    Attributes:
        request_id: Idempotency key, UUID bytes.
        digest: SHA-256 of the request's meaning.
        latest: The licence as it stands in the other city, by its latest record there.
        entry: Bytes of that record.
        change: What the take-over changes.
        actor: SPIFFE ID of the caller.
    """

    request_id: bytes
    digest: bytes
    latest: ViewRow
    entry: bytes
    change: TakeOver
    actor: str


@dataclass(frozen=True, slots=True)
class EraseLicense:
    """Erase one licence; that it may be was checked.

    Attributes:
        request_id: Idempotency key, UUID bytes.
        digest: SHA-256 of the request's meaning, which holds nothing of a person.
        license_id: The licence.
        entry_hash: Hash of the record that was its latest when that was checked.
        basis: Law and reason.
        actor: SPIFFE ID of the caller.
    """

    request_id: bytes
    digest: bytes
    license_id: bytes
    entry_hash: bytes
    basis: str
    actor: str


@dataclass(frozen=True, slots=True)
class EraseOnOrder:
    """Erase what this city has of a licence that another city, which had custody, has erased.

    Attributes:
        request_id: Follows from the registry's word, UUID bytes.
        license_id: The licence.
        epoch: Epoch of the record that the word names.
        idx: Its index.
        by_city: The other city.
    """

    request_id: bytes
    license_id: bytes
    epoch: int
    idx: int
    by_city: int


Command = IssueLicenses | ChangeLicense | ApplyRules | TakeOverLicense | EraseLicense | EraseOnOrder


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
        erases: Whether the record erases its licence.
    """

    request_id: bytes
    digest: bytes
    index: int
    person_key: bytes
    record: license_pb2.LicenseRecord
    flags: int
    erases: bool = False


@dataclass(frozen=True, slots=True)
class WrittenFirst:
    """A first revision of this commit.

    Attributes:
        item: What it was made of.
        key: The log.
        index: Its index there.
        data: Bytes of the record.
        standing: Standing of its licence.
        recorded_us: When it was written.
    """

    item: NewLicense
    key: LogKey
    index: int
    data: bytes
    standing: bytes
    recorded_us: int

    @property
    def record(self) -> license_pb2.LicenseRecord:
        """The record, as a message."""
        return license_pb2.LicenseRecord.FromString(self.data)

    @property
    def flags(self) -> int:
        """Flags of the licence in the city's view."""
        return self.item.draft.flags | (0 if self.item.citation else int(ViewFlags.PROVISIONAL))


@dataclass(frozen=True, slots=True)
class Done:
    """A request that an earlier commit has dealt with."""

    request: Request


Outcome = Written | WrittenFirst | Done | Error
"""What became of one licence of a command."""
