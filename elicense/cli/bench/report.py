"""Figures for people (Markdown) and for machines (JSON)."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from elicense.cli.bench.rounds import DATABASE, SERVER, Figure


@dataclass(frozen=True, slots=True)
class Report:
    """One run.

    Attributes:
        title: What was measured.
        setting: Under which conditions, by word.
        figures: What came out.
    """

    title: str
    setting: Mapping[str, str | int | float]
    figures: Sequence[Figure]

    def markdown(self) -> str:
        """Return the run as a Markdown table with its conditions above."""
        lines = [f"### {self.title}", ""]
        lines.append(", ".join(f"{word}: {_plain(value)}" for word, value in self.setting.items()))
        lines += ["", "| what | unit | CPU ms / 1,000 (low to high) | server | database | a second | against |"]
        lines.append("|---|---|---|---|---|---|---|")
        lines += map(_line, self.figures)
        noted = [figure for figure in self.figures if figure.notes]
        if noted:
            lines.append("")
        lines += [
            f"{figure.name}: " + ", ".join(f"{word} {_plain(value)}" for word, value in figure.notes.items())
            for figure in noted
        ]
        return "\n".join(lines)

    def json(self) -> str:
        """Return the run as one JSON object, every round included."""
        return json.dumps(
            {"title": self.title, "setting": dict(self.setting), "figures": [_values(each) for each in self.figures]},
            indent=2,
        )


def _line(figure: Figure) -> str:
    low, high = figure.spread_us
    against = f"{median(figure.cheaper):.2f} × {figure.reference}" if figure.cheaper else ""
    return (
        f"| {figure.name} | {figure.unit} | {figure.cost_us:.1f} ({low:.1f} to {high:.1f}) "
        f"| {figure.part_us(SERVER):.1f} | {figure.part_us(DATABASE):.1f} | {figure.rate:,.0f} | {against} |"
    )


def _values(figure: Figure) -> dict[str, Any]:
    low, high = figure.spread_us
    return {
        "name": figure.name,
        "unit": figure.unit,
        "cpu_us": figure.cost_us,
        "cpu_us_low": low,
        "cpu_us_high": high,
        "cpu_us_server": figure.part_us(SERVER),
        "cpu_us_database": figure.part_us(DATABASE),
        "rate_per_s": figure.rate,
        "reference": figure.reference,
        "reference_ratio": median(figure.cheaper) if figure.cheaper else None,
        "notes": dict(figure.notes),
        "rounds": [{"units": each.units, "seconds": each.seconds, "cpu_s": dict(each.cpu_s)} for each in figure.rounds],
    }


def _plain(value: str | float) -> str:
    return value if isinstance(value, str) else f"{value:,}"
