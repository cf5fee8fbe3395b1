"""The curve of a day, and the starts of calls along it."""

from __future__ import annotations

from itertools import islice, pairwise, takewhile

import pytest

from elicense.cli.load.curve import DAY_SECONDS, diurnal, share_at, steady


def test_a_day_has_as_many_calls_as_it_should_whenever_it_begins() -> None:
    for from_hour in (0.0, 9.0, 23.5):
        starts = diurnal(a_day=10_000, speed=1, from_hour=from_hour)
        assert sum(1 for _ in takewhile(lambda start: start < DAY_SECONDS, starts)) == pytest.approx(10_000, rel=0.01)


def test_a_faster_day_has_the_same_calls_in_less_time() -> None:
    starts = diurnal(a_day=10_000, speed=60, from_hour=0)
    within = takewhile(lambda start: start < DAY_SECONDS / 60, starts)
    assert sum(1 for _ in within) == pytest.approx(10_000, rel=0.01)


def test_office_hours_are_busier_than_the_night() -> None:
    assert share_at(10) > 2 * share_at(7) > 4 * share_at(3)
    assert share_at(25) == share_at(1)
    assert share_at(9.5) == pytest.approx((share_at(9) + share_at(10)) / 2)


def test_a_steady_rate_does_not_drift() -> None:
    starts = list(islice(steady(7), 7_001))
    assert starts[7_000] == 1_000
    assert all(earlier < later for earlier, later in pairwise(starts))
