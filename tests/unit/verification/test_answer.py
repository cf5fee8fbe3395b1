"""Which licence speaks for a person who has several."""

from __future__ import annotations

import pytest

from elicense.license.verdict import ViewFlags
from elicense.verification.answer import effective_row
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
