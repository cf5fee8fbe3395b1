"""A licence as bytes, straight from its values: for imports, which bring millions.

What comes out is, byte for byte, the deterministic serialization of the message that
:func:`elicense.license.codec.license_to_message` makes, without the fields that a city
fills in (name, etag, revision, provisional).  A message and its parts would cost several
times as much: drivers share days, classes and periods, so those are kept as bytes.
"""

from __future__ import annotations

from datetime import date
from functools import lru_cache
from typing import Final

from google.protobuf.message import Message

from elicense.license.civil_date import shared_message
from elicense.license.model import IdentityDocument, License, StatusLetter, Validity, VehicleClass
from elicense.license.standing import write_ban
from elicense.v1 import license_pb2 as pb

#: Days, classes and periods kept, each: some megabytes.
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


#: Lengths of most fields.
_LENGTHS: Final = tuple(varint(length) for length in range(2_048))

_FULL_NAME: Final = tag(pb.Holder, "full_name")
_FAMILY_NAME: Final = tag(pb.Holder, "family_name_latin")
_GIVEN_NAME: Final = tag(pb.Holder, "given_name_latin")
_DOCUMENT: Final = tag(pb.Holder, "document")
_SEX: Final = tag(pb.Holder, "sex", _NUMBER)
_NATIONALITY: Final = tag(pb.Holder, "nationality")
_BIRTH_DATE: Final = tag(pb.Holder, "birth_date")
_ADDRESS: Final = tag(pb.Holder, "address")
_TYPE: Final = tag(pb.IdentityDocument, "type", _NUMBER)
_DOCUMENT_NUMBER: Final = tag(pb.IdentityDocument, "number")
_HOLDER: Final = tag(pb.License, "holder")
_CLASS: Final = tag(pb.License, "vehicle_classes")
_FIRST_ISSUE: Final = tag(pb.License, "first_issue_date")
_VALIDITY: Final = tag(pb.License, "validity")
_ARCHIVE: Final = tag(pb.License, "archive_number")
_AUTHORITY: Final = tag(pb.License, "issuing_authority")
_DIVISION: Final = tag(pb.License, "division_code")
_PHOTO: Final = tag(pb.License, "photo")
_POINTS: Final = tag(pb.License, "points", _NUMBER)
_ROLL: Final = tag(pb.License, "points_roll_date")
_LIMIT: Final = tag(pb.License, "points_limit_date")
_OFFERED: Final = tag(pb.License, "offered_to_city", _NUMBER)
_SHA256: Final = tag(pb.Photo, "sha256")
_CAPTURED: Final = tag(pb.Photo, "capture_date")
_STANDING_CLASS: Final = tag(pb.LicenseStanding, "vehicle_classes")
_STANDING_VALIDITY: Final = tag(pb.LicenseStanding, "validity")
_STANDING_ROLL: Final = tag(pb.LicenseStanding, "points_roll_date")


def license_bytes(license_: License) -> bytes:
    """Return the serialized ``License`` of a licence, without name and output-only fields but those of a record."""
    photo = license_.photo
    picture = _field(_SHA256, photo.sha256) + _field(_CAPTURED, _day(photo.capture_date))
    parts = [_field(_HOLDER, _holder(license_))]
    parts += [_field(_CLASS, _class(held)) for held in license_.vehicle_classes]
    parts += (
        _field(_FIRST_ISSUE, _day(license_.first_issue_date)),
        _field(_VALIDITY, _validity(license_.validity)),
        _text(_ARCHIVE, license_.archive_number),
        _text(_AUTHORITY, license_.issuing_authority),
        _text(_DIVISION, license_.division_code),
        _field(_PHOTO, picture),
    )
    if license_.status_letters:
        letters = pb.License(status_letters=[_letter(each) for each in license_.status_letters])
        parts.append(letters.SerializeToString(deterministic=True))
    if license_.points:
        parts.append(_POINTS + varint(license_.points))
    if license_.points_roll_date is not None:
        parts.append(_field(_ROLL, _day(license_.points_roll_date)))
    if license_.points_limit_date is not None:
        parts.append(_field(_LIMIT, _day(license_.points_limit_date)))
    if license_.offered_to_city:
        parts.append(_OFFERED + varint(license_.offered_to_city))
    return b"".join(parts)


def document_bytes(document: IdentityDocument) -> bytes:
    """Return the serialized ``IdentityDocument`` of a document."""
    kind = _TYPE + varint(document.type) if document.type else b""
    return kind + _text(_DOCUMENT_NUMBER, document.number)


def standing_bytes(license_: License) -> bytes:
    """Return the serialized ``LicenseStanding`` of a licence: letters without legal basis and authority."""
    parts = [_field(_STANDING_CLASS, _class(held)) for held in license_.vehicle_classes]
    if license_.status_letters:
        letters = [_letter(each, bare=True) for each in license_.status_letters]
        parts.append(pb.LicenseStanding(status_letters=letters).SerializeToString(deterministic=True))
    parts.append(_field(_STANDING_VALIDITY, _validity(license_.validity)))
    if license_.points_roll_date is not None:
        parts.append(_field(_STANDING_ROLL, _day(license_.points_roll_date)))
    return b"".join(parts)


def _holder(license_: License) -> bytes:
    holder = license_.holder
    return b"".join(
        (
            _text(_FULL_NAME, holder.full_name),
            _text(_FAMILY_NAME, holder.family_name_latin),
            _text(_GIVEN_NAME, holder.given_name_latin),
            _field(_DOCUMENT, document_bytes(holder.document)),
            _SEX + varint(holder.sex) if holder.sex else b"",
            _text(_NATIONALITY, holder.nationality),
            _field(_BIRTH_DATE, _day(holder.birth_date)),
            _text(_ADDRESS, holder.address),
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


def _field(before: bytes, value: bytes) -> bytes:
    length = len(value)
    return before + (_LENGTHS[length] if length < len(_LENGTHS) else varint(length)) + value


def _text(before: bytes, text: str) -> bytes:
    return _field(before, text.encode()) if text else b""


@lru_cache(maxsize=_KEPT)
def _day(day: date) -> bytes:
    data: bytes = shared_message(day).SerializeToString()
    return data


@lru_cache(maxsize=_KEPT)
def _class(held: VehicleClass) -> bytes:
    message = pb.VehicleClass(code=held.code, from_date=shared_message(held.from_date), limits=held.limits)
    if held.until_date is not None:
        message.until_date.CopyFrom(shared_message(held.until_date))
    return message.SerializeToString(deterministic=True)


@lru_cache(maxsize=_KEPT)
def _validity(validity: Validity) -> bytes:
    message = pb.Validity(
        kind=validity.kind,  # type: ignore[arg-type]  # an open enum: any number is kept
        from_date=shared_message(validity.from_date),
    )
    if validity.until_date is not None:
        message.until_date.CopyFrom(shared_message(validity.until_date))
    return message.SerializeToString(deterministic=True)
