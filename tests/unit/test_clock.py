from __future__ import annotations

import time
from datetime import UTC, date, datetime

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from elicense.clock import CHINA, SECOND_US, china_date, china_midnight, from_timestamp, to_timestamp, utc_micros


def us(*parts: int) -> int:
    return int(datetime(*parts, tzinfo=UTC).timestamp()) * SECOND_US  # type: ignore[arg-type,misc]


def test_the_clock_counts_microseconds_of_utc() -> None:
    before = time.time_ns() // 1_000
    assert before <= utc_micros() <= time.time_ns() // 1_000


@pytest.mark.parametrize(
    ("instant", "day"),
    [
        (us(2021, 5, 31, 15, 59, 59), date(2021, 5, 31)),
        (us(2021, 5, 31, 16, 0, 0), date(2021, 6, 1)),
        (us(1969, 12, 31, 15, 59, 59), date(1969, 12, 31)),
        (0, date(1970, 1, 1)),
    ],
)
def test_a_day_begins_at_midnight_in_china(instant: int, day: date) -> None:
    assert china_date(instant) == day


@given(st.dates(date(1900, 1, 1), date(2200, 1, 1)))
def test_midnight_is_the_first_microsecond_of_its_day(day: date) -> None:
    assert china_date(china_midnight(day)) == day
    assert china_date(china_midnight(day) - 1).toordinal() == day.toordinal() - 1


@given(st.datetimes(timezones=st.just(UTC)))
def test_the_day_agrees_with_the_time_zone(aware: datetime) -> None:
    assume(aware.year < 9999)
    instant = (aware - datetime(1970, 1, 1, tzinfo=UTC)) // datetime.resolution
    assert china_date(instant) == aware.astimezone(CHINA).date()


@given(st.integers(-(10**15), 10**16))
def test_a_timestamp_keeps_every_microsecond(instant: int) -> None:
    message = to_timestamp(instant)
    assert 0 <= message.nanos < 10**9
    assert from_timestamp(message) == instant
