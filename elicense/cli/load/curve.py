"""How a day's applications spread over its hours: pure arithmetic."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

DAY_SECONDS: Final = 86_400

HOURLY: Final = (
    0.30, 0.15, 0.10, 0.08, 0.10, 0.20, 0.45, 0.80, 1.35, 1.90, 2.00, 1.70,
    1.30, 1.25, 1.65, 1.75, 1.55, 1.30, 1.05, 1.15, 1.30, 1.20, 0.90, 0.47,
)  # fmt: skip
"""Weight of each hour of a day in China, by its start: counters from nine to five, the app until late."""

_MEAN: Final = sum(HOURLY) / len(HOURLY)


def share_at(hour: float) -> float:
    """Return how busy a moment is, relative to the day's mean; between two hours it changes evenly.

    Args:
        hour: Hours since midnight; may be a day's worth or more.
    """
    hour %= 24
    before = int(hour)
    here, then = HOURLY[before], HOURLY[(before + 1) % 24]
    return (here + (then - here) * (hour - before)) / _MEAN


def steady(rate: float) -> Iterator[float]:
    """Yield the starts of calls at a fixed rate, seconds from the first."""
    number = 0
    while True:
        yield number / rate
        number += 1


def diurnal(*, a_day: float, speed: float, from_hour: float) -> Iterator[float]:
    """Yield the starts of calls that follow a day's curve.

    Args:
        a_day: Calls in a whole day.
        speed: How much faster than the sun the day passes; the rate grows along.
        from_hour: Hour of the day at which to begin.
    """
    moment = 0.0
    while True:
        yield moment
        moment += DAY_SECONDS / (a_day * speed * share_at(from_hour + moment * speed / 3_600))
