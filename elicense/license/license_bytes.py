"""A licence as bytes, straight from its values: for imports, which bring millions.

What comes out is, byte for byte, the deterministic serialization of the message that
:func:`elicense.license.codec.license_to_message` makes, without the fields that a city
fills in (name, etag, revision, provisional).  A message and its parts would cost several
times as much: drivers share days, so those are kept as bytes.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from functools import lru_cache
from typing import Final

from google.protobuf.message import Message

from elicense.license.civil_date import shared_message
from elicense.license.model import IdentityDocument, License, StatusLetter, Validity, VehicleClass
from elicense.license.standing import write_ban
from elicense.v1 import license_pb2 as pb

#: Days that are kept: some megabytes.
_KEPT: Final = 65_536
_NUMBER: Final = 0  # wire types (https://protobuf.dev/programming-guides/encoding/)
_BYTES: Final = 2
#: Negative numbers are written as what they are modulo this.
_MODULUS: Final = 1 << 64


def varint(value: int) -> bytes:
    """Return a number in base 128, as protobuf writes it."""
    value %= _MODULUS
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def tag(message: type[Message], field: str, wire_type: int = _BYTES) -> bytes:
    """Return what stands before a field's value: its number and its wire type."""
    return varint(message.DESCRIPTOR.fields_by_name[field].number << 3 | wire_type)


LENGTHS: Final = tuple(varint(length) for length in range(2_048))
"""Lengths of most fields, as they are written."""

FULL_NAME: Final = tag(pb.Holder, "full_name")
FAMILY_NAME: Final = tag(pb.Holder, "family_name_latin")
GIVEN_NAME: Final = tag(pb.Holder, "given_name_latin")
DOCUMENT: Final = tag(pb.Holder, "document")
SEX: Final = tag(pb.Holder, "sex", _NUMBER)
NATIONALITY: Final = tag(pb.Holder, "nationality")
BIRTH_DATE: Final = tag(pb.Holder, "birth_date")
ADDRESS: Final = tag(pb.Holder, "address")
DOCUMENT_TYPE: Final = tag(pb.IdentityDocument, "type", _NUMBER)
DOCUMENT_NUMBER: Final = tag(pb.IdentityDocument, "number")
HOLDER: Final = tag(pb.License, "holder")
CLASS: Final = tag(pb.License, "vehicle_classes")
FIRST_ISSUE: Final = tag(pb.License, "first_issue_date")
VALIDITY: Final = tag(pb.License, "validity")
ARCHIVE: Final = tag(pb.License, "archive_number")
AUTHORITY: Final = tag(pb.License, "issuing_authority")
DIVISION: Final = tag(pb.License, "division_code")
PHOTO: Final = tag(pb.License, "photo")
POINTS: Final = tag(pb.License, "points", _NUMBER)
POINTS_ROLL: Final = tag(pb.License, "points_roll_date")
_LIMIT: Final = tag(pb.License, "points_limit_date")
CODE: Final = tag(pb.VehicleClass, "code")
CLASS_FROM: Final = tag(pb.VehicleClass, "from_date")
_CLASS_UNTIL: Final = tag(pb.VehicleClass, "until_date")
_LIMITS: Final = tag(pb.VehicleClass, "limits")
_KIND: Final = tag(pb.Validity, "kind", _NUMBER)
_VALID_FROM: Final = tag(pb.Validity, "from_date")
_VALID_UNTIL: Final = tag(pb.Validity, "until_date")
_OFFERED: Final = tag(pb.License, "offered_to_city", _NUMBER)
SHA256: Final = tag(pb.Photo, "sha256")
CAPTURED: Final = tag(pb.Photo, "capture_date")
STANDING_CLASS: Final = tag(pb.LicenseStanding, "vehicle_classes")
STANDING_VALIDITY: Final = tag(pb.LicenseStanding, "validity")
STANDING_POINTS_ROLL: Final = tag(pb.LicenseStanding, "points_roll_date")


def license_bytes(license_: License) -> bytes:
    """Return the serialized ``License`` of a licence, without name and output-only fields but those of a record."""
    photo = license_.photo
    picture = field(SHA256, photo.sha256) + field(CAPTURED, day_bytes(photo.capture_date))
    parts = [field(HOLDER, _holder(license_))]
    parts += [field(CLASS, class_bytes(held)) for held in license_.vehicle_classes]
    parts += (
        field(FIRST_ISSUE, day_bytes(license_.first_issue_date)),
        field(VALIDITY, validity_bytes(license_.validity)),
        text_field(ARCHIVE, license_.archive_number),
        text_field(AUTHORITY, license_.issuing_authority),
        text_field(DIVISION, license_.division_code),
        field(PHOTO, picture),
    )
    if license_.status_letters:
        parts.append(letters_bytes(license_.status_letters))
    if license_.points:
        parts.append(POINTS + varint(license_.points))
    if license_.points_roll_date is not None:
        parts.append(field(POINTS_ROLL, day_bytes(license_.points_roll_date)))
    if license_.points_limit_date is not None:
        parts.append(field(_LIMIT, day_bytes(license_.points_limit_date)))
    if license_.offered_to_city:
        parts.append(_OFFERED + varint(license_.offered_to_city))
    return b"".join(parts)


