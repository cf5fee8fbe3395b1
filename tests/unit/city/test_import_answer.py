"""The answer to an import stays below what a message may have."""

from __future__ import annotations

from city_node.services.issuance import MAX_ROW_BYTES, _row_status
from elicense.errors import NotEligible, Violation
from elicense.rpc.errors import from_status


def violations(count: int) -> list[Violation]:
    return [Violation(f"license.vehicle_classes[{i}].until_date", "DATES_OUT_OF_ORDER", "x" * 90) for i in range(count)]


def test_a_thousand_rows_full_of_violations_fit_in_one_answer() -> None:
    status = _row_status(NotEligible("the license may not be issued", violations=violations(64)))
    assert status.ByteSize() <= MAX_ROW_BYTES
    assert 1_000 * MAX_ROW_BYTES < 4 * 1024 * 1024
    error = from_status(status)
    assert isinstance(error, NotEligible)
    *kept, left_out = error.violations
    assert kept
    assert left_out.reason == "MORE_VIOLATIONS"
    assert left_out.message.startswith(str(64 - len(kept)))


def test_a_row_with_few_violations_names_them_all() -> None:
    error = from_status(_row_status(NotEligible("the license may not be issued", violations=violations(8))))
    assert error is not None
    assert len(error.violations) == 8
