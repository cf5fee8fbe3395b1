"""The table of a campaign, for people and for machines."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from tests.faults.audit import Findings

_HEAD = (
    "| Fault | Times | Acknowledged | Lost | Twice | Gaps | Forks signed | Bad inputs accepted | "
    "Answers again p50 / p99 | Caught up p50 / p99 |\n"
    "|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|"
)


@dataclass
class Row:
    """What one fault came to.

    Attributes:
        name: The fault.
        times: How often it struck, or how many bad inputs were sent.
        findings: What the audits found; the worst of each.
        accepted: Bad inputs that were accepted.
        answering: Seconds from the end of the fault to the first acknowledged licence, each round.
        catching_up: Seconds from there until the registry held everything, each time it was waited for.
        broken: Expectations that did not hold.
        skipped: What this machine lacks for it; empty when it ran.
        notes: Figures of its own.
    """

    name: str
    times: int = 0
    findings: Findings = field(default_factory=Findings)
    accepted: list[str] = field(default_factory=list)
    answering: list[float] = field(default_factory=list)
    catching_up: list[float] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)
    skipped: str = ""
    notes: list[str] = field(default_factory=list)

    @property
    def passed(self) -> bool:
        return self.findings.clean and not self.accepted and not self.broken

    def line(self) -> str:
        if self.skipped:
            return f"| {self.name} | skipped: {self.skipped} | | | | | | | | |"
        f = self.findings
        cells = [self.name, f"{self.times:,}", f"{f.acknowledged:,}", f.lost, f.duplicates, f.gaps, f.forks]
        cells += [len(self.accepted), spread(self.answering), spread(self.catching_up)]
        return "| " + " | ".join(map(str, cells)) + " |"


def quantile(values: Sequence[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def spread(values: Sequence[float]) -> str:
    if not values:
        return ""
    return f"{quantile(values, 0.5):.2f} s / {quantile(values, 0.99):.2f} s"


def markdown(rows: Sequence[Row]) -> str:
    """Return the table, and below it whatever was not as it should be."""
    lines = [_HEAD, *(row.line() for row in rows)]
    for row in rows:
        lines += [f"\n{row.name}: {note}" for note in row.notes]
        lines += [f"\nFAILED {row.name}: {what}" for what in (*row.broken, *row.accepted, *row.findings.fsck)]
    return "\n".join(lines) + "\n"


def write(rows: Sequence[Row], folder: Path) -> None:
    """Write ``faults.md`` and ``faults.json``."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "faults.md").write_text(markdown(rows), encoding="utf-8")
    values = [asdict(row) | {"passed": row.passed} for row in rows]
    (folder / "faults.json").write_text(json.dumps(values, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
