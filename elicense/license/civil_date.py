"""Civil dates between ``google.type.Date`` and :class:`datetime.date`.

Drivers share few dates (some twenty thousand days cover everybody alive), so both
ways are cached by value.
"""

from __future__ import annotations

from datetime import date
from functools import lru_cache

from google.type.date_pb2 import Date

from elicense.errors import Malformed, Violation


@lru_cache(maxsize=65_536)
def civil_date(year: int, month: int, day: int) -> date | None:
    """Return the date, or None when there is no such day; a year or month alone is no date here."""
    try:
        return date(year, month, day)
    except (ValueError, OverflowError):
        return None


@lru_cache(maxsize=65_536)
def shared_message(day: date) -> Date:
    """Return ``day`` as a message that is shared between callers: copy from it, never change it."""
    return Date(year=day.year, month=day.month, day=day.day)


def date_to_message(day: date) -> Date:
    """Return ``day`` as a fresh message."""
    return Date(year=day.year, month=day.month, day=day.day)


def date_violation(field: str) -> Violation:
    """Return the violation of a date at ``field`` that is missing, partial or no day of the calendar."""
    return Violation(field, "DATE_INVALID", "Give a full date: a year, a month and a day that exist.")


def date_from_message(message: Date, field: str = "date") -> date:
    """Return the date in ``message``.

    Args:
        message: The message.
        field: Its path in the request, for the error.

    Raises:
        Malformed: It is missing, partial or no day of the calendar.
    """
    day = civil_date(message.year, message.month, message.day)
    if day is None:
        raise Malformed("a date is not right", violations=[date_violation(field)])
    return day
