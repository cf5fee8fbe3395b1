"""From the compact form of a licence to what a node concludes of it: the hot path of every verification.

The usual licence, which has classes and dates and nothing on it, is judged as it
lies in the message.  Any other goes the whole way, and both ways conclude the same.
"""

from __future__ import annotations

from datetime import date
from typing import TYPE_CHECKING

from google.protobuf.message import DecodeError

from elicense.errors import Malformed
from elicense.license.civil_date import civil_date
from elicense.license.standing import decode_standing
from elicense.license.verdict import Finding, ViewFlags, assess, plainly_valid
from elicense.v1 import license_pb2 as pb

if TYPE_CHECKING:
    from google.type.date_pb2 import Date


def find(standing: bytes, flags: int, on: date) -> Finding:
    """Return ``assess(decode_standing(standing), flags, on)``.

    Args:
        standing: Serialized ``LicenseStanding``.
        flags: :class:`~elicense.license.verdict.ViewFlags` of the view.
        on: The day in China on which the licence is judged.

    Raises:
        Malformed: The bytes are no such message, or a date in them does not exist.
    """
    if not flags:
        try:
            message = pb.LicenseStanding.FromString(standing)
        except DecodeError as error:
            raise Malformed("the standing is not a LicenseStanding message") from error
        codes = _plain_classes(message, on)
        if codes:
            return plainly_valid(codes)
    return assess(decode_standing(standing), ViewFlags(flags), on)


def _plain_classes(message: pb.LicenseStanding, on: date) -> tuple[str, ...]:
    """Return the classes held on a day, when that is all there is to say; none when there is more."""
    if message.status_letters or not message.HasField("validity"):
        return ()
    if message.HasField("points_roll_date") and _day(message.points_roll_date) is None:
        return ()
    validity = message.validity
    if not _covers(validity, on, open_end=validity.kind == pb.VALIDITY_KIND_LONG_TERM):
        return ()
    codes = []
    for held in message.vehicle_classes:
        covered = _covers(held, on, open_end=True)
        if covered is None:
            return ()
        if covered:
            codes.append(held.code)
    return tuple(codes)


def _covers(span: pb.Validity | pb.VehicleClass, on: date, *, open_end: bool) -> bool | None:
    """Whether a period holds a day; None when a date of it does not exist."""
    first = _day(span.from_date)
    if first is None:
        return None
    if not span.HasField("until_date"):
        return first <= on and open_end
    last = _day(span.until_date)
    return None if last is None else first <= on <= last


def _day(message: Date) -> date | None:
    return civil_date(message.year, message.month, message.day)
