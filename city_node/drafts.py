"""From a request to all that its first revision holds but time and grant: numbers and bytes, worked out once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import date
from hashlib import sha256
from typing import Final, NamedTuple

from google.api import field_behavior_pb2

from elicense.errors import Malformed, Violation
from elicense.license.codec import license_from_message
from elicense.license.csv_line import read_line
from elicense.license.document import normalize_document
from elicense.license.eligibility import check_application
from elicense.license.license_bytes import document_bytes, field, license_bytes, standing_bytes, tag
from elicense.license.model import License
from elicense.license.plain_rows import PlainRow
from elicense.license.points import next_cycle
from elicense.uuids import uuid_bytes
from elicense.v1 import issuance_pb2, license_pb2, replication_pb2
from elicense.view.fold import letter_flags, license_flags
from elicense.view.person import PersonIndex

#: Fields of a licence that its city fills in: what a caller sends in them is ignored.
_NOT_TAKEN: Final = tuple(
    field.name
    for field in license_pb2.License.DESCRIPTOR.fields
    if {field_behavior_pb2.OUTPUT_ONLY, field_behavior_pb2.IDENTIFIER}
    & set(field.GetOptions().Extensions[field_behavior_pb2.field_behavior])
)
#: What is hashed before a licence, so that one request id can not stand for both.
_OF_IMPORT: Final = b"import\n"
_OF_COUNTER: Final = b"create\n"
_DOCUMENT: Final = tag(replication_pb2.PersonClaim, "document")
_LICENSE_ID: Final = tag(replication_pb2.PersonClaim, "license_id")
_REQUEST_ID: Final = tag(replication_pb2.PersonClaim, "request_id")
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
        license: The licence as a record of ``day`` will hold it, serialized.
        standing: What a verification reads of it.
        flags: What its letters make of it in the view.
        points: Points that it starts with; with any, ``license`` and ``standing`` say when they are cleared.
        day: Day of the application, in China, as its ordinal.
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
    day: int
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
        # Read, because to put a message together takes longer.
        parts = (field(_DOCUMENT, self.document), field(_LICENSE_ID, license_id), field(_REQUEST_ID, self.request_id))
        return replication_pb2.PersonClaim.FromString(b"".join(parts))


def read_message(message: license_pb2.License) -> License:
    """Return the licence that a caller sent, without what its city fills in; changes the message.

    Raises:
        Malformed: Some fields are not in the right form; all are named.
    """
    for name in _NOT_TAKEN:
        message.ClearField(name)
    return license_from_message(message)


def read_item(item: issuance_pb2.ImportItem, columns: Sequence[str]) -> License:
    """Return the licence of an existing driver; may change the message.

    Args:
        item: The driver.
        columns: Columns of a row.

    Raises:
        Malformed: It is not in the right form; every field or column that is not is named.
    """
    row = item.row
    if not row:
        return read_message(item.license)
    if item.HasField("license"):
        found = Violation("row", "LICENSE_GIVEN", "Give the row, or the licence.")
        raise Malformed("a driver comes as a row or as a licence, not as both", violations=[found])
    return read_line(row, columns)


def draft_of_row(row: PlainRow, *, request_id: str, actor: str, persons: PersonIndex, on: date) -> Draft:
    """Return what :func:`draft_of` makes of an existing driver in a plain row.

    Args:
        row: The row.
        request_id: Idempotency key.
        actor: SPIFFE ID of the caller.
        persons: Computes person and name tags.
        on: Day of the application, in China.
    """
    return Draft(
        uuid_bytes(request_id),
        sha256(_OF_IMPORT + row.asked).digest(),
        persons.person_key(row.document_type, row.document_number),
        persons.name_tag(row.full_name),
        row.document,
        row.license,
        row.standing,
        letter_flags(row.letters) if row.letters else 0,
        row.points,
        on.toordinal(),
        True,
        actor,
    )


def draft_of(
    license_: License,
    *,
    request_id: str,
    imported: bool,
    actor: str,
    persons: PersonIndex,
    city: int,
    on: date,
) -> Draft:
    """Judge a licence that is to be issued.

    Args:
        license_: The licence, in the right form.
        request_id: Idempotency key.
        imported: Whether an existing driver is carried in.
        actor: SPIFFE ID of the caller.
        persons: Computes person and name tags.
        city: Division code of the city that issues.
        on: Day of the application, in China.
    """
    holder = license_.holder
    document = normalize_document(holder.document)
    if document is not holder.document:
        license_ = replace(license_, holder=replace(holder, document=document))
    asked = kept = license_bytes(license_)
    broken = check_application(license_, on=on, city=city, imported=imported)
    if license_.points:
        license_ = replace(license_, points_roll_date=next_cycle(license_.first_issue_date, on))
        kept = license_bytes(license_)
    return Draft(
        request_id=uuid_bytes(request_id),
        digest=sha256((_OF_IMPORT if imported else _OF_COUNTER) + asked).digest(),
        person_key=persons.person_key(document.type, document.number),
        name_tag=persons.name_tag(holder.full_name),
        document=document_bytes(document),
        license=kept,
        standing=standing_bytes(license_),
        flags=license_flags(license_),
        points=license_.points,
        day=on.toordinal(),
        imported=imported,
        actor=actor,
        broken=broken,
    )
