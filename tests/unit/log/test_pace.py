from __future__ import annotations

import pytest

from elicense.log.pace import URGENT_S, BulkPace

MOST = 1_000
SHORT_S = 0.01


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def pace(clock: Clock) -> BulkPace:
    return BulkPace(clock=clock, most=MOST, short_s=SHORT_S)


def test_while_nobody_waits_bulk_work_gets_all_there_is(pace: BulkPace) -> None:
    pace.note_commit(MOST, 1.0)
    assert (pace.is_urgent, pace.room, pace.pause_s) == (False, MOST, 0.0)


def test_while_somebody_waits_a_commit_is_as_long_as_it_may_last(pace: BulkPace) -> None:
    pace.note_urgent()
    for _ in range(30):
        pace.note_commit(100, 100 * 0.001)
    assert pace.is_urgent
    assert pace.room in (9, 10)
    for _ in range(30):
        pace.note_commit(10, 10 * 0.000_1)
    assert pace.room in (99, 100)


def test_bulk_work_goes_on_however_slow_commits_are(pace: BulkPace) -> None:
    pace.note_urgent()
    pace.note_commit(1, 60.0)
    assert pace.room == 1


def test_after_each_commit_with_bulk_work_others_have_twice_as_long_for_theirs(pace: BulkPace, clock: Clock) -> None:
    pace.note_urgent()
    pace.note_commit(10, 0.2)
    clock.now = 0.35
    assert pace.pause_s == pytest.approx(0.05)
    clock.now = 0.4
    assert pace.pause_s == 0
    pace.note_commit(0, 0.2)
    assert pace.pause_s == 0


def test_bulk_work_stops_giving_way_a_while_after_the_last_who_waited(pace: BulkPace, clock: Clock) -> None:
    pace.note_urgent()
    clock.now = URGENT_S
    pace.note_commit(10, 0.2)
    assert (pace.is_urgent, pace.room, pace.pause_s) == (False, MOST, 0.0)
