"""A log-linear histogram: any number of durations in a few kilobytes, each known to within one percent.

The idea of HDR histograms: 128 equal buckets for each doubling of the value, so
that the error is relative and percentiles far out stay exact enough.
"""

from __future__ import annotations

from collections import Counter
from typing import Final

_LINEAR_BITS: Final = 8  # values below 2^8 have a bucket each
_HALF: Final = 1 << (_LINEAR_BITS - 1)


class Histogram:
    """Counts durations in whole microseconds."""

    def __init__(self) -> None:
        self._counts: Counter[int] = Counter()
        self.count = 0
        self.total_us = 0
        self.max_us = 0

    def record(self, duration_us: int) -> None:
        """Count one duration; a negative one counts as 0."""
        value = max(0, duration_us)
        shift = max(0, value.bit_length() - _LINEAR_BITS)
        self._counts[shift * _HALF + (value >> shift)] += 1
        self.count += 1
        self.total_us += value
        self.max_us = max(self.max_us, value)

    def add(self, other: Histogram) -> None:
        """Count everything that ``other`` has counted."""
        self._counts.update(other._counts)
        self.count += other.count
        self.total_us += other.total_us
        self.max_us = max(self.max_us, other.max_us)

    def percentile(self, percent: float) -> int:
        """Return a duration that this share of all did not exceed: never too low, too high by less than 1 %.

        Args:
            percent: From 0 to 100.

        Returns:
            Microseconds; 0 when nothing was counted.
        """
        wanted = max(1, -(-self.count * percent // 100))
        seen = 0
        for index in sorted(self._counts):
            seen += self._counts[index]
            if seen >= wanted:
                return min(_highest(index), self.max_us)
        return self.max_us

    @property
    def mean_us(self) -> float:
        """The mean, exactly; 0 when nothing was counted."""
        return self.total_us / self.count if self.count else 0.0


def _highest(index: int) -> int:
    """Return the highest value of a bucket."""
    if index < 2 * _HALF:
        return index
    shift = index // _HALF - 1
    return ((index - shift * _HALF + 1) << shift) - 1
