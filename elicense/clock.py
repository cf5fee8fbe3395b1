"""Time as this project counts it: UTC microseconds in machines, China time on paper.

Instants are integers, microseconds since 1970-01-01T00:00:00Z.  Civil dates
(birth, validity, age limits) follow the law and so China time, UTC+8 all year.
"""

from __future__ import annotations

import time
from datetime import date, timedelta, timezone
from functools import lru_cache

from google.protobuf.timestamp_pb2 import Timestamp

CHINA = timezone(timedelta(hours=8), "CST")
"""China Standard Time; no daylight saving since 1991."""

SECOND_US = 1_000_000
"""Microseconds in a second."""

_DAY_US = 86_400 * SECOND_US
_CHINA_OFFSET_US = 8 * 3_600 * SECOND_US
_EPOCH_ORDINAL = date(1970, 1, 1).toordinal()


def utc_micros() -> int:
    """Return the current instant in UTC microseconds."""
    return time.time_ns() // 1_000


@lru_cache(maxsize=4_096)
def _date_of_day(day: int) -> date:
    return date.fromordinal(_EPOCH_ORDINAL + day)


def china_date(us: int) -> date:
    """Return the civil date in China at the instant ``us`` (UTC microseconds).

    Raises:
        ValueError: The instant lies outside the years 1 to 9999.
        OverflowError: The instant is absurdly far away.
    """
    return _date_of_day((us + _CHINA_OFFSET_US) // _DAY_US)


def china_midnight(day: date) -> int:
    """Return the instant (UTC microseconds) at which ``day`` begins in China."""
    return (day.toordinal() - _EPOCH_ORDINAL) * _DAY_US - _CHINA_OFFSET_US


def to_timestamp(us: int) -> Timestamp:
    """Return the instant ``us`` (UTC microseconds) as a protobuf timestamp."""
    seconds, micros = divmod(us, SECOND_US)
    return Timestamp(seconds=seconds, nanos=micros * 1_000)


def from_timestamp(timestamp: Timestamp) -> int:
    """Return a protobuf timestamp as UTC microseconds, nanoseconds cut off."""
    return timestamp.seconds * SECOND_US + timestamp.nanos // 1_000
