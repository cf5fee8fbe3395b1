"""What a campaign writes and what the README shows of it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from tests.faults.audit import Findings
from tests.faults.bystanders import Felt, Spread
from tests.faults.report import Row, exit_status, grouped, markdown, read, write
from tests.faults.table import FAULTS

_FELT = Felt("a licence", Spread(600, 0, 10.0, 20.0), Spread(600, 1, 12.0, 30.0))
_ROWS = [
    Row("network cut", 20, Findings(acknowledged=50), answering=[0.1, 0.3], catching_up=[0.2]),
    Row("connections half open", 2, Findings(acknowledged=60, lost=1), answering=[5.0]),
    Row("lying city", 28, accepted=["fork: accepted"]),
    Row("50 slow senders", 300, felt=[_FELT]),
    Row("city's disk full", skipped="only root can mount a small disk"),
]


def test_rows_are_read_as_they_were_written(tmp_path: Path) -> None:
    write(_ROWS, tmp_path)
    assert read(tmp_path / "faults.json") == _ROWS


def test_faults_of_one_group_share_a_line_and_nothing_that_failed_is_left_out() -> None:
    lines = grouped(_ROWS).splitlines()
    assert (
        "| network cut, silent, half open, dropping, slow; answers lost | 22 | 1 | 0 | 0 | 0 | "
        "0.30 s / 5.00 s | 0.20 s / 0.20 s |" in lines
    )
    assert "| lying city | 28 | 1 |" in lines
    assert "| 50 slow senders | 300 | 1.20 × / 1.50 × |" in lines
    assert "FAILED lying city: fork: accepted" in lines
    assert "SKIPPED city's disk full: only root can mount a small disk" in lines


def test_a_campaign_that_skipped_a_fault_names_it_last_and_has_not_passed() -> None:
    ran, skipped = Row("network cut", 20), _ROWS[-1]
    assert exit_status([ran], allow_skips=False) == 0
    assert exit_status([ran, skipped], allow_skips=False) == 2
    assert exit_status([ran, skipped], allow_skips=True) == 0
    assert not skipped.passed
    assert markdown([skipped, ran]).splitlines()[-1] == f"SKIPPED {skipped.name}: {skipped.skipped}"
    failed = Row("lying city", 28, accepted=["fork: accepted"])
    assert exit_status([failed, skipped], allow_skips=True) == 1
    assert exit_status([replace(skipped, broken=["refused for nothing"])], allow_skips=True) == 1


def test_a_campaign_fails_where_others_wait_too_long_at_the_median_and_says_who() -> None:
    def row(calls: int, p50_ms: float, p99_ms: float) -> Row:
        felt = Felt("a licence", Spread(calls, 0, 10.0, 20.0), Spread(calls, 0, p50_ms, p99_ms))
        return Row("50 slow senders", 300, felt=[felt])

    assert exit_status([row(600, 15.0, 90.0)], allow_skips=False) == 0
    slow = row(600, 15.2, 20.0)
    assert exit_status([slow], allow_skips=False) == 1
    assert "FAILED 50 slow senders: a licence took 1.52 times as long at p50, more than 1.5" in markdown([slow])
    # A dozen calls, as the test suite makes, say nothing.
    assert row(12, 15.2, 20.0).passed


def test_every_fault_has_a_name_of_its_own() -> None:
    assert len({fault.name for fault in FAULTS}) == len(FAULTS)
