"""The parts of a licence that are shown or withheld one by one: pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from enum import IntEnum
from types import MappingProxyType
from typing import Final

from elicense.v1 import license_pb2 as pb


class LicenseField(IntEnum):
    """One part of a licence; the numbers are those of ``elicense.v1.LicenseField``."""

    FULL_NAME = 1
    LATIN_NAME = 2
    DOCUMENT = 3
    SEX = 4
    NATIONALITY = 5
    BIRTH_DATE = 6
    ADDRESS = 7
    VEHICLE_CLASSES = 8
    FIRST_ISSUE_DATE = 9
    VALIDITY = 10
    ARCHIVE_NUMBER = 11
    ISSUING_AUTHORITY = 12
    PHOTO = 13
    STATUS_LETTERS = 14
    POINTS = 15


EVERY_FIELD: Final = frozenset(LicenseField)

IN_STANDING: Final = frozenset({LicenseField.VEHICLE_CLASSES, LicenseField.VALIDITY})
"""Fields that the licence view holds itself; all others are read from the record."""

MASK_BYTES: Final = 4
"""Size of a set of fields in an access log: bit n stands for field n."""


def _names(*names: str) -> Callable[[pb.License, pb.License], None]:
    def copy(source: pb.License, target: pb.License) -> None:
        for name in names:
            setattr(target, name, getattr(source, name))

    return copy


def _holder_names(*names: str) -> Callable[[pb.License, pb.License], None]:
    def copy(source: pb.License, target: pb.License) -> None:
        for name in names:
            setattr(target.holder, name, getattr(source.holder, name))

    return copy


_COPY: Mapping[LicenseField, Callable[[pb.License, pb.License], None]] = MappingProxyType(
    {
        LicenseField.FULL_NAME: _holder_names("full_name"),
        LicenseField.LATIN_NAME: _holder_names("family_name_latin", "given_name_latin"),
        LicenseField.DOCUMENT: lambda source, target: target.holder.document.CopyFrom(source.holder.document),
        LicenseField.SEX: _holder_names("sex"),
        LicenseField.NATIONALITY: _holder_names("nationality"),
        LicenseField.BIRTH_DATE: lambda source, target: target.holder.birth_date.CopyFrom(source.holder.birth_date),
        LicenseField.ADDRESS: _holder_names("address"),
        LicenseField.VEHICLE_CLASSES: lambda source, target: target.vehicle_classes.extend(source.vehicle_classes),
        LicenseField.FIRST_ISSUE_DATE: lambda source, target: target.first_issue_date.CopyFrom(source.first_issue_date),
        LicenseField.VALIDITY: lambda source, target: target.validity.CopyFrom(source.validity),
        LicenseField.ARCHIVE_NUMBER: _names("archive_number"),
        LicenseField.ISSUING_AUTHORITY: _names("issuing_authority", "division_code"),
        LicenseField.PHOTO: lambda source, target: target.photo.CopyFrom(source.photo),
        LicenseField.STATUS_LETTERS: lambda source, target: target.status_letters.extend(source.status_letters),
        LicenseField.POINTS: _names("points"),
    }
)


def copy_fields(source: pb.License, target: pb.License, fields: Iterable[LicenseField]) -> None:
    """Put these fields of ``source`` into a licence that has none of them."""
    for field in fields:
        _COPY[field](source, target)


def to_mask(numbers: Iterable[int]) -> bytes:
    """Return a set of field numbers as access logs keep it; numbers that do not fit are an error.

    Raises:
        OverflowError: A number is above 31.
    """
    mask = 0
    for number in numbers:
        mask |= 1 << number
    return mask.to_bytes(MASK_BYTES, "big")


def from_mask(mask: bytes) -> list[int]:
    """Return the field numbers of a mask, in order; also those that this version does not know."""
    bits = int.from_bytes(mask, "big")
    return [number for number in range(MASK_BYTES * 8) if bits >> number & 1]


def known_fields(numbers: Iterable[int]) -> frozenset[LicenseField]:
    """Return those of these numbers that this version knows; the others it can not give anyway."""
    return EVERY_FIELD.intersection(numbers)
