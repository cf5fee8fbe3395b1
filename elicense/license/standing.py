"""The compact form of a licence that a verification reads, and the parts of the wire form it shares with a record.

This is the hot path of every verification: no reflection, dates from a cache, no
text made unless something is wrong.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date
from functools import lru_cache
from typing import TYPE_CHECKING, Final, cast

from google.protobuf.message import DecodeError
from google.type.date_pb2 import Date

from elicense.errors import Malformed, Violation
from elicense.license.civil_date import civil_date, date_violation, shared_message
from elicense.license.fields import LicenseField, copy_fields
from elicense.license.model import Ban, Standing, StatusLetter, Validity, ValidityKind, VehicleClass
from elicense.v1 import license_pb2 as pb

if TYPE_CHECKING:
    from google.protobuf.message import Message

#: Classes and periods kept in the form of a standing, each: some megabytes.
_PARTS: Final = 65_536
#: Wire type of what has its length before it, and the bit by which a number goes on in the next byte
#: (https://protobuf.dev/programming-guides/encoding/).
_DELIMITED: Final = 2
_MORE: Final = 0x80
_STANDING_TAGS: Final = frozenset(field.number << 3 | _DELIMITED for field in pb.LicenseStanding.DESCRIPTOR.fields)
_KINDS: Final = {int(kind): kind for kind in ValidityKind}


def read_date(message: Date, faults: list[Violation], field: str, position: int = 0) -> date:
    """Return the date in ``message``; a wrong one goes to ``faults`` and reads as the first day there is.

    ``field`` may hold ``%d`` for ``position``, so that the path costs nothing while all is well.
    """
    day = civil_date(message.year, message.month, message.day)
    if day is None:
        faults.append(date_violation(field % position if "%" in field else field))
        return date.min
    return day


def read_classes(messages: Iterable[pb.VehicleClass], faults: list[Violation], path: str) -> tuple[VehicleClass, ...]:
    """Return vehicle classes; wrong dates go to ``faults``."""
    # Drivers share classes, dates included: most were made before.
    known = [_class_of(message.SerializeToString()) for message in messages]
    faults.extend(
        date_violation(f"{path}vehicle_classes[{position}].{field}")
        for position, (_, wrong) in enumerate(known)
        for field in wrong
    )
    return tuple([held for held, _ in known])


@lru_cache(maxsize=_PARTS)
def _class_of(data: bytes) -> tuple[VehicleClass, tuple[str, ...]]:
    """Return a serialized class and its fields that hold no date."""
    message = pb.VehicleClass.FromString(data)
    faults: list[Violation] = []
    from_date = read_date(message.from_date, faults, "from_date")
    until_date = read_date(message.until_date, faults, "until_date") if message.HasField("until_date") else None
    held = VehicleClass(message.code, from_date, until_date, tuple(message.limits))
    return held, tuple(fault.field for fault in faults)


def read_letters(messages: Iterable[pb.StatusLetter], faults: list[Violation], path: str) -> tuple[StatusLetter, ...]:
    """Return status letters; wrong dates go to ``faults``."""
    return tuple(
        [
            StatusLetter(
                message.letter,
                read_date(message.start_date, faults, path + "[%d].start_date", position),
                read_date(message.end_date, faults, path + "[%d].end_date", position)
                if message.HasField("end_date")
                else None,
                message.legal_basis,
                message.authority,
                read_ban(message.ban, faults, f"{path}[{position}].ban") if message.HasField("ban") else None,
            )
            for position, message in enumerate(messages)
        ]
    )


def read_ban(message: pb.ReapplicationBan, faults: list[Violation], path: str) -> Ban:
    """Return a bar from applying anew; a wrong date goes to ``faults``."""
    until = read_date(message.until_date, faults, f"{path}.until_date") if message.HasField("until_date") else None
    return Ban(message.ground, until, message.for_life)


def write_ban(ban: Ban, into: pb.StatusLetter) -> None:
    """Set the bar from applying anew of a letter."""
    into.ban.ground = ban.ground
    into.ban.for_life = ban.for_life
    if ban.until is not None:
        into.ban.until_date.CopyFrom(shared_message(ban.until))


def read_validity(message: pb.Validity, faults: list[Violation], path: str) -> Validity:
    """Return a period of validity; wrong dates go to ``faults``."""
    validity, wrong = _validity_of(message.SerializeToString())
    faults.extend(date_violation(f"{path}validity.{field}") for field in wrong)
    return validity


@lru_cache(maxsize=_PARTS)
def _validity_of(data: bytes) -> tuple[Validity, tuple[str, ...]]:
    """Return a serialized period and its fields that hold no date."""
    message = pb.Validity.FromString(data)
    faults: list[Violation] = []
    from_date = read_date(message.from_date, faults, "from_date")
    until_date = read_date(message.until_date, faults, "until_date") if message.HasField("until_date") else None
    kind: int = message.kind
    return Validity(_KINDS.get(kind, kind), from_date, until_date), tuple(fault.field for fault in faults)


def write_classes(classes: Iterable[VehicleClass], into: pb.License) -> None:
    """Append vehicle classes to a message."""
    add = into.vehicle_classes.add
    for held in classes:
        message = add(code=held.code, from_date=shared_message(held.from_date))
        if held.until_date is not None:
            message.until_date.CopyFrom(shared_message(held.until_date))
        if held.limits:
            message.limits.extend(held.limits)


def write_validity(validity: Validity, into: pb.License) -> None:
    """Set the period of validity of a message."""
    message = into.validity
    message.kind = validity.kind  # type: ignore[assignment]  # an open enum: any number is kept
    message.from_date.CopyFrom(shared_message(validity.from_date))
    if validity.until_date is not None:
        message.until_date.CopyFrom(shared_message(validity.until_date))


def decode_standing(data: bytes, *, classes: bool = True) -> Standing:
    """Return the standing in serialized ``LicenseStanding`` bytes.

    No bytes at all are the standing of a licence of which nothing is left.

    Args:
        data: The bytes.
        classes: Whether to read the vehicle classes, which take longer than all the rest; left out, there are none.

    Raises:
        Malformed: The bytes are no such message, or a date in them does not exist.
    """
    try:
        message = pb.LicenseStanding.FromString(data)
    except DecodeError as error:
        raise Malformed("the standing is not a LicenseStanding message") from error
    standing, faults = _read(message, classes=classes)
    if faults:
        raise Malformed("the standing holds dates that do not exist", violations=faults)
    return standing


def standing_of(license_: pb.License) -> bytes:
    """Return the serialized ``LicenseStanding`` of a licence on the wire, which :func:`decode_standing` can read.

    Runs for every record that a registry ever receives.  Drivers share classes
    and periods, dates included, so each is put into the form of a standing, and
    its dates are checked, only where it was not seen lately.

    Raises:
        Malformed: A date of its classes, letters or validity does not exist; all are named.
    """
    parts = [_class_part(held.SerializeToString()) for held in license_.vehicle_classes]
    if license_.status_letters:
        parts.append(_letters_part(license_))
    if license_.HasField("validity"):
        parts.append(_validity_part(license_.validity.SerializeToString()))
    if license_.HasField("points_roll_date"):
        parts.append(_checked(pb.LicenseStanding(points_roll_date=license_.points_roll_date)))
    # A part in order has a tag and a length at least; one with a wrong date is empty.
    if b"" in parts:
        raise Malformed("the license holds dates that do not exist", violations=_read(license_)[1])
    return b"".join(parts)


def license_part(standing: bytes, fields: frozenset[LicenseField]) -> bytes:
    """Return those of these fields of a serialized ``LicenseStanding`` as a serialized ``License`` has them.

    The two messages give them other numbers, and that is all in which they differ, so
    that nothing inside is read or written anew.

    Args:
        standing: The serialized standing.
        fields: Some of :data:`~elicense.license.fields.IN_STANDING`.

    Raises:
        DecodeError: The bytes are no such message; a fault inside a field shows when the result is read.
    """
    tags = _license_tags(fields)
    parts: list[bytes] = []
    at, end = 0, len(standing)
    while at < end:
        # A tag of one byte, and a length of one or two: a standing that has others is read as a message.
        head = standing[at : at + 3]
        if len(head) < 2 or head[0] not in _STANDING_TAGS:
            return _license_part_read(standing, fields)
        if head[1] < _MORE:
            after = at + 2 + head[1]
        elif len(head) == 3 and head[2] < _MORE:
            after = at + 3 + (head[1] & _MORE - 1 | head[2] << 7)
        else:
            return _license_part_read(standing, fields)
        if after > end:
            return _license_part_read(standing, fields)
        if (tag := tags.get(head[0])) is not None:
            parts += tag, standing[at + 1 : after]
        at = after
    return b"".join(parts)


@lru_cache(maxsize=16)
def _license_tags(fields: frozenset[LicenseField]) -> dict[int, bytes]:
    """Return by their tag in a standing those in a licence."""
    names = [field.name.lower() for field in fields]
    return {_tag(pb.LicenseStanding, name): bytes((_tag(pb.License, name),)) for name in names}


def _tag(message: type[Message], field: str) -> int:
    """Return the tag of a field that is a message."""
    return message.DESCRIPTOR.fields_by_name[field].number << 3 | _DELIMITED


def _license_part_read(standing: bytes, fields: frozenset[LicenseField]) -> bytes:
    part = pb.License()
    # It names these fields as a licence does.
    copy_fields(cast("pb.License", pb.LicenseStanding.FromString(standing)), part, fields)
    return part.SerializeToString()


@lru_cache(maxsize=_PARTS)
def _class_part(vehicle_class: bytes) -> bytes:
    held = pb.VehicleClass.FromString(vehicle_class)
    if not _exists(held.from_date) or (held.HasField("until_date") and not _exists(held.until_date)):
        return b""
    return pb.LicenseStanding(vehicle_classes=[held]).SerializeToString()


@lru_cache(maxsize=_PARTS)
def _validity_part(data: bytes) -> bytes:
    validity = pb.Validity.FromString(data)
    if not _exists(validity.from_date) or (validity.HasField("until_date") and not _exists(validity.until_date)):
        return b""
    return pb.LicenseStanding(validity=validity).SerializeToString()


def _exists(day: Date) -> bool:
    return civil_date(day.year, day.month, day.day) is not None


def _letters_part(license_: pb.License) -> bytes:
    """Return the letters without their legal basis and authority."""
    part = pb.LicenseStanding()
    for letter in license_.status_letters:
        kept = part.status_letters.add(letter=letter.letter, start_date=letter.start_date)
        if letter.HasField("end_date"):
            kept.end_date.CopyFrom(letter.end_date)
        if letter.HasField("ban"):
            kept.ban.CopyFrom(letter.ban)
    return _checked(part)


def _checked(part: pb.LicenseStanding) -> bytes:
    """Return a part of a standing, serialized; nothing when a date in it does not exist."""
    _, faults = _read(part)
    return b"" if faults else part.SerializeToString()


def _read(message: pb.License | pb.LicenseStanding, *, classes: bool = True) -> tuple[Standing, list[Violation]]:
    faults: list[Violation] = []
    letters = message.status_letters
    standing = Standing(
        read_classes(message.vehicle_classes, faults, "") if classes else (),
        read_letters(letters, faults, "status_letters") if letters else (),
        read_validity(message.validity, faults, "") if message.HasField("validity") else None,
        read_date(message.points_roll_date, faults, "points_roll_date")
        if message.HasField("points_roll_date")
        else None,
    )
    return standing, faults
