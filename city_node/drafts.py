"""From a request to a first revision that waits only for its time and its grant."""

from __future__ import annotations

import uuid
from dataclasses import dataclass, replace
from hashlib import sha256

from city_node.commands import NewLicense
from elicense.license.codec import license_from_message, license_to_message
from elicense.license.document import normalize_document
from elicense.license.model import License
from elicense.log.model import LogKey
from elicense.v1 import license_pb2, replication_pb2
from elicense.view.person import PersonIndex

#: Bytes of a record besides its licence: ids, times, actor, grant.
_RECORD_OVERHEAD = 512


@dataclass(frozen=True, slots=True)
class Draft:
    """A request to issue, read and normalized.

    Attributes:
        request_id: Idempotency key, UUID bytes.
        digest: SHA-256 of the request's meaning.
        license: The licence as values.
        message: The licence as the record will hold it.
        person_key: Tag of the person in this city's index.
        imported: Whether an existing driver is carried in.
        actor: SPIFFE ID of the caller.
    """

    request_id: bytes
    digest: bytes
    license: License
    message: license_pb2.License
    person_key: bytes
    imported: bool
    actor: str

    @property
    def size(self) -> int:
        """Most bytes that the record may have."""
        return self.message.ByteSize() + _RECORD_OVERHEAD

    def claim(self, license_id: bytes) -> replication_pb2.PersonClaim:
        """Return the claim that the registry is asked for."""
        return replication_pb2.PersonClaim(
            document=self.message.holder.document, license_id=license_id, request_id=self.request_id
        )

    def issue(self, key: LogKey, license_id: bytes, grant: license_pb2.ClaimGrant | None) -> NewLicense:
        """Return the first revision; provisional without a grant."""
        record = license_pb2.LicenseRecord(
            city=key.log,
            epoch=key.epoch,
            license_id=license_id,
            revision=1,
            event=license_pb2.LICENSE_EVENT_ISSUED,
            request_id=str(uuid.UUID(bytes=self.request_id)),
            actor=self.actor,
            license=self.message,
            claim=grant,
            provisional=grant is None,
            imported=self.imported,
            request_digest=self.digest,
        )
        lease_end = 0 if grant is None else grant.lease_end_time.ToMicroseconds()
        return NewLicense(self.request_id, self.digest, self.person_key, record, lease_end)


def draft_of(
    message: license_pb2.License, *, request_id: str, imported: bool, actor: str, persons: PersonIndex
) -> Draft:
    """Read a licence that is to be issued.

    Raises:
        Malformed: Some fields are not in the right form; all are named.
    """
    license_ = license_from_message(message)
    holder = license_.holder
    document = normalize_document(holder.document)
    # What the caller sent in output-only fields is ignored, and is no part of the request's meaning.
    license_ = replace(
        license_,
        holder=holder if document is holder.document else replace(holder, document=document),
        name="",
        etag="",
        revision=0,
        provisional=False,
        points_roll_date=None,
        offered_to_city=0,
    )
    kept = license_to_message(license_)
    meaning = (b"import\n" if imported else b"create\n") + kept.SerializeToString(deterministic=True)
    return Draft(
        request_id=uuid.UUID(request_id).bytes,
        digest=sha256(meaning).digest(),
        license=license_,
        message=kept,
        person_key=persons.person_key(document.type, document.number),
        imported=imported,
        actor=actor,
    )
