"""The tables of a campaign: fault by fault, and grouped as the README shows them.

``python -m tests.faults.report build/faults/faults.json`` prints the grouped tables of a run.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

from tests.faults.audit import Findings
from tests.faults.bystanders import Felt, Spread
from tests.faults.fault import Attack
from tests.faults.table import FAULTS, ON_POSTGRES

_HEAD = (
    "| Fault | Times | Acknowledged | Lost | Twice | Gaps | Forks signed | Bad inputs accepted | "
    "Answers again p50 / p99 | Caught up p50 / p99 |\n"
    "|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|"
)
_BROKEN_HEAD = (
    "| attack | times | acknowledged lost | twice | gaps | forks signed | answers again, p50 / p99 | "
    "caught up, p50 / p99 |\n|---|--:|--:|--:|--:|--:|--:|--:|"
)
_SENT_HEAD = "| what must be refused, or found | tried | got through |\n|---|--:|--:|"

_GROUPS = {fault.name: fault.group or fault.name for fault in (*FAULTS, *ON_POSTGRES)}
_SENT = {fault.name for fault in FAULTS if isinstance(fault, Attack)}


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
        felt: What others felt meanwhile.
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
    felt: list[Felt] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)
    skipped: str = ""
    notes: list[str] = field(default_factory=list)

    @property
    def group(self) -> str:
        """The line of the grouped tables that it belongs to."""
        return _GROUPS.get(self.name, self.name)

    @property
    def sent(self) -> bool:
        """Whether something was sent that must change nothing, rather than something broken."""
        return self.name in _SENT

    @property
    def passed(self) -> bool:
        """Whether everything was as it should be; of a fault that was skipped nobody knows."""
        return not self.skipped and not self.failed

    @property
    def failed(self) -> bool:
        """Whether anything was not as it should be, also before it was skipped."""
        return not self.findings.clean or bool(self.failures)

    @property
    def too_long(self) -> list[str]:
        """What those who were not attacked waited for too long."""
        return [felt.too_long for felt in self.felt if felt.too_long]

    @property
    def failures(self) -> list[str]:
        """Whatever was not as it should be, in words."""
        return [*self.broken, *self.accepted, *self.findings.fsck, *self.too_long]

    def line(self) -> str:
        if self.skipped:
            return f"| {self.name} | skipped: {self.skipped} | | | | | | | | |"
        f = self.findings
        return _line(
            self.name,
            f"{self.times:,}",
            f"{f.acknowledged:,}",
            f.lost,
            f.duplicates,
            f.gaps,
            f.forks,
            len(self.accepted),
            spread(self.answering),
            spread(self.catching_up),
        )


def quantile(values: Sequence[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def spread(values: Sequence[float]) -> str:
    if not values:
        return ""
    return f"{quantile(values, 0.5):.2f} s / {quantile(values, 0.99):.2f} s"


def recovery(rows: Sequence[Row]) -> str:
    """Say how long recovery took over all faults together."""
    answering, catching_up = (
        list(chain.from_iterable(each)) for each in ([row.answering for row in rows], [row.catching_up for row in rows])
    )
    return (
        f"Over all: a licence was acknowledged again {spread(answering) or '-'} (p50 / p99 of {len(answering):,} "
        f"recoveries) after the end of a fault, and the registry held everything {spread(catching_up) or '-'} "
        f"(p50 / p99 of {len(catching_up):,} times) after that."
    )


def markdown(rows: Sequence[Row]) -> str:
    """Return the table fault by fault, what others felt, and below whatever was not as it should be."""
    lines = [_HEAD, *(row.line() for row in rows), "", recovery(rows)]
    for row in rows:
        lines += [f"\n{row.name}: {note}" for note in row.notes]
        lines += [f"\n{row.name}: {felt.text()}" for felt in row.felt]
    return "\n".join([*lines, *_failures(rows), *(f"\n{line}" for line in _skipped(rows))]) + "\n"


def exit_status(rows: Sequence[Row], *, allow_skips: bool) -> int:
    """Return 1 if anything was not as it should be, else 2 if a fault was skipped and may not be, else 0."""
    if any(row.failed for row in rows):
        return 1
    return 0 if allow_skips or not _skipped(rows) else 2


def grouped(rows: Sequence[Row]) -> str:
    """Return the tables of the README: what was broken, what was sent, and what others felt."""
    ran = [row for row in rows if not row.skipped]
    parts = [
        [_BROKEN_HEAD, *_by_group((row for row in ran if not row.sent), _broken_line)],
        [recovery(ran)],
        [_SENT_HEAD, *_by_group((row for row in ran if row.sent and not row.felt), _sent_line)],
        _felt_table([row for row in ran if row.felt]),
        _skipped(rows),
        _failures(rows),
    ]
    return "\n\n".join("\n".join(part) for part in parts if part) + "\n"


def write(rows: Sequence[Row], folder: Path) -> None:
    """Write ``faults.md`` and ``faults.json``."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "faults.md").write_text(markdown(rows), encoding="utf-8")
    values = [asdict(row) | {"passed": row.passed} for row in rows]
    (folder / "faults.json").write_text(json.dumps(values, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


def read(path: Path) -> list[Row]:
    """Return the rows that :func:`write` wrote."""
    return [_row(values) for values in json.loads(path.read_text(encoding="utf-8"))]


def _row(values: dict[str, Any]) -> Row:
    del values["passed"]
    findings = Findings(**values.pop("findings"))
    felt = [Felt(each["call"], Spread(**each["peace"]), Spread(**each["attack"])) for each in values.pop("felt", ())]
    return Row(**values, findings=findings, felt=felt)


def _by_group(rows: Iterable[Row], line: Callable[[str, list[Row]], str]) -> list[str]:
    groups: dict[str, list[Row]] = {}
    for row in rows:
        groups.setdefault(row.group, []).append(row)
    return [line(name, members) for name, members in groups.items()]


def _broken_line(name: str, rows: list[Row]) -> str:
    # A licence once lost is lost in every audit after it: the worst of them, not their sum.
    found = [max(getattr(row.findings, what) for row in rows) for what in ("lost", "duplicates", "gaps", "forks")]
    answering = [seconds for row in rows for seconds in row.answering]
    catching_up = [seconds for row in rows for seconds in row.catching_up]
    return _line(name, f"{sum(row.times for row in rows):,}", *found, spread(answering), spread(catching_up))


def _sent_line(name: str, rows: list[Row]) -> str:
    return _line(name, f"{sum(row.times for row in rows):,}", sum(len(row.accepted) for row in rows))


def _felt_table(rows: Sequence[Row]) -> list[str]:
    if not rows:
        return []
    calls = [felt.call for felt in rows[0].felt]
    lines = [_line("how much longer others wait (p50, p99)", "strikes", *calls), "|---|--:|" + "--:|" * len(calls)]
    peace = [
        " / ".join(
            f"{quantile([getattr(row.felt[place].peace, share) for row in rows], 0.5):.0f} ms"
            for share in ("p50_ms", "p99_ms")
        )
        for place in range(len(calls))
    ]
    lines.append(_line("in peace", "", *peace))
    for row in rows:
        ratios = [" / ".join(f"{ratio:.2f} ×" for ratio in felt.ratios) for felt in row.felt]
        lines.append(_line(row.name, f"{row.times:,}", *ratios))
    return lines


def _skipped(rows: Sequence[Row]) -> list[str]:
    return [f"SKIPPED {row.name}: {row.skipped}" for row in rows if row.skipped]


def _failures(rows: Sequence[Row]) -> list[str]:
    return [f"\nFAILED {row.name}: {what}" for row in rows for what in row.failures]


def _line(*cells: object) -> str:
    return "| " + " | ".join(map(str, cells)) + " |"


if __name__ == "__main__":
    sys.stdout.write(grouped(read(Path(sys.argv[1]))))
