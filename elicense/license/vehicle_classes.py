"""Classes of vehicle (准驾车型): ages to apply, what each covers, and since when the law says so.

The tables are data, one row a class and one version a change of the law
(MPS Orders 123 and 162 and the amendment of 2025).  An upper limit of
0 means none.  Before the first version only the general age of eighteen is known,
so nothing stricter is claimed for those years.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date
from functools import lru_cache
from types import MappingProxyType


@dataclass(frozen=True, slots=True)
class ClassInfo:
    """What does not change with the law's versions.

    Attributes:
        code: Class code.
        name: Name in characters.
        english: Name in English.
        covers: Other classes that its holder may drive as well.
        first: Whether it can be a person's first licence; otherwise only by upgrade.
        since: First day on which the class existed; None when older than every rule here.
    """

    code: str
    name: str
    english: str
    covers: frozenset[str]
    first: bool
    since: date | None = None


@dataclass(frozen=True, slots=True)
class AgeRule:
    """Ages in completed years on the day of application.

    Attributes:
        youngest: Lowest age.
        oldest: Highest age; 0 when there is none.
        student: Lowest age of full-time vocational students; equal to ``youngest`` where there is no exception.
    """

    youngest: int
    oldest: int
    student: int


def _info(code: str, name: str, english: str, covers: str, *, first: bool, since: date | None = None) -> ClassInfo:
    return ClassInfo(code, name, english, frozenset(covers.split()), first, since)


CLASSES: Mapping[str, ClassInfo] = MappingProxyType(
    {
        info.code: info
        for info in (
            _info("A1", "大型客车", "large bus", "A3 B1 B2 C1 C2 C3 C4 M", first=False),
            _info("A2", "重型牵引挂车", "heavy tractor-trailer", "B1 B2 C1 C2 C3 C4 C6 M", first=False),
            _info("A3", "城市公交车", "city bus", "C1 C2 C3 C4", first=True),
            _info("B1", "中型客车", "medium bus", "C1 C2 C3 C4 M", first=False),
            _info("B2", "大型货车", "heavy truck", "C1 C2 C3 C4 M", first=True),
            _info("C1", "小型汽车", "car", "C2 C3 C4", first=True),
            _info("C2", "小型自动挡汽车", "car with automatic gear", "", first=True),
            _info("C3", "低速载货汽车", "low-speed truck", "C4", first=True),
            _info("C4", "三轮汽车", "three-wheeled vehicle", "", first=True),
            _info(
                "C5", "残疾人专用小型自动挡载客汽车", "adapted automatic car", "", first=True, since=date(2010, 4, 1)
            ),
            _info("C6", "轻型牵引挂车", "light tractor-trailer", "", first=False, since=date(2022, 4, 1)),
            _info("D", "普通三轮摩托车", "three-wheeled motorcycle", "E F", first=True),
            _info("E", "普通二轮摩托车", "motorcycle", "F", first=True),
            _info("F", "轻便摩托车", "moped", "", first=True),
            _info("M", "轮式专用机械车", "wheeled special machine", "", first=True),
            _info("N", "无轨电车", "trolleybus", "", first=True),
            _info("P", "有轨电车", "tram", "", first=True),
        )
    }
)
"""Every class, by code."""


def _ages(table: str) -> Mapping[str, AgeRule]:
    """Read lines of ``codes: youngest-oldest[/student]``."""
    rules: dict[str, AgeRule] = {}
    for line in table.strip().splitlines():
        codes, _, ages = line.partition(":")
        span, _, student = ages.strip().partition("/")
        youngest, oldest = (int(part) for part in span.split("-"))
        for code in codes.split():
            rules[code] = AgeRule(youngest, oldest, int(student) if student else youngest)
    return MappingProxyType(rules)


# Newest first.  The row of 2025-01-01 is read in sources; the older ones are recalled: correct them here.
_AGE_VERSIONS: tuple[tuple[date, Mapping[str, AgeRule]], ...] = (
    (
        date(2025, 1, 1),
        _ages("""
            A1 A2: 22-63/19
            A3 B1 B2 N P: 20-63
            C6: 20-70
            C1 C2 C5 F: 18-0
            C3 C4 M: 18-63
            D E: 18-70
        """),
    ),
    (
        date(2022, 4, 1),
        _ages("""
            A1 A2: 22-60/19
            A3 B1 B2 C6 N P: 20-60
            C1 C2 C5 F: 18-0
            C3 C4 D E M: 18-60
        """),
    ),
    (
        date(2020, 11, 20),
        _ages("""
            A1: 26-50/20
            A2: 24-50/20
            B1: 21-50
            A3 B2 N P: 20-50
            C1 C2 C5 F: 18-0
            C3 C4 D E M: 18-60
        """),
    ),
    (
        date(2013, 1, 1),
        _ages("""
            A1: 26-50/20
            A2: 24-50/20
            B1: 21-50
            A3 B2 N P: 20-50
            C1 C2 C5 F: 18-70
            C3 C4 D E M: 18-60
        """),
    ),
)
_ADULT = AgeRule(18, 0, 18)


def age_rule(code: str, on: date) -> AgeRule:
    """Return the ages to apply for a known class under the law in force on ``on``."""
    for since, rules in _AGE_VERSIONS:
        if on >= since:
            return rules.get(code, _ADULT)
    return _ADULT


def completed_years(birth: date, on: date) -> int:
    """Return the age in completed years on ``on``, which is not before ``birth``."""
    years = on.year - birth.year
    if on.month < birth.month or (on.month == birth.month and on.day < birth.day):
        return years - 1
    return years


@lru_cache(maxsize=4_096)
def _covered(codes: tuple[str, ...]) -> frozenset[str]:
    covered = set(codes)
    for code in codes:
        info = CLASSES.get(code)
        if info is not None:
            covered |= info.covers
    return frozenset(covered)


def covered_by(codes: Iterable[str]) -> frozenset[str]:
    """Return every class that a holder of ``codes`` may drive, those classes included.

    A code that this node does not know covers itself alone.
    """
    return _covered(tuple(codes))
