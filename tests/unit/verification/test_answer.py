"""Which licence speaks for a person who has several or none, and what a stranger is told of it."""

from __future__ import annotations

import pytest

from elicense.license.verdict import ViewFlags
from elicense.v1 import license_pb2
from elicense.v1 import verification_pb2 as pb
from elicense.verification.answer import CityFreshness, Question, Verdicts, Wordings, effective_row, matches, verdict
from elicense.view.model import NOBODY, ViewRow

CANCELLED, CONFLICT, PROVISIONAL = ViewFlags.CANCELLED, ViewFlags.CONFLICT, ViewFlags.PROVISIONAL


def row(number: int, flags: int, recorded_us: int) -> ViewRow:
    return ViewRow(bytes(16), bytes([number]) * 16, 1, 1, 0, 1, 1, int(flags), bytes(32), bytes(16), b"", recorded_us)


@pytest.mark.parametrize(
    ("flags", "speaks"),
    [
        ([0, CONFLICT], 0),
        ([CONFLICT, 0], 1),
        ([CANCELLED, 0], 1),
        ([CANCELLED, PROVISIONAL], 1),
        ([CANCELLED, CONFLICT], 1),
        ([CANCELLED, CANCELLED], 1),
        ([CANCELLED | CONFLICT, CANCELLED], 1),
        ([CANCELLED], 0),
    ],
)
def test_a_cancelled_license_speaks_only_when_there_is_no_other(flags: list[int], speaks: int) -> None:
    rows = [row(number, each, number) for number, each in enumerate(flags)]
    for order in (rows, rows[::-1]):
        assert effective_row(order) == rows[speaks]


def test_a_damaged_row_is_indeterminate_and_breaks_nothing() -> None:
    wrong_month = license_pb2.LicenseStanding()
    wrong_month.vehicle_classes.add(code="C1").from_date.month = 13
    question = Question(bytes(16), b"")
    fresh = CityFreshness(pb.SOURCE_REGISTRY, 1_000_000, 1, 1)
    for standing in (wrong_month.SerializeToString(), b"\xff"):
        damaged = ViewRow(*{**row(1, 0, 0).as_dict(), "standing": standing}.values())  # type: ignore[arg-type]
        answer = verdict(damaged, question, freshness=fresh, limit_us=10, verdicts=Verdicts(1_000_000))
        assert answer.outcome == pb.OUTCOME_INDETERMINATE


def test_nobody_speaks_for_a_person_without_a_license_and_matches_nothing() -> None:
    assert effective_row([]) == NOBODY
    for tag in (b"", bytes(16), b"n" * 16):
        assert not matches(NOBODY, Question(bytes(16), tag))
    assert matches(row(1, 0, 1), Question(bytes(16), b""))
    assert not matches(row(1, 0, 1), Question(bytes(16), b"n" * 16))


@pytest.mark.parametrize("as_of_us", [0, 1, 10**15])
def test_what_does_not_match_tells_nothing_of_the_license_or_of_its_city(as_of_us: int) -> None:
    question = Question(bytes(16), b"n" * 16)
    freshness = CityFreshness(pb.SOURCE_REGISTRY, as_of_us, 7, 1)
    answers = [
        verdict(each, question, freshness=freshness, limit_us=10**6, verdicts=Verdicts(10**15))
        for each in (NOBODY, row(1, 0, 1), row(1, CONFLICT | PROVISIONAL, 1))
    ]
    assert answers[0].outcome == pb.OUTCOME_NO_MATCH
    assert answers[1] == answers[2] == answers[0]


def test_verdicts_that_are_made_once_and_copied_are_those_made_one_by_one() -> None:
    standings = [NOBODY.standing, license_pb2.LicenseStanding().SerializeToString()]
    people = [
        ViewRow(*{**row(number, flags, 0).as_dict(), "standing": standing, "city": city}.values())  # type: ignore[arg-type]
        for number, (flags, standing, city) in enumerate(
            [(flags, standing, city) for flags in (0, CONFLICT) for standing in standings for city in (1, 2)] * 2, 1
        )
    ]
    now_us, question = 17 * 10**14, Question(bytes(16), b"")
    # One of the cities is stale.
    fresh = {1: CityFreshness(pb.SOURCE_REGISTRY, now_us, 7, 1), 2: CityFreshness(pb.SOURCE_REGISTRY, 1, 9, 1)}
    shared = Verdicts(now_us)

    def given(each: ViewRow, verdicts: Verdicts) -> pb.Verdict:
        return verdict(each, question, freshness=fresh[each.city], limit_us=10**6, verdicts=verdicts)

    together = [given(each, shared) for each in people]
    together[0].license.SetInParent()  # a copy of its own: what is added to one is not added to another
    together[0].ClearField("license")
    assert together == [given(each, Verdicts(now_us)) for each in people]
    assert {answer.outcome for answer in together} > {pb.OUTCOME_VALID, pb.OUTCOME_INDETERMINATE}


def test_words_that_are_kept_tell_the_freshness_and_the_time_of_now() -> None:
    wordings, question = Wordings(), Question(bytes(16), b"")
    held = ViewRow(*{**row(1, 0, 1).as_dict(), "standing": NOBODY.standing}.values())  # type: ignore[arg-type]
    for second in range(3):
        now_us = (17 * 10**8 + second) * 10**6
        fresh = CityFreshness(pb.SOURCE_REGISTRY, now_us, second, 1)
        kept = verdict(held, question, freshness=fresh, limit_us=10**6, verdicts=Verdicts(now_us, wordings))
        assert kept == verdict(held, question, freshness=fresh, limit_us=10**6, verdicts=Verdicts(now_us))
        assert kept.freshness.log_size == second
        assert kept.verdict_time.seconds == kept.freshness.as_of_time.seconds == now_us // 10**6
