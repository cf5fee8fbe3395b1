"""Looks in the form in which city nodes ship them to the registry."""

from __future__ import annotations

from elicense.access.entry import PERSON_KEY_BYTES, AccessEntry, AccessPosition, RecordedAccess
from elicense.clock import from_timestamp, to_timestamp
from elicense.errors import Malformed
from elicense.license.fields import MASK_BYTES
from elicense.v1 import replication_pb2 as pb


def to_shipped(look: RecordedAccess) -> pb.ShippedAccess:
    """Return a look as it is sent."""
    entry = look.entry
    message = pb.ShippedAccess(
        day=look.position.day,
        sequence=look.position.sequence,
        access_time=to_timestamp(entry.at_us),
        verifier=entry.caller,
        role=entry.role,
        purpose=entry.purpose,
        case_number=entry.case_number,
        method=entry.method,
        subjects=entry.subjects,
        outcomes=entry.outcomes,
        fields=entry.fields,
    )
    if entry.sealed_until_us:
        message.sealed_until.CopyFrom(to_timestamp(entry.sealed_until_us))
    return message


def from_shipped(node: str, message: pb.ShippedAccess) -> RecordedAccess:
    """Return a look that was sent.

    Raises:
        Malformed: Subjects, outcomes and fields are not of one length.
    """
    count = len(message.outcomes)
    if len(message.subjects) != count * PERSON_KEY_BYTES or len(message.fields) != count * MASK_BYTES:
        raise Malformed("a look must have one outcome and one set of fields a subject")
    entry = AccessEntry(
        at_us=from_timestamp(message.access_time),
        caller=message.verifier,
        via="",
        role=message.role,
        purpose=message.purpose,
        case_number=message.case_number,
        method=message.method,
        subjects=message.subjects,
        outcomes=message.outcomes,
        fields=message.fields,
        sealed_until_us=from_timestamp(message.sealed_until) if message.HasField("sealed_until") else 0,
    )
    return RecordedAccess(node, AccessPosition(message.day, message.sequence), entry)
