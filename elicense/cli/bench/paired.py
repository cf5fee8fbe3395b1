"""The median of paired differences, with an interval that supposes nothing about how times are distributed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

_Z: Final = 1.959963984540054
"""Quantile of the normal distribution for 95 %, both sides."""


@dataclass(frozen=True, slots=True)
class MedianDifference:
    """How much slower the second of two paired measurements is.

    Attributes:
        pairs: How many pairs there were.
        median: Median of the differences.
        low: Lower end of its 95 % interval.
        high: Upper end of it.
    """

    pairs: int
    median: float
    low: float
    high: float

    @property
    def holds_zero(self) -> bool:
        """Whether the two may be alike."""
        return self.low <= 0 <= self.high


def median_difference(first: Sequence[float], second: Sequence[float]) -> MedianDifference:
    """Return the median of ``second[i] - first[i]`` and its 95 % interval.

    The interval lies between two order statistics (sign test), so a few slow
    calls move it no more than they move the median.

    Raises:
        ValueError: The measurements are not paired, or there are fewer than 20 pairs.
    """
    if len(first) != len(second) or len(first) < 20:
        raise ValueError("give at least 20 pairs")
    differences = sorted(b - a for a, b in zip(first, second, strict=True))
    count = len(differences)
    spread = _Z * math.sqrt(count) / 2
    low = max(0, math.floor(count / 2 - spread) - 1)
    high = min(count - 1, math.ceil(count / 2 + spread))
    middle = (differences[(count - 1) // 2] + differences[count // 2]) / 2
    return MedianDifference(count, middle, differences[low], differences[high])
