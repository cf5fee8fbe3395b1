"""What the demo keeps of its measurements."""

from __future__ import annotations

import pytest

from elicense.cli.demo.figures import ExpectationFailed, Figures, expect, percentile


@pytest.mark.parametrize(
    ("values", "share", "wanted"),
    [
        ([5.0], 0.5, 5.0),
        ([5.0], 0.99, 5.0),
        ([3.0, 1.0, 2.0], 0.5, 2.0),
        ([float(n) for n in range(1, 101)], 0.5, 50.0),
        ([float(n) for n in range(1, 101)], 0.99, 99.0),
        ([float(n) for n in range(1, 101)], 1.0, 100.0),
    ],
)
def test_a_percentile_is_a_value_that_was_measured(values: list[float], share: float, wanted: float) -> None:
    assert percentile(values, share) == wanted


def test_a_broken_expectation_says_what_was_expected() -> None:
    expect(True, "never seen")
    with pytest.raises(ExpectationFailed, match="three cities"):
        expect(False, "expected three cities")


def test_figures_are_given_to_people_with_their_unit_and_to_machines_rounded() -> None:
    figures = Figures()
    figures.add("rate", "Rate", 1234.5678, "drivers/s")
    figures.add("p99_ms", "p99", 12.34567, "ms")
    figures.add("count", "Count", 3000)
    figures.add("refused", "Refused", "SIGNATURE_INVALID")

    assert [figure.text for figure in figures] == ["1,235 drivers/s", "12.3 ms", "3,000", "SIGNATURE_INVALID"]
    assert figures.as_json() == {"rate": 1234.568, "p99_ms": 12.346, "count": 3000, "refused": "SIGNATURE_INVALID"}
