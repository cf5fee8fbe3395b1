"""Durations counted in a few kilobytes: right within one percent, never too low."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from elicense.cli.load.histogram import Histogram

PERCENTS = (0, 50, 90, 99, 99.9, 100)


def of(values: list[int]) -> Histogram:
    histogram = Histogram()
    for value in values:
        histogram.record(value)
    return histogram


@given(st.lists(st.integers(0, 10**9), min_size=1), st.sampled_from(PERCENTS))
def test_a_percentile_is_never_too_low_and_less_than_one_percent_too_high(values: list[int], percent: float) -> None:
    exact = sorted(values)[max(1, math.ceil(len(values) * percent / 100)) - 1]
    measured = of(values).percentile(percent)
    assert exact <= measured <= max(exact * 1.01, exact)


@given(st.lists(st.integers(0, 10**9)), st.lists(st.integers(0, 10**9)))
def test_two_histograms_together_are_that_of_all_values(one: list[int], other: list[int]) -> None:
    together = of(one)
    together.add(of(other))
    whole = of(one + other)
    assert [together.percentile(p) for p in PERCENTS] == [whole.percentile(p) for p in PERCENTS]
    assert (together.count, together.mean_us, together.max_us) == (whole.count, whole.mean_us, whole.max_us)


def test_short_durations_are_exact() -> None:
    histogram = of(list(range(256)))
    assert [histogram.percentile(100 * (value + 1) / 256) for value in range(256)] == list(range(256))


def test_nothing_counted_is_nothing() -> None:
    empty = Histogram()
    assert (empty.percentile(99), empty.mean_us, empty.max_us) == (0, 0, 0)


@pytest.mark.parametrize("value", [-1, -(10**9)])
def test_a_clock_that_went_back_counts_as_no_time(value: int) -> None:
    assert of([value]).percentile(100) == 0
