"""The median of paired differences and its interval."""

from __future__ import annotations

import random

import pytest

from elicense.cli.bench.paired import median_difference


def test_alike_measurements_differ_by_nothing() -> None:
    noise = random.Random(1)
    first = [noise.expovariate(0.01) for _ in range(20_000)]
    second = [noise.expovariate(0.01) for _ in range(20_000)]
    assert median_difference(first, second).holds_zero


def test_a_small_shift_under_much_noise_is_found_and_measured() -> None:
    noise = random.Random(2)
    first = [800 + noise.expovariate(0.01) for _ in range(20_000)]
    second = [820 + noise.expovariate(0.01) for _ in range(20_000)]
    found = median_difference(first, second)
    assert not found.holds_zero
    assert found.low <= 20 <= found.high
    assert found.high - found.low < 8


def test_the_interval_holds_the_truth_about_as_often_as_it_says() -> None:
    noise = random.Random(3)
    held = 0
    for _ in range(400):
        first = [noise.gauss(0, 1) for _ in range(100)]
        second = [noise.gauss(0.5, 1) for _ in range(100)]
        found = median_difference(first, second)
        held += found.low <= 0.5 <= found.high
    assert held >= 0.92 * 400


def test_one_slow_call_moves_the_median_by_no_more_than_a_rank() -> None:
    first, second = [float(i) for i in range(99)], [float(i) + 1 for i in range(99)]
    second[7] = 1e9
    assert median_difference(first, second).median == 1


@pytest.mark.parametrize(("first", "second"), [([1.0] * 19, [1.0] * 19), ([1.0] * 30, [1.0] * 31)])
def test_too_few_or_unpaired_measurements_are_refused(first: list[float], second: list[float]) -> None:
    with pytest.raises(ValueError, match="pairs"):
        median_difference(first, second)
