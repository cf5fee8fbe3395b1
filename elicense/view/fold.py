"""From a record to a row of the view: the step that both sides share.

Works on the protobuf message itself, because it runs once for every record that
the registry ever receives.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from google.protobuf.message import DecodeError

from elicense.clock import from_timestamp
from elicense.errors import Malformed
from elicense.license.bans import BANNING_LETTERS, ban_of
from elicense.license.document import normalize_number
from elicense.license.identity_change import MAX_EARLIER_DOCUMENTS
from elicense.license.model import Ban, License, StatusLetter
from elicense.license.standing import decode_standing, standing_of
from elicense.license.verdict import OF_LATEST_RECORD, ViewFlags
from elicense.v1 import license_pb2 as pb
from elicense.view.links import PersonLink
from elicense.view.model import Revision, RowValues, ViewRow
from elicense.view.person import PersonIndex

LICENSE_ID_SIZE: Final = 16

MAX_REVISION: Final = 2**31 - 1
"""Highest revision number: a 32-bit column."""

MAX_EVENT: Final = 2**15 - 1
"""Highest number of an event, known or not: a 16-bit column."""

#: Range of a protobuf timestamp.
MIN_SECONDS: Final = -62_135_596_800
MAX_SECONDS: Final = 253_402_300_799
NANOS: Final = 1_000_000_000

CANCELLED_LETTER: Final = "G"
"""The letter of a cancelled licence."""


def read_record(record: bytes) -> pb.LicenseRecord:
    """Parse a record as far as the fold needs it; what it returns can be folded, stored and judged.

    Raises:
        Malformed: As :func:`read_with_standing`.
    """
    return read_with_standing(record)[0]


def read_with_standing(record: bytes) -> tuple[pb.LicenseRecord, bytes]:
    """Parse a record as far as the fold needs it, and return the standing of its licence too, serialized.

    Raises:
        Malformed: It is no LicenseRecord, lacks what the fold needs, or holds a number, a time or a
            date that no row of the view can hold.
    """
    try:
        message = pb.LicenseRecord.FromString(record)
    except DecodeError as error:
        raise Malformed("the record is not a LicenseRecord") from error
    # Taken once: every step to a message inside another makes an object.
    license_ = message.license
    number = license_.holder.document.number
    if len(message.license_id) != LICENSE_ID_SIZE or message.revision < 1 or not message.HasField("license"):
        raise Malformed("the record lacks its license, license id or revision number")
    if not number:
        raise Malformed("the record lacks the holder's document")
    # Two spellings of one number would be two persons.
    if number != normalize_number(number):
        raise Malformed("the document number is not in normal form")
    if message.earlier_documents:
        _check_earlier(message.earlier_documents)
    if message.revision > MAX_REVISION or not 0 <= message.event <= MAX_EVENT:
        raise Malformed("the event or revision number is out of range")
    for instant in (message.record_time, message.effective_time):
        if not MIN_SECONDS <= instant.seconds <= MAX_SECONDS or not 0 <= instant.nanos < NANOS:
            raise Malformed("a time lies outside the years 1 to 9999")
    return message, standing_of(license_)


def _check_earlier(documents: Sequence[pb.IdentityDocument]) -> None:
    if len(documents) > MAX_EARLIER_DOCUMENTS:
        raise Malformed("the record names more earlier documents than a holder may have had")
    if any(each.number != normalize_number(each.number) for each in documents):
        raise Malformed("an earlier document number is not in normal form")


def flags_of(message: pb.LicenseRecord) -> int:
    """Return the flags that a record itself gives its licence.

    A licence that is cancelled, by an event or by the letter G, holds its person
    no longer.  A revoked or annulled one does, whatever else happened to it, until
    its bar from applying anew is over.
    """
    flags = license_flags(message.license)
    cancelled = message.event == pb.LICENSE_EVENT_CANCELLED and not flags & ViewFlags.REVOKED
    return flags | (int(ViewFlags.CANCELLED) if cancelled else 0)


def license_flags(license_: pb.License | License) -> int:
    """Return the flags that a licence has by its letters and its open offer, whatever happened to it."""
    held = license_.status_letters
    offered = int(ViewFlags.OFFERED) if license_.offered_to_city else 0
    return offered | letter_flags(held) if held else offered


def letter_flags(held: Iterable[pb.StatusLetter | StatusLetter]) -> int:
    """Return the flags that a licence has by its letters alone."""
    letters = {letter.letter for letter in held}
    if letters & BANNING_LETTERS:
        return int(ViewFlags.REVOKED)
    return int(ViewFlags.CANCELLED) if CANCELLED_LETTER in letters else 0


def kept_flags(flags: int) -> int:
    """Return what a licence's flags leave standing when its next record comes."""
    return flags & ~OF_LATEST_RECORD


def row_ban(row: ViewRow) -> Ban | None:
    """Return the bar from applying anew that a licence brings its person; None when it brings none."""
    if not row.flags & ViewFlags.REVOKED:
        return None
    return ban_of(decode_standing(row.standing).status_letters)


def row_of(
    message: pb.LicenseRecord,
    *,
    index: int,
    leaf_hash: bytes,
    flags: int,
    persons: PersonIndex,
    person_key: bytes,
) -> ViewRow:
    """Return the view's row after ``message``, which lies at ``index`` of its city's log."""
    standing = standing_of(message.license)
    return ViewRow(*row_values(message, standing, index, leaf_hash, flags, persons, person_key))


def row_values(
    message: pb.LicenseRecord,
    standing: bytes,
    index: int,
    leaf_hash: bytes,
    flags: int,
    persons: PersonIndex,
    person_key: bytes,
) -> RowValues:
    """Return the columns of :func:`row_of`; ``standing`` is that of the record's licence."""
    return (
        person_key,
        message.license_id,
        message.city,
        message.epoch,
        index,
        message.revision,
        message.event,
        flags,
        leaf_hash,
        persons.name_tag(message.license.holder.full_name),
        standing,
        from_timestamp(message.record_time),
    )


def revision_of(message: pb.LicenseRecord, *, index: int, received_us: int, person_key: bytes) -> Revision:
    """Return the entry of the revision index for ``message``."""
    return Revision(
        message.license_id,
        message.city,
        message.epoch,
        index,
        message.revision,
        message.event,
        from_timestamp(message.effective_time),
        from_timestamp(message.record_time),
        received_us,
        person_key,
    )


def person_key_of(message: pb.LicenseRecord, persons: PersonIndex) -> bytes:
    """Return the tag of the person whom ``message`` is about: that of their first document."""
    earlier = message.earlier_documents
    document = earlier[0] if earlier else message.license.holder.document
    return persons.person_key(document.type, document.number)


def links_of(message: pb.LicenseRecord, persons: PersonIndex, *, index: int) -> list[PersonLink]:
    """Return the links that ``message``, at ``index`` of its log, makes: from every later document to the first."""
    if not message.earlier_documents:
        return []
    first = person_key_of(message, persons)
    later = [*message.earlier_documents[1:], message.license.holder.document]
    keys = dict.fromkeys(persons.person_key(document.type, document.number) for document in later)
    keys.pop(first, None)
    return [PersonLink(key, first, message.license_id, message.city, message.epoch, index) for key in keys]
