from __future__ import annotations

from datetime import date

import pytest

from elicense.license.vehicle_classes import CLASSES, age_rule, completed_years, covered_by


def test_all_seventeen_classes_are_known() -> None:
    assert " ".join(sorted(CLASSES)) == "A1 A2 A3 B1 B2 C1 C2 C3 C4 C5 C6 D E F M N P"


@pytest.mark.parametrize(
    ("held", "drivable"),
    [
        ("C1", "C1 C2 C3 C4"),
        ("C2", "C2"),
        ("C3", "C3 C4"),
        ("A1", "A1 A3 B1 B2 C1 C2 C3 C4 M"),
        ("A2", "A2 B1 B2 C1 C2 C3 C4 C6 M"),
        ("C1 D", "C1 C2 C3 C4 D E F"),
        ("E", "E F"),
        ("Y7", "Y7"),
        ("", ""),
    ],
)
def test_a_class_covers_the_lower_ones(held: str, drivable: str) -> None:
    assert covered_by(held.split()) == frozenset(drivable.split())


def test_what_a_covered_class_covers_is_covered_too() -> None:
    for info in CLASSES.values():
        assert covered_by(covered_by([info.code])) == covered_by([info.code])


@pytest.mark.parametrize(
    ("code", "on", "ages"),
    [
        ("C1", date(2012, 12, 31), (18, 0)),
        ("C1", date(2013, 1, 1), (18, 70)),
        ("C1", date(2020, 11, 19), (18, 70)),
        ("C1", date(2020, 11, 20), (18, 0)),
        ("A1", date(2022, 3, 31), (26, 50)),
        ("A1", date(2022, 4, 1), (22, 60)),
        ("A1", date(2024, 12, 31), (22, 60)),
        ("A1", date(2025, 1, 1), (22, 63)),
        ("D", date(2024, 12, 31), (18, 60)),
        ("D", date(2025, 1, 1), (18, 70)),
        ("C6", date(2025, 1, 1), (20, 70)),
    ],
)
def test_ages_follow_the_law_in_force_on_the_day(code: str, on: date, ages: tuple[int, int]) -> None:
    rule = age_rule(code, on)
    assert (rule.youngest, rule.oldest) == ages


def test_every_class_has_an_age_in_the_newest_law() -> None:
    for code in CLASSES:
        rule = age_rule(code, date(2030, 1, 1))
        assert rule.youngest >= 18
        assert rule.student <= rule.youngest


@pytest.mark.parametrize(
    ("birth", "on", "years"),
    [
        (date(2000, 6, 1), date(2018, 5, 31), 17),
        (date(2000, 6, 1), date(2018, 6, 1), 18),
        (date(2000, 2, 29), date(2018, 2, 28), 17),
        (date(2000, 2, 29), date(2018, 3, 1), 18),
    ],
)
def test_age_counts_completed_years(birth: date, on: date, years: int) -> None:
    assert completed_years(birth, on) == years
