"""Years and months of the law, counted in civil dates."""

from __future__ import annotations

from datetime import date
from functools import lru_cache
from typing import Final

PHOTO_MONTHS: Final = 6
"""A portrait may be this many calendar months old."""


@lru_cache(maxsize=65_536)
def anniversary(day: date, years: int) -> date:
    """Return the same day ``years`` later; 29 February becomes 1 March where there is none."""
    if day.year + years > date.max.year:
        return date.max
    try:
        return day.replace(year=day.year + years)
    except ValueError:
        return date(day.year + years, 3, 1)


@lru_cache(maxsize=1_024)
def earliest_capture(on: date) -> date:
    """Return the first day on which a portrait may have been taken to be new enough on ``on``.

    The same day of the month six calendar months before, or that month's last day.
    """
    months = on.year * 12 + on.month - 1 - PHOTO_MONTHS
    year, month = months // 12, months % 12 + 1
    following = date(year + month // 12, month % 12 + 1, 1)
    last = date.fromordinal(following.toordinal() - 1)
    return last if on.day > last.day else last.replace(day=on.day)
