"""What a campaign writes and what the README shows of it."""

from __future__ import annotations

from pathlib import Path

from tests.faults.audit import Findings
from tests.faults.bystanders import Felt, Spread
from tests.faults.report import Row, grouped, read, write
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
    assert "Not run: city's disk full: only root can mount a small disk" in lines


def test_every_fault_has_a_name_of_its_own() -> None:
    assert len({fault.name for fault in FAULTS}) == len(FAULTS)
