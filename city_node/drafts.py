"""From a request to all that its first revision holds but time and grant: numbers and bytes, worked out once."""

from __future__ import annotations

from datetime import date
from hashlib import sha256
from typing import Final, NamedTuple

from google.api import field_behavior_pb2

from elicense.errors import Violation
from elicense.license.codec import license_from_message, license_to_message
from elicense.license.document import normalize_number
from elicense.license.eligibility import check_application
from elicense.license.standing import standing_of
from elicense.uuids import uuid_bytes
from elicense.v1 import license_pb2, replication_pb2
from elicense.view.fold import license_flags
from elicense.view.person import PersonIndex

#: Fields of a licence that its city fills in: what a caller sends in them is ignored.
_NOT_TAKEN: Final = tuple(
    field.name
    for field in license_pb2.License.DESCRIPTOR.fields
    if {field_behavior_pb2.OUTPUT_ONLY, field_behavior_pb2.IDENTIFIER}
    & set(field.GetOptions().Extensions[field_behavior_pb2.field_behavior])
)
#: Bytes of a record besides its licence: ids, times, actor, grant.
_RECORD_OVERHEAD = 512


class Draft(NamedTuple):
    """A request to issue, read, normalized and judged by itself; a tuple, because an import brings thousands.

    Attributes:
        request_id: Idempotency key, UUID bytes.
        digest: SHA-256 of the request's meaning.
        person_key: Tag of the person in this city's index.
        name_tag: Tag of the holder's name there.
        document: The holder's document, serialized, its number in normal form.
        license: The licence as the record will hold it, serialized; without points also to the last byte.
        standing: What a verification reads of it.
        flags: What its letters make of it in the view.
        points: Points that it starts with; from when they are cleared is known only once it is written.
        imported: Whether an existing driver is carried in.
        actor: SPIFFE ID of the caller.
        broken: Every rule that it breaks.
    """

    request_id: bytes
    digest: bytes
    person_key: bytes
    name_tag: bytes
    document: bytes
    license: bytes
    standing: bytes
    flags: int
    points: int
    imported: bool
    actor: str
    broken: tuple[Violation, ...] = ()

    @property
    def size(self) -> int:
        """Most bytes that the record may have."""
        return len(self.license) + _RECORD_OVERHEAD

    @property
    def message(self) -> license_pb2.License:
        """The licence, as a message."""
        return license_pb2.License.FromString(self.license)

    def claim(self, license_id: bytes) -> replication_pb2.PersonClaim:
        """Return the claim that the registry is asked for."""
        claim = replication_pb2.PersonClaim(license_id=license_id, request_id=self.request_id)
        claim.document.MergeFromString(self.document)
        return claim


def draft_of(
    message: license_pb2.License,
    *,
    request_id: str,
    imported: bool,
    actor: str,
    persons: PersonIndex,
    city: int,
    on: date,
) -> Draft:
    """Read and judge a licence that is to be issued.

    Args:
        message: The licence; becomes what the record will hold.
        request_id: Idempotency key.
        imported: Whether an existing driver is carried in.
        actor: SPIFFE ID of the caller.
        persons: Computes person and name tags.
        city: Division code of the city that issues.
        on: Day of the application, in China.

    Raises:
        Malformed: Some fields are not in the right form; all are named.
    """
    for field in _NOT_TAKEN:
        message.ClearField(field)
    message.DiscardUnknownFields()
    # Taken once: every step to a message inside another makes an object.
    holder = message.holder
    document = holder.document
    number = document.number
    normal = normalize_number(number)
    if normal != number:
        document.number = normal
    license_ = license_from_message(message)
    if license_.status_letters:
        # They hold messages of their own, which have more than one form.
        message = license_to_message(license_)
    kept = message.SerializeToString(deterministic=True)
    return Draft(
        request_id=uuid_bytes(request_id),
        digest=sha256((b"import\n" if imported else b"create\n") + kept).digest(),
        person_key=persons.person_key(document.type, normal),
        name_tag=persons.name_tag(holder.full_name),
        document=document.SerializeToString(deterministic=True),
        license=kept,
        standing=standing_of(message),
        flags=license_flags(message),
        points=license_.points,
        imported=imported,
        actor=actor,
        broken=check_application(license_, on=on, city=city, imported=imported),
    )
