"""Which licence speaks for a person who has several."""

from __future__ import annotations

import pytest

from elicense.license.verdict import ViewFlags
from elicense.v1 import license_pb2
from elicense.v1 import verification_pb2 as pb
from elicense.verification.answer import CityFreshness, Question, effective_row, verdict
from elicense.view.model import ViewRow

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
    assert effective_row([]) is None


def test_a_damaged_row_is_indeterminate_and_breaks_nothing() -> None:
    wrong_month = license_pb2.LicenseStanding()
    wrong_month.vehicle_classes.add(code="C1").from_date.month = 13
    question = Question(bytes(16), b"")
    fresh = CityFreshness(pb.SOURCE_REGISTRY, 1_000_000, 1, 1)
    for standing in (wrong_month.SerializeToString(), b"\xff"):
        damaged = ViewRow(*{**row(1, 0, 0).as_dict(), "standing": standing}.values())  # type: ignore[arg-type]
        answer = verdict(damaged, question, freshness=fresh, limit_us=10, now_us=1_000_000)
        assert answer.outcome == pb.OUTCOME_INDETERMINATE
