"""What a load test came to: for people, for machines, and whether its thresholds held."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

from elicense.cli.load.histogram import Histogram
from elicense.cli.load.loops import CutShort
from elicense.cli.load.scenario import Scenario
from elicense.cli.load.tally import Tally

PERCENTILES: Final = (50.0, 90.0, 99.0, 99.9, 100.0)

_UNITS: Final = {
    "issue": "licences",
    "day-one": "licences",
    "verify": "verdicts",
    "batch": "verdicts",
    "mixed": "licences and verdicts",
    "replicate": "entries",
    "cities": "entries",
}


@dataclass(frozen=True, slots=True)
class Check:
    """A threshold and what it was measured against.

    Attributes:
        name: Its key in the scenario.
        limit: What was asked for.
        measured: What it came to.
        held: Whether it held.
    """

    name: str
    limit: float
    measured: float
    held: bool


@dataclass(frozen=True, slots=True)
class Report:
    """The result of one test.

    Attributes:
        scenario: What was to be done.
        target: Whom it called.
        seconds: How long calls were made.
        tally: What was counted.
        checks: Its thresholds.
        cut_short: Why it ended before its time; None if it did not.
    """

    scenario: Scenario
    target: str
    seconds: float
    tally: Tally
    checks: Sequence[Check]
    cut_short: CutShort | None

    @property
    def held(self) -> bool:
        """Whether every threshold held over the whole test: none did over what was cut off."""
        return self.cut_short is None and all(check.held for check in self.checks)

    @property
    def cut(self) -> str:
        """What to say of a test that was cut short; empty of one that was not."""
        if self.cut_short is None:
            return ""
        return f"cut short ({self.cut_short}) after {self.seconds:.1f} of {self.scenario.loop.seconds:g} s"

    @property
    def units(self) -> str:
        """What the calls brought."""
        return _UNITS[self.scenario.kind]

    def as_json(self) -> dict[str, Any]:
        """Return it for machines; durations in milliseconds."""
        tally = self.tally
        return {
            "scenario": self.scenario.model_dump(mode="json"),
            "target": self.target,
            "cut_short": self.cut_short,
            "seconds": round(self.seconds, 3),
            "calls": tally.calls,
            "units": {"what": self.units, "count": tally.units, "a_second": round(rate(tally.units, self.seconds), 2)},
            "errors": dict(tally.errors.most_common()),
            "not_made": tally.not_made,
            "error_rate": error_rate(tally),
            "latency_ms": _spread(tally.latency),
            "service_ms": _spread(tally.service),
            "thresholds": [asdict(check) for check in self.checks],
            "held": self.held,
            "timeline": [asdict(second) for second in tally.seconds],
        }

    def as_markdown(self) -> str:
        """Return it for people."""
        tally, loop = self.tally, self.scenario.loop
        lines = [
            f"# {self.scenario.name}",
            "",
            *((self.scenario.about, "") if self.scenario.about else ()),
            f"{self.scenario.kind} against {self.target}, {loop.kind} loop, {self.seconds:.1f} s"
            + (f", **{self.cut}**" if self.cut else ""),
            "",
            "| what | figure |",
            "|---|---|",
            f"| calls | {tally.calls:,} ({rate(tally.calls, self.seconds):,.1f} a second) |",
            f"| {self.units} | {tally.units:,} ({rate(tally.units, self.seconds):,.1f} a second) |",
            f"| failed | {tally.errors.total():,} of {tally.calls:,} |",
        ]
        if tally.not_made:
            lines.append(f"| due, but never made | {tally.not_made:,} |")
        lines += [f"| failed with {reason} | {number:,} |" for reason, number in tally.errors.most_common()]
        lines += ["", "| milliseconds | " + " | ".join(_name(each) for each in PERCENTILES) + " |"]
        lines += ["|---|" + "---|" * len(PERCENTILES)]
        from_when = "when it was due" if loop.kind == "open" else "its start"
        lines.append(f"| from {from_when} | {_row(tally.latency)} |")
        if loop.kind == "open":
            lines.append(f"| from its start | {_row(tally.service)} |")
        if self.checks:
            lines += ["", "| threshold | asked for | measured | |", "|---|---|---|---|"]
            lines += [
                f"| {check.name} | {check.limit:g} | {check.measured:.4g} | {'held' if check.held else '**missed**'} |"
                for check in self.checks
            ]
        return "\n".join(lines) + "\n"


def check_thresholds(scenario: Scenario, tally: Tally, seconds: float) -> list[Check]:
    """Return every threshold of a scenario with what it was measured against."""
    wanted = scenario.thresholds
    upper = {
        "p50_ms": (wanted.p50_ms, tally.latency.percentile(50) / 1_000),
        "p99_ms": (wanted.p99_ms, tally.latency.percentile(99) / 1_000),
        "error_rate": (wanted.error_rate, error_rate(tally)),
    }
    checks = [
        # Nothing measured is nothing kept.
        Check(name, limit, measured, measured <= limit and tally.calls > 0)
        for name, (limit, measured) in upper.items()
        if limit is not None
    ]
    if wanted.min_rate is not None:
        measured = rate(tally.units, seconds)
        checks.append(Check("min_rate", wanted.min_rate, measured, measured >= wanted.min_rate))
    return checks


def rate(count: int, seconds: float) -> float:
    """Return how many a second."""
    return count / seconds if seconds > 0 else 0.0


def error_rate(tally: Tally) -> float:
    """Return the share of calls that failed, those that were due and never made among them."""
    due = tally.calls + tally.not_made
    return tally.failed / due if due else 0.0


def _spread(histogram: Histogram) -> dict[str, float]:
    spread = {_name(each): histogram.percentile(each) / 1_000 for each in PERCENTILES}
    return {"mean": round(histogram.mean_us / 1_000, 3), **spread}


def _name(percent: float) -> str:
    return "max" if percent == 100 else f"p{percent:g}"


def _row(histogram: Histogram) -> str:
    return " | ".join(f"{histogram.percentile(each) / 1_000:,.1f}" for each in PERCENTILES)
