"""What the audience of the demo sees."""

from __future__ import annotations

import io
import json
import re

import pytest
from rich.console import Console

from elicense.cli.demo.display import Display, JsonDisplay, LiveDisplay, PlainDisplay, choose_display
from elicense.cli.demo.figures import Figures


def play(display: Display) -> None:
    figures = Figures()
    figures.add("imported", "Drivers imported", 2_913)
    figures.add("issue_visible_p99_ms", "Issue → VALID nationwide, p99", 41.5, "ms")
    display.node("Suzhou", "up at 127.0.0.1:1")
    display.scene("Import")
    display.say("2,913 imported")
    display.scene("Replication")
    display.finish(figures)
    display.close()


def test_a_pipe_gets_one_line_a_fact(capsys: pytest.CaptureFixture[str]) -> None:
    play(PlainDisplay())
    lines = [re.sub(r"\[ *[\d.]+ s\]", "[T]", line) for line in capsys.readouterr().out.splitlines()]
    assert lines == [
        "[T] 1. Import",
        "          2,913 imported",
        "[T] 2. Replication",
        "",
        "  Drivers imported               2,913",
        "  Issue → VALID nationwide, p99  41.5 ms",
    ]


def test_a_terminal_gets_scenes_nodes_and_a_table_and_is_left_as_it_was() -> None:
    output = io.StringIO()
    play(LiveDisplay(Console(file=output, force_terminal=True, width=100)))
    text = output.getvalue()
    for part in ("1. Import", "✓", "2,913 imported", "2. Replication", "Figures of this run", "41.5 ms"):
        assert part in text
    assert text.rstrip().endswith("\x1b[?25h") or text.count("\x1b[?25l") == text.count("\x1b[?25h")


def test_a_machine_gets_nothing_but_the_figures(capsys: pytest.CaptureFixture[str]) -> None:
    play(JsonDisplay())
    assert json.loads(capsys.readouterr().out) == {"imported": 2_913, "issue_visible_p99_ms": 41.5}


def test_the_display_fits_where_the_output_goes() -> None:
    assert isinstance(choose_display(for_machine=True), JsonDisplay)
    assert isinstance(choose_display(for_machine=False), PlainDisplay)