def document_bytes(document: IdentityDocument) -> bytes:
    """Return the serialized ``IdentityDocument`` of a document."""
    kind = DOCUMENT_TYPE + varint(document.type) if document.type else b""
    return kind + text_field(DOCUMENT_NUMBER, document.number)


def standing_bytes(license_: License) -> bytes:
    """Return the serialized ``LicenseStanding`` of a licence: letters without legal basis and authority."""
    parts = [field(STANDING_CLASS, class_bytes(held)) for held in license_.vehicle_classes]
    if license_.status_letters:
        parts.append(standing_letters_bytes(license_.status_letters))
    parts.append(field(STANDING_VALIDITY, validity_bytes(license_.validity)))
    if license_.points_roll_date is not None:
        parts.append(field(STANDING_POINTS_ROLL, day_bytes(license_.points_roll_date)))
    return b"".join(parts)


def _holder(license_: License) -> bytes:
    holder = license_.holder
    return b"".join(
        (
            text_field(FULL_NAME, holder.full_name),
            text_field(FAMILY_NAME, holder.family_name_latin),
            text_field(GIVEN_NAME, holder.given_name_latin),
            field(DOCUMENT, document_bytes(holder.document)),
            SEX + varint(holder.sex) if holder.sex else b"",
            text_field(NATIONALITY, holder.nationality),
            field(BIRTH_DATE, day_bytes(holder.birth_date)),
            text_field(ADDRESS, holder.address),
        )
    )


def _letter(letter: StatusLetter, *, bare: bool = False) -> pb.StatusLetter:
    """Return a letter as a message; a bare one goes without legal basis and authority."""
    message = pb.StatusLetter(letter=letter.letter, start_date=shared_message(letter.start_date))
    if not bare:
        message.legal_basis, message.authority = letter.legal_basis, letter.authority
    if letter.end_date is not None:
        message.end_date.CopyFrom(shared_message(letter.end_date))
    if letter.ban is not None:
        write_ban(letter.ban, message)
    return message


def letters_bytes(letters: Sequence[StatusLetter]) -> bytes:
    """Return the fields of status letters in a serialized ``License``."""
    return pb.License(status_letters=[_letter(each) for each in letters]).SerializeToString(deterministic=True)


def standing_letters_bytes(letters: Sequence[StatusLetter]) -> bytes:
    """Return the fields of status letters in a serialized ``LicenseStanding``."""
    message = pb.LicenseStanding(status_letters=[_letter(each, bare=True) for each in letters])
    return message.SerializeToString(deterministic=True)


def class_bytes(held: VehicleClass) -> bytes:
    """Return the serialized ``VehicleClass`` of a class."""
    data = text_field(CODE, held.code) + field(CLASS_FROM, day_bytes(held.from_date))
    if held.until_date is not None:
        data += field(_CLASS_UNTIL, day_bytes(held.until_date))
    # An empty text in a list is written all the same.
    return data + b"".join([field(_LIMITS, limit.encode()) for limit in held.limits])


def validity_bytes(validity: Validity) -> bytes:
    """Return the serialized ``Validity`` of a validity."""
    kind = _KIND + varint(validity.kind) if validity.kind else b""
    data = kind + field(_VALID_FROM, day_bytes(validity.from_date))
    return data if validity.until_date is None else data + field(_VALID_UNTIL, day_bytes(validity.until_date))


def field(before: bytes, value: bytes) -> bytes:
    """Return a field of bytes, a text or a message: what stands before it, its length, and its value."""
    length = len(value)
    return before + (LENGTHS[length] if length < len(LENGTHS) else varint(length)) + value


def text_field(before: bytes, text: str) -> bytes:
    """Return a field of text, which is absent when it is empty."""
    return field(before, text.encode()) if text else b""


@lru_cache(maxsize=_KEPT)
def day_bytes(day: date) -> bytes:
    """Return the serialized ``Date`` of a day."""
    data: bytes = shared_message(day).SerializeToString()
    return data
