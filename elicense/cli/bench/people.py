"""Synthetic holders by number: whoever fills a store and whoever asks about it compute the same ones."""

from __future__ import annotations

from datetime import date, timedelta
from typing import Final

from elicense.license.document import resident_check_character

MAX_PEOPLE: Final = 18_000_000
"""So many have numbers of their own."""

_FIRST_BIRTHDAY: Final = date(1950, 1, 1)
_BIRTHDAYS: Final = 18_251
_SURNAMES: Final = "王李张刘陈杨赵黄周吴徐孙胡朱高林何郭马罗"
_GIVEN: Final = "伟芳娜敏静丽强磊军洋勇艳杰娟涛明超霞平刚"


def number_of(ordinal: int) -> str:
    """Return the resident identity number of the holder with that ordinal, from 0."""
    born = _FIRST_BIRTHDAY + timedelta(days=ordinal % _BIRTHDAYS)
    digits = f"320506{born:%Y%m%d}{ordinal // _BIRTHDAYS:03d}"
    return digits + resident_check_character(digits)


def name_of(ordinal: int) -> str:
    """Return the name of the holder with that ordinal."""
    surname, first, second = ordinal % 20, ordinal // 20 % 20, ordinal // 400 % 20
    return _SURNAMES[surname] + _GIVEN[first] + _GIVEN[second]
