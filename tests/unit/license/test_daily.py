"""What the days bring: the same licence whether the job runs every day, now and then, or once and late."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import date, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from elicense.errors import IllegalTransition
from elicense.license.cancellation import Cancellation
from elicense.license.change import Change
from elicense.license.codec import decode_standing
from elicense.license.daily import Step, caught_up, due_steps, first_due, next_step
from elicense.license.expiry import first_day_without
from elicense.license.license_bytes import standing_bytes
from elicense.license.model import License, LicenseEvent, StatusLetter, Validity, ValidityKind
from elicense.license.points import ExamPassed, Points, cycle_start, next_cycle
from elicense.license.renewal import Renewal
from elicense.license.status_change import StatusChange
from tests.unit.license.samples import a_license

BEGIN = date(2020, 2, 1)
END = date(2026, 6, 1)
LAST = date(2021, 6, 3)


def ending(last: date, **changes: object) -> License:
    return a_license(validity=Validity(ValidityKind.SIX_YEARS, date(2015, 6, 3), last), **changes)


def marks(license_: License) -> list[tuple[str, date]]:
    return [(letter.letter, letter.start_date) for letter in license_.status_letters]


@pytest.mark.parametrize(
    ("day", "expected"),
    [
        (date(2021, 6, 3), []),
        (date(2021, 6, 4), [("M", date(2021, 6, 4))]),
        (date(2022, 6, 3), [("M", date(2021, 6, 4))]),
        (date(2022, 6, 4), [("R", date(2022, 6, 4))]),
        (date(2024, 6, 3), [("R", date(2022, 6, 4))]),
        (date(2024, 6, 4), [("G", date(2024, 6, 4))]),
        (date(2030, 1, 1), [("G", date(2024, 6, 4))]),
    ],
)
def test_the_end_brings_m_then_r_then_g_from_their_own_days(day: date, expected: list[tuple[str, date]]) -> None:
    assert marks(caught_up(ending(LAST), day)) == expected


def test_a_late_run_takes_the_same_steps_with_the_same_days() -> None:
    steps = list(due_steps(ending(LAST), date(2030, 1, 1)))
    assert [(step.day, step.event) for step in steps] == [
        (date(2021, 6, 4), LicenseEvent.STATUS_CHANGED),
        (date(2022, 6, 4), LicenseEvent.STATUS_CHANGED),
        (date(2024, 6, 4), LicenseEvent.CANCELLED),
    ]
    assert all(step.basis for step in steps)


@pytest.mark.parametrize(
    ("last", "stages"),
    [
        (date(2024, 2, 28), (date(2024, 2, 29), date(2025, 3, 1), date(2027, 3, 1))),
        (date(2024, 2, 29), (date(2024, 3, 1), date(2025, 3, 1), date(2027, 3, 1))),
        (date(2023, 12, 31), (date(2024, 1, 1), date(2025, 1, 1), date(2027, 1, 1))),
    ],
)
def test_ends_around_a_leap_day(last: date, stages: Sequence[date]) -> None:
    assert tuple(step.day for step in due_steps(ending(last), date(2040, 1, 1))) == stages


def test_a_long_term_license_and_one_at_its_end_get_nothing() -> None:
    forever = a_license(validity=Validity(ValidityKind.LONG_TERM, date(2015, 6, 3)))
    assert next_step(forever, date(2090, 1, 1)) is None
    for code in "EFG":
        ended = ending(LAST, status_letters=(StatusLetter(code, date(2021, 1, 1)),), points=3, points_roll_date=LAST)
        assert next_step(ended, date(2090, 1, 1)) is None


def test_leave_puts_the_end_off() -> None:
    leave = (StatusLetter("N", date(2021, 5, 1), date(2023, 5, 31)),)
    assert [step.day for step in due_steps(ending(LAST, status_letters=leave), date(2025, 1, 1))] == [
        date(2023, 6, 1),
        date(2024, 6, 1),
    ]
    assert first_day_without(ending(LAST).validity, (StatusLetter("N", date(2021, 5, 1)),)) is None


@pytest.mark.parametrize(
    ("first_issue", "on", "start", "following"),
    [
        (date(2010, 6, 3), date(2021, 6, 2), date(2020, 6, 3), date(2021, 6, 3)),
        (date(2010, 6, 3), date(2021, 6, 3), date(2021, 6, 3), date(2022, 6, 3)),
        (date(2020, 2, 29), date(2020, 2, 29), date(2020, 2, 29), date(2021, 3, 1)),
        (date(2020, 2, 29), date(2021, 2, 28), date(2020, 2, 29), date(2021, 3, 1)),
        (date(2020, 2, 29), date(2021, 3, 1), date(2021, 3, 1), date(2022, 3, 1)),
        (date(2020, 2, 29), date(2024, 2, 28), date(2023, 3, 1), date(2024, 2, 29)),
        (date(2020, 2, 29), date(2024, 2, 29), date(2024, 2, 29), date(2025, 3, 1)),
    ],
)
def test_cycles_begin_on_the_day_of_first_issue(first_issue: date, on: date, start: date, following: date) -> None:
    assert cycle_start(first_issue, on) == start
    assert next_cycle(first_issue, on) == following


@given(st.dates(date(1960, 1, 1), date(2030, 1, 1)), st.integers(0, 20_000))
def test_cycles_follow_each_other_without_gap_or_overlap(first_issue: date, age: int) -> None:
    on = first_issue + timedelta(days=age)
    start, following = cycle_start(first_issue, on), next_cycle(first_issue, on)
    assert first_issue <= start <= on < following
    assert 365 <= (following - start).days <= 366
    assert cycle_start(first_issue, following) == following
    assert next_cycle(first_issue, following - timedelta(days=1)) == following


def with_points(points: int, *letters: StatusLetter) -> License:
    before = a_license(validity=Validity(ValidityKind.LONG_TERM, date(2015, 6, 3)), status_letters=letters)
    return Points(points, "某法第二条").apply(before, date(2021, 4, 1)).license


def test_points_are_cleared_when_their_cycle_ends() -> None:
    before = with_points(9)
    assert before.points_roll_date == date(2021, 6, 3)
    assert next_step(before, date(2021, 6, 2)) is None
    after = caught_up(before, date(2021, 6, 3))
    assert (after.points, after.points_roll_date) == (0, None)


def test_points_are_carried_over_while_a_violation_is_open() -> None:
    before = with_points(9, StatusLetter("H", date(2021, 4, 1), None, "某法"))
    carried = caught_up(before, date(2021, 7, 1))
    assert (carried.points, carried.points_roll_date) == (9, date(2022, 6, 3))
    settled = StatusChange((), ("H",)).apply(carried, date(2021, 7, 1)).license
    assert caught_up(settled, date(2022, 6, 2)).points == 9
    assert caught_up(settled, date(2022, 6, 3)).points == 0


def test_twelve_points_set_b_until_the_exam_whatever_the_cycle() -> None:
    full = with_points(12)
    assert marks(full) == [("B", date(2021, 4, 1))]
    assert full.points_limit_date == date(2021, 4, 1)
    later = caught_up(full, date(2023, 1, 1))
    assert (later.points, marks(later)) == (12, [("B", date(2021, 4, 1))])
    passed = ExamPassed("合格证明").apply(later, date(2023, 1, 1)).license
    assert (passed.points, passed.points_roll_date, marks(passed)) == (0, None, [])


# -- whenever the job runs ---------------------------------------------------------------------------------------------

_DAYS = st.dates(BEGIN, END)
_LETTERS = st.lists(
    st.builds(
        lambda code, start, days: StatusLetter(code, start, None if days is None else start + timedelta(days), "某法"),
        st.sampled_from("HINPTDMR"),
        _DAYS,
        st.none() | st.integers(0, 900),
    ),
    max_size=3,
    unique_by=lambda letter: letter.letter,
).map(lambda letters: tuple(sorted(letters, key=lambda letter: letter.letter)))
_LICENSES = st.builds(
    lambda last, first_issue, letters, points: replace(
        ending(last, status_letters=letters),
        first_issue_date=first_issue,
        points=points,
        points_roll_date=next_cycle(first_issue, BEGIN) if points else None,
    ),
    _DAYS,
    st.sampled_from([date(2012, 2, 29), date(2010, 6, 3), date(2015, 12, 31)]),
    _LETTERS,
    st.integers(0, 14),
)
_CHANGES: st.SearchStrategy[Change] = st.one_of(
    st.builds(Points, st.integers(1, 12), st.just("某法")),
    st.builds(ExamPassed, st.just("合格证明")),
    st.builds(Renewal, st.booleans()),
    st.builds(
        lambda code, lift: StatusChange(
            () if lift else (StatusLetter(code, BEGIN, None, "某法"),), (code,) if lift else ()
        ),
        st.sampled_from("HIND"),
        st.booleans(),
    ),
    st.builds(Cancellation, st.just("本人申请")),
)
_SCRIPT = st.lists(st.tuples(_DAYS, _CHANGES), max_size=4).map(lambda script: sorted(script, key=lambda each: each[0]))


def live(license_: License, script: Sequence[tuple[date, Change]], runs: Sequence[date]) -> tuple[License, list[Step]]:
    """Let clerks act and the job run on the given days; returns the licence and every step that was written."""
    steps: list[Step] = []

    def settle(day: date) -> License:
        after = license_
        for step in due_steps(license_, day):
            steps.append(step)
            after = step.license
        return after

    acts: list[tuple[date, Change | None]] = [
        *((day, change) for day, change in script),
        *((day, None) for day in runs),
    ]
    for day, change in sorted(acts, key=lambda act: act[0]):
        license_ = settle(day)
        if change is not None:
            try:
                license_ = change.apply(license_, day).license
            except IllegalTransition:
                continue
        assert next_step(license_, day) is None or change is not None
    license_ = settle(END)
    return license_, steps


@settings(max_examples=150, deadline=None)
@given(_LICENSES, _SCRIPT, st.lists(_DAYS, max_size=12))
def test_running_daily_now_and_then_or_once_late_comes_to_the_same(
    license_: License, script: list[tuple[date, Change]], runs: list[date]
) -> None:
    every_day = [BEGIN + timedelta(days=n) for n in range((END - BEGIN).days)]
    daily = live(license_, script, every_day)
    assert live(license_, script, []) == daily
    assert live(license_, script, [*runs, *runs]) == daily


@given(_LICENSES, _DAYS)
def test_a_second_run_finds_nothing(license_: License, day: date) -> None:
    assert next_step(caught_up(license_, day), day) is None


@given(_LICENSES, _DAYS)
def test_steps_come_in_the_order_of_their_days_and_none_early(license_: License, day: date) -> None:
    days = [step.day for step in due_steps(license_, day)]
    assert all(each <= day for each in days)
    rolled = [step.day for step in due_steps(license_, day) if step.rule == "point-cycle"]
    assert rolled == sorted(set(rolled))


@given(_LICENSES)
def test_the_view_tells_the_day_of_the_next_step(license_: License) -> None:
    due = first_due(decode_standing(standing_bytes(license_)))
    step = next_step(license_, date(2090, 1, 1))
    assert due == (None if step is None else step.day)
