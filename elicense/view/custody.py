"""What a take-over may change, for the city that writes it and for the registry that decides it: pure."""

from __future__ import annotations

from typing import Final

from elicense.clock import from_timestamp
from elicense.v1 import license_pb2 as pb

_OF_THE_OFFICE: Final = ("archive_number", "issuing_authority", "division_code", "offered_to_city")


def taken_over_us(record_us: int, latest: pb.LicenseRecord) -> int:
    """Return from when a take-over counts: when it is written, but never before what it takes over."""
    return max(record_us, from_timestamp(latest.effective_time))


def hands_over(latest: pb.LicenseRecord, arrival: pb.LicenseRecord) -> bool:
    """Whether a take-over changes nothing but the office that keeps the licence, and reaches back behind nothing."""
    before, after = pb.License(), pb.License()
    before.CopyFrom(latest.license)
    after.CopyFrom(arrival.license)
    for name in _OF_THE_OFFICE:
        before.ClearField(name)
        after.ClearField(name)
    counts_us = taken_over_us(from_timestamp(arrival.record_time), latest)
    return (
        not arrival.license.offered_to_city and before == after and from_timestamp(arrival.effective_time) == counts_us
    )
