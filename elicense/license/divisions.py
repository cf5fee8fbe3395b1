"""Administrative divisions (GB/T 2260): provinces and the cities that may run a node.

The table is ``divisions.csv`` beside this module: every province, municipality and
prefecture-level unit.  Counties are not in it; a county belongs to the city with
the same first four digits.  The few towns that a province administers directly are
left out until one of them is to run a node.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, lru_cache
from importlib.resources import files
from types import MappingProxyType
from typing import Final

from elicense.errors import CityNotFound

MUNICIPALITIES: Final = frozenset({110000, 120000, 310000, 500000})
"""Beijing, Tianjin, Shanghai and Chongqing: provinces that are cities."""


@dataclass(frozen=True, slots=True)
class Division:
    """One province, municipality or prefecture-level unit.

    Attributes:
        code: GB/T 2260 code, six digits.
        name: Name in characters, such as 苏州市.
        pinyin: Name in Latin letters without the kind of unit, such as Suzhou.
        province: Name in characters of the province.
    """

    code: int
    name: str
    pinyin: str
    province: str


@cache
def divisions() -> Mapping[int, Division]:
    """Return every division of the table, by code."""
    text = files(__package__).joinpath("divisions.csv").read_text(encoding="utf-8")
    rows = csv.DictReader(text.splitlines())
    return MappingProxyType(
        {int(row["code"]): Division(int(row["code"]), row["name"], row["pinyin"], row["province"]) for row in rows}
    )


def division(code: int) -> Division:
    """Return the division with ``code``.

    Raises:
        CityNotFound: The table has no such division.
    """
    found = divisions().get(code)
    if found is None:
        raise CityNotFound(f"there is no division {code}; give the GB/T 2260 code of a city, such as 320500", city=code)
    return found


def is_city(code: int) -> bool:
    """Tell whether ``code`` is a city that can run a node: a municipality or a prefecture-level unit."""
    return code in MUNICIPALITIES or (code % 10_000 != 0 and code in divisions())


def city_codes() -> list[int]:
    """Return the code of every city, in order."""
    return sorted(code for code in divisions() if is_city(code))


@cache
def province_prefixes() -> frozenset[str]:
    """Return the first two digits of every province."""
    return frozenset(f"{code // 10_000}" for code in divisions() if code % 10_000 == 0)


@lru_cache(maxsize=4_096)
def area_prefix(city: int) -> str:
    """Return the digits that every division of a city begins with: two in a municipality, else four."""
    return f"{city // 10_000}" if city in MUNICIPALITIES else f"{city // 100}"
