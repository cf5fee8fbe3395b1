"""From stored records to what the API shows of them."""

from __future__ import annotations

import uuid
from typing import Final

from elicense.errors import Malformed, Violation
from elicense.license.codec import license_to_message
from elicense.license.model import License
from elicense.license.verdict import ViewFlags
from elicense.uuids import uuid_text
from elicense.v1 import license_pb2

_ETAG_BYTES: Final = 16


def license_name(city: int, license_id: bytes) -> str:
    """Return the resource name of a licence."""
    return f"cities/{city}/licenses/{uuid_text(license_id)}"


def parse_license_name(name: str) -> tuple[int, bytes]:
    """Return division code and licence id of a resource name whose pattern has been checked.

    Raises:
        Malformed: The licence is not a UUID in its one canonical form.
    """
    _, code, _, text = name.split("/")
    try:
        license_id = uuid.UUID(text)
    except ValueError as error:
        raise _not_a_name("the resource name does not end in a UUID") from error
    if str(license_id) != text:
        raise _not_a_name("the UUID of a resource name must be in its canonical form")
    return int(code), license_id.bytes


def _not_a_name(message: str) -> Malformed:
    return Malformed(message, violations=[Violation("name", "LICENSE_NAME_INVALID", message)])


def etag_of(entry_hash: bytes) -> str:
    """Return the opaque version of the revision with this entry hash."""
    return entry_hash[:_ETAG_BYTES].hex()


def with_license(record: license_pb2.LicenseRecord, before: License, after: License) -> license_pb2.LicenseRecord:
    """Return a copy of a record whose licence is ``after``; what a newer node wrote into unchanged fields stays.

    Args:
        record: The record.
        before: Its licence as values.
        after: The licence after the change.
    """
    changed = license_pb2.LicenseRecord()
    changed.CopyFrom(record)
    old = {field.name: value for field, value in license_to_message(before).ListFields()}
    new = {field.name: value for field, value in license_to_message(after).ListFields()}
    for name in sorted(old.keys() | new.keys()):
        if old.get(name) != new.get(name):
            changed.license.ClearField(name)
            if name in new:
                changed.license.MergeFrom(license_pb2.License(**{name: new[name]}))
    return changed


def shown(record: license_pb2.LicenseRecord, *, entry_hash: bytes, flags: int) -> license_pb2.License:
    """Return the licence of a record with its output-only fields filled in.

    Args:
        record: The record.
        entry_hash: Leaf hash of its entry.
        flags: Flags of the licence in the city's view.
    """
    license_ = license_pb2.License()
    license_.CopyFrom(record.license)
    license_.name = license_name(record.city, record.license_id)
    license_.etag = etag_of(entry_hash)
    license_.revision = record.revision
    license_.provisional = bool(flags & ViewFlags.PROVISIONAL)
    if flags & ViewFlags.VOID:
        license_.national_standing = license_pb2.NATIONAL_STANDING_VOID
    elif flags & ViewFlags.CONFLICT:
        license_.national_standing = license_pb2.NATIONAL_STANDING_CONFLICT
    return license_
