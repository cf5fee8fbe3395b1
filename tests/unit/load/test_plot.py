"""Plots of a load test: both formats, of a test of one second too."""

from __future__ import annotations

from pathlib import Path

import pytest

from elicense.cli.load.loops import CutShort
from elicense.cli.load.plot import FORMATS, draw
from elicense.cli.load.report import Report
from elicense.cli.load.scenario import Scenario
from elicense.cli.load.tally import Tally


def report(kind: str, *, cut_short: CutShort | None = None) -> Report:
    scenario = Scenario.model_validate({"name": "x", "kind": "verify", "loop": {"kind": kind, "seconds": 2}})
    tally = Tally()
    for _ in range(30):
        tally.ended(latency_us=4_000, service_us=3_000, units=1)
    tally.close_second(1)
    return Report(scenario, "t", 1.0, tally, [], cut_short=cut_short)


@pytest.mark.parametrize("suffix", FORMATS)
@pytest.mark.parametrize("kind", ["open", "closed"])
def test_a_plot_is_drawn_of_either_loop_in_either_format(tmp_path: Path, kind: str, suffix: str) -> None:
    file = tmp_path / f"plot{suffix}"
    draw(report(kind), file)
    assert file.read_bytes().startswith({".png": b"\x89PNG", ".svg": b"<?xml"}[suffix])


def test_a_plot_says_that_its_test_was_cut_short_and_from_when_its_durations_count(tmp_path: Path) -> None:
    file = tmp_path / "plot.svg"
    draw(report("open", cut_short=CutShort.MAX_CALLS), file)
    # Letters are drawn as paths, with the words beside them in a comment.
    drawn = file.read_text(encoding="utf-8")
    assert "cut short (max_calls) after 1.0 of 2 s" in drawn
    assert "from when it was due" in drawn
    draw(report("closed"), file)
    drawn = file.read_text(encoding="utf-8")
    assert "cut short" not in drawn
    assert "from when it was due" not in drawn
