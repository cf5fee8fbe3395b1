"""Between the licence on the wire (``license.proto``) and the licence as values.

Reading a *request* is strict: every field in the wrong form is named at once.
Reading a *record* is tolerant, because a log is true whatever a newer node wrote
into it: numbers and letters that this node does not know survive; only bytes that
are no record, or hold dates that do not exist, are refused.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from google.protobuf.message import DecodeError
from google.protobuf.timestamp_pb2 import Timestamp

from elicense.clock import SECOND_US, from_timestamp
from elicense.errors import Malformed, Violation
from elicense.license.civil_date import date_from_message, date_to_message, shared_message
from elicense.license.model import (
    ClaimGrant,
    Correction,
    DocumentType,
    Holder,
    IdentityDocument,
    License,
    LicenseEvent,
    LicenseRecord,
    Photo,
    Sex,
    StatusLetter,
    TransferSource,
)
from elicense.license.shape import shape_violations
from elicense.license.standing import (
    decode_standing,
    read_ban,
    read_classes,
    read_date,
    read_letters,
    read_validity,
    write_ban,
    write_classes,
    write_validity,
)
from elicense.v1 import license_pb2 as pb

__all__ = [
    "date_from_message",
    "date_to_message",
    "decode_record",
    "decode_standing",
    "encode_record",
    "letter_from_message",
    "license_from_message",
    "license_to_message",
    "license_values",
]

_DOCUMENT_TYPES: Final = {int(member): member for member in DocumentType}
_SEXES: Final = {int(member): member for member in Sex}
_EVENTS: Final = {int(member): member for member in LicenseEvent}


def _fill(message: pb.License, license_: License) -> None:
    """Write everything but the output-only fields; attribute by attribute, twice as fast as constructors."""
    if license_.name:
        message.name = license_.name
    holder = license_.holder
    person = message.holder
    person.full_name = holder.full_name
    person.family_name_latin = holder.family_name_latin
    person.given_name_latin = holder.given_name_latin
    document = person.document
    document.type = holder.document.type  # type: ignore[assignment]  # open enums: any number is kept
    document.number = holder.document.number
    person.sex = holder.sex  # type: ignore[assignment]
    person.nationality = holder.nationality
    person.birth_date.CopyFrom(shared_message(holder.birth_date))
    person.address = holder.address
    write_classes(license_.vehicle_classes, message)
    message.first_issue_date.CopyFrom(shared_message(license_.first_issue_date))
    write_validity(license_.validity, message)
    message.archive_number = license_.archive_number
    message.issuing_authority = license_.issuing_authority
    message.division_code = license_.division_code
    photo = message.photo
    photo.sha256 = license_.photo.sha256
    photo.capture_date.CopyFrom(shared_message(license_.photo.capture_date))
    for letter in license_.status_letters:
        kept = message.status_letters.add(
            letter=letter.letter,
            legal_basis=letter.legal_basis,
            start_date=shared_message(letter.start_date),
            authority=letter.authority,
        )
        if letter.end_date is not None:
            kept.end_date.CopyFrom(shared_message(letter.end_date))
        if letter.ban is not None:
            write_ban(letter.ban, kept)
    message.points = license_.points
    if license_.points_roll_date is not None:
        message.points_roll_date.CopyFrom(shared_message(license_.points_roll_date))
    if license_.points_limit_date is not None:
        message.points_limit_date.CopyFrom(shared_message(license_.points_limit_date))
    if license_.offered_to_city:
        message.offered_to_city = license_.offered_to_city


def license_to_message(license_: License) -> pb.License:
    """Return a licence as a message, output-only fields included."""
    message = pb.License(etag=license_.etag, revision=license_.revision, provisional=license_.provisional)
    _fill(message, license_)
    return message


def _read_license(message: pb.License, faults: list[Violation], path: str) -> License:
    person = message.holder
    document = person.document
    photo = message.photo
    document_type: int = document.type
    sex: int = person.sex
    letters = message.status_letters
    return License(
        Holder(
            person.full_name,
            IdentityDocument(_DOCUMENT_TYPES.get(document_type, document_type), document.number),
            _SEXES.get(sex, sex),
            person.nationality,
            read_date(person.birth_date, faults, path + "holder.birth_date"),
            person.address,
            person.family_name_latin,
            person.given_name_latin,
        ),
        read_classes(message.vehicle_classes, faults, path),
        read_date(message.first_issue_date, faults, path + "first_issue_date"),
        read_validity(message.validity, faults, path),
        message.archive_number,
        message.issuing_authority,
        message.division_code,
        Photo(photo.sha256, read_date(photo.capture_date, faults, path + "photo.capture_date")),
        read_letters(letters, faults, path + "status_letters") if letters else (),
        message.points,
        message.name,
        message.etag,
        message.revision,
        message.provisional,
        read_date(message.points_roll_date, faults, path + "points_roll_date")
        if message.HasField("points_roll_date")
        else None,
        read_date(message.points_limit_date, faults, path + "points_limit_date")
        if message.HasField("points_limit_date")
        else None,
        message.offered_to_city,
    )


def license_from_message(message: pb.License, path: str = "license.") -> License:
    """Return the licence in a request.

    Args:
        message: The licence on the wire.
        path: What stands before each field's name in the violations.

    Raises:
        Malformed: Some fields break the form that the wire contract states; all are named.
    """
    faults: list[Violation] = []
    license_ = _read_license(message, faults, path)
    faults.extend(shape_violations(license_, path))
    if faults:
        raise Malformed("the licence is not in the right form; correct the fields named", violations=faults)
    return license_


def license_values(message: pb.License, paths: Iterable[str]) -> License:
    """Return the values that an update takes from a licence of which only some fields are given.

    Args:
        message: The licence on the wire.
        paths: Fields that are taken, such as ``holder.address``; no other field is looked at.

    Raises:
        Malformed: Some of these fields break the form of the wire contract; all are named.
    """
    faults: list[Violation] = []
    license_ = _read_license(message, faults, "license.")
    faults.extend(shape_violations(license_, "license."))
    fields = tuple(f"license.{path}" for path in paths)
    taken = [
        fault
        for fault in faults
        if any(fault.field == field or fault.field.startswith((f"{field}.", f"{field}[")) for field in fields)
    ]
    if taken:
        raise Malformed("the licence is not in the right form; correct the fields named", violations=taken)
    return license_


def letter_from_message(message: pb.StatusLetter, path: str = "") -> StatusLetter:
    """Return one status letter of a request.

    Args:
        message: The letter on the wire.
        path: Path of the letter in the request, such as ``add_letters[0]``.

    Raises:
        Malformed: A date is missing or does not exist.
    """
    faults: list[Violation] = []
    prefix = path + "." if path else ""
    letter = StatusLetter(
        message.letter,
        read_date(message.start_date, faults, prefix + "start_date"),
        read_date(message.end_date, faults, prefix + "end_date") if message.HasField("end_date") else None,
        message.legal_basis,
        message.authority,
        read_ban(message.ban, faults, prefix + "ban") if message.HasField("ban") else None,
    )
    if faults:
        raise Malformed("a status letter has a wrong date", violations=faults)
    return letter


def _write_instant(message: Timestamp, us: int) -> None:
    seconds, micros = divmod(us, SECOND_US)
    message.seconds = seconds
    message.nanos = micros * 1_000


def encode_record(record: LicenseRecord) -> bytes:
    """Serialize a record, once and for ever: these bytes are hashed, stored and forwarded as they are.

    The output-only fields of its licence (etag, revision, provisional) are left empty.
    """
    message = pb.LicenseRecord(
        city=record.city,
        epoch=record.epoch,
        license_id=record.license_id,
        revision=record.revision,
        previous_entry_hash=record.previous_entry_hash,
        event=record.event,  # type: ignore[arg-type]  # an open enum: any number is kept
        request_id=record.request_id,
        actor=record.actor,
        provisional=record.provisional,
        imported=record.imported,
        request_digest=record.request_digest,
    )
    _write_instant(message.record_time, record.record_time_us)
    _write_instant(message.effective_time, record.effective_time_us)
    if record.license is not None:
        _fill(message.license, record.license)
    if record.claim is not None:
        message.claim.registry_epoch = record.claim.registry_epoch
        message.claim.registry_index = record.claim.registry_index
    message.basis = record.basis
    if record.correction is not None:
        message.correction.revision = record.correction.revision
        message.correction.entry_hash = record.correction.entry_hash
        message.correction.reason = record.correction.reason
    if record.taken_over_from is not None:
        source = record.taken_over_from
        message.taken_over_from.city, message.taken_over_from.epoch = source.city, source.epoch
        message.taken_over_from.index = source.index
    for document in record.earlier_documents:
        message.earlier_documents.add(type=document.type, number=document.number)
    return message.SerializeToString()


def decode_record(data: bytes) -> LicenseRecord:
    """Return the record in ``data``; whatever this node does not know of it survives as plain numbers.

    Raises:
        Malformed: The bytes are no record, or a date in them is missing or does not exist.
    """
    try:
        message = pb.LicenseRecord.FromString(data)
    except DecodeError as error:
        raise Malformed("the bytes are not a LicenseRecord message") from error
    faults: list[Violation] = []
    event: int = message.event
    record = LicenseRecord(
        city=message.city,
        epoch=message.epoch,
        license_id=message.license_id,
        revision=message.revision,
        previous_entry_hash=message.previous_entry_hash,
        event=_EVENTS.get(event, event),
        request_id=message.request_id,
        actor=message.actor,
        record_time_us=from_timestamp(message.record_time),
        effective_time_us=from_timestamp(message.effective_time),
        license=_read_license(message.license, faults, "license.") if message.HasField("license") else None,
        claim=ClaimGrant(message.claim.registry_epoch, message.claim.registry_index)
        if message.HasField("claim")
        else None,
        provisional=message.provisional,
        imported=message.imported,
        request_digest=message.request_digest,
        basis=message.basis,
        correction=Correction(message.correction.revision, message.correction.entry_hash, message.correction.reason)
        if message.HasField("correction")
        else None,
        taken_over_from=TransferSource(
            message.taken_over_from.city, message.taken_over_from.epoch, message.taken_over_from.index
        )
        if message.HasField("taken_over_from")
        else None,
        earlier_documents=tuple(
            IdentityDocument(_DOCUMENT_TYPES.get(document.type, document.type), document.number)
            for document in message.earlier_documents
        ),
    )
    if faults:
        raise Malformed("the record holds dates that do not exist", violations=faults)
    return record
