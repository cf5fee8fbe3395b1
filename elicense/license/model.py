"""The licence as frozen values, one class a message of ``license.proto``.

Dates are civil dates in China time; instants are UTC microseconds (``*_us``).
Enum fields hold the member when this node knows the number and the plain number
when it does not, so that a record of a newer node survives a round trip.

Fields that identify a person are left out of every ``repr``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date
from enum import IntEnum


class DocumentType(IntEnum):
    """Kind of document that identifies a holder; numbers as in the proto."""

    RESIDENT_ID = 1
    PASSPORT = 2
    PERMANENT_RESIDENCE = 3
    HK_MACAO_PERMIT = 4
    TAIWAN_PERMIT = 5
    MILITARY_ID = 6


class Sex(IntEnum):
    """Sex as ISO 5218 codes it."""

    UNSPECIFIED = 0
    MALE = 1
    FEMALE = 2
    NOT_APPLICABLE = 9


class ValidityKind(IntEnum):
    """Length of a validity period."""

    SIX_YEARS = 1
    TEN_YEARS = 2
    LONG_TERM = 3


class LicenseEvent(IntEnum):
    """What happened to a licence; numbers as in the proto."""

    ISSUED = 1
    UPDATED = 2
    RENEWED = 3
    STATUS_CHANGED = 4
    TRANSFERRED_OUT = 5
    TRANSFERRED_IN = 6
    CANCELLED = 7
    CORRECTED = 8
    ERASED = 9
    TRANSFER_WITHDRAWN = 10


@dataclass(frozen=True, slots=True)
class IdentityDocument:
    """The document whose number is the licence number.

    Attributes:
        type: Kind of document.
        number: Number as printed, upper case; personal.
    """

    type: DocumentType | int
    number: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Holder:
    """The person who holds the licence; every field but the nationality is personal.

    Attributes:
        full_name: Name in characters, as printed.
        document: The identity document.
        sex: ISO 5218.
        nationality: ISO 3166-1 alpha-2.
        birth_date: Date of birth.
        address: Residential address.
        family_name_latin: Family name in pinyin or Latin letters; may be empty.
        given_name_latin: Given name in pinyin or Latin letters; may be empty.
    """

    full_name: str = field(repr=False)
    document: IdentityDocument
    sex: Sex | int = field(repr=False)
    nationality: str
    birth_date: date = field(repr=False)
    address: str = field(repr=False)
    family_name_latin: str = field(default="", repr=False)
    given_name_latin: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class VehicleClass:
    """One class of vehicle that the holder may drive.

    Attributes:
        code: A1 to P; see :mod:`elicense.license.vehicle_classes`.
        from_date: First day on which the class was held.
        until_date: Last day, where the class ends before the licence.
        limits: Limits such as "glasses".
    """

    code: str
    from_date: date
    until_date: date | None = None
    limits: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Validity:
    """Period of validity.

    Attributes:
        kind: Six years, ten years or long-term.
        from_date: First day.
        until_date: Last day; absent when long-term.
    """

    kind: ValidityKind | int
    from_date: date
    until_date: date | None = None


@dataclass(frozen=True, slots=True)
class Ban:
    """A bar from applying anew; see :mod:`elicense.license.bans`.

    Attributes:
        ground: Code of the ground; empty where the term was stated itself.
        until: Last day on which the person may not apply; None when for life, or not worked out yet.
        for_life: Whether it never ends.
    """

    ground: str = ""
    until: date | None = None
    for_life: bool = False


@dataclass(frozen=True, slots=True)
class StatusLetter:
    """One status letter of the set that a licence carries.

    Attributes:
        letter: Letter of GA/T 16.25; see :mod:`elicense.license.status_letters`.
        start_date: Day from which it has effect.
        end_date: Last day of effect; absent when open-ended.
        legal_basis: Law and article on which it rests.
        authority: Authority that set it.
        ban: Bar from applying anew; of E and F alone.
    """

    letter: str
    start_date: date
    end_date: date | None = None
    legal_basis: str = ""
    authority: str = ""
    ban: Ban | None = None


@dataclass(frozen=True, slots=True)
class Photo:
    """The portrait, by reference.

    Attributes:
        sha256: SHA-256 of the picture's bytes.
        capture_date: Day on which it was taken.
    """

    sha256: bytes = field(repr=False)
    capture_date: date


@dataclass(frozen=True, slots=True)
class License:
    """A driver's licence as it stands.

    Attributes:
        holder: Who holds it.
        vehicle_classes: Classes, at least one.
        first_issue_date: Day of the holder's first licence ever.
        validity: Period of validity.
        archive_number: Twelve digits; personal.
        issuing_authority: In characters.
        division_code: Division of the issuing authority, six digits.
        photo: Portrait.
        status_letters: Empty, or A alone, means normal.
        points: Points of the running twelve-month cycle.
        name: Resource name; not part of a record before the city gives one.
        etag: Opaque version; output only, never in a record.
        revision: Revision number; output only, never in a record.
        provisional: Not yet claimed nationally; output only, never in a record.
        points_roll_date: First day of the next point cycle; None without points.
        points_limit_date: Day on which twelve points were last reached; None when never.
        offered_to_city: Division code of the city that custody is offered to; 0 without an open offer.
    """

    holder: Holder
    vehicle_classes: tuple[VehicleClass, ...]
    first_issue_date: date
    validity: Validity
    archive_number: str = field(repr=False)
    issuing_authority: str
    division_code: str
    photo: Photo
    status_letters: tuple[StatusLetter, ...] = ()
    points: int = 0
    name: str = ""
    etag: str = ""
    revision: int = 0
    provisional: bool = False
    points_roll_date: date | None = None
    points_limit_date: date | None = None
    offered_to_city: int = 0


@dataclass(frozen=True, slots=True)
class ClaimGrant:
    """The registry's grant of a person to a city, by its place in the registry log."""

    registry_epoch: int
    registry_index: int


@dataclass(frozen=True, slots=True)
class Correction:
    """Which revision a correction puts right: its number, its entry hash, and why it was wrong."""

    revision: int
    entry_hash: bytes
    reason: str


@dataclass(frozen=True, slots=True)
class TransferSource:
    """Where the revision lies that a take-over follows: city, epoch and index."""

    city: int
    epoch: int
    index: int


@dataclass(frozen=True, slots=True)
class LicenseRecord:
    """One revision of one licence, as it lies in a city's log.

    Attributes:
        city: Division code of the city whose log holds the record.
        epoch: Log epoch, from 1.
        license_id: Licence as 16 UUID bytes.
        revision: 1, 2, 3 and so on.
        previous_entry_hash: Entry hash of the revision before; empty for the first.
        event: What happened; a plain number when this node does not know it.
        request_id: Idempotency key of the request.
        actor: SPIFFE ID of the caller.
        record_time_us: When the city wrote it.
        effective_time_us: From when it counts.
        license: The whole licence after the event; absent once erased.
        claim: Grant that allowed a first revision; absent when provisional.
        provisional: Issued without a grant.
        imported: Carries an existing driver into the log.
        request_digest: SHA-256 of the request's meaning, to tell another body under the same request id.
        basis: Law, decision or rule on which the change rests; may be empty.
        correction: What was put right; of a correction alone.
        taken_over_from: Where the revision before it lies; of a take-over alone.
        earlier_documents: Documents that named the holder before the present one, oldest first.
    """

    city: int
    epoch: int
    license_id: bytes
    revision: int
    previous_entry_hash: bytes
    event: LicenseEvent | int
    request_id: str
    actor: str
    record_time_us: int
    effective_time_us: int
    license: License | None
    claim: ClaimGrant | None = None
    provisional: bool = False
    imported: bool = False
    request_digest: bytes = b""
    basis: str = ""
    correction: Correction | None = None
    taken_over_from: TransferSource | None = None
    earlier_documents: tuple[IdentityDocument, ...] = ()


@dataclass(frozen=True, slots=True)
class Standing:
    """The part of a licence that decides whether it may be driven on.

    Letters carry their dates only, neither legal basis nor authority.

    Attributes:
        vehicle_classes: Classes with their dates.
        status_letters: Letters with their dates.
        validity: Period of validity; absent when nothing is left of the licence.
        points_roll_date: As in the licence.
    """

    vehicle_classes: tuple[VehicleClass, ...]
    status_letters: tuple[StatusLetter, ...]
    validity: Validity | None
    points_roll_date: date | None = None
