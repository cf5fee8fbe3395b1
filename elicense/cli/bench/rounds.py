"""Rows are measured round by round, in turn, each beside its reference of the same round."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import median
from typing import Final

from elicense.cli.bench.usage import Processes

SERVER: Final = "server"
DATABASE: Final = "database"


@dataclass(frozen=True, slots=True)
class Row:
    """One thing that is measured.

    Attributes:
        name: What it is.
        work: Does one round of it and returns how many units that was.
        processes: Whose CPU pays for it, by part (:data:`SERVER`, :data:`DATABASE`).
        unit: What is counted.
        reference: Name of the row that it is compared with; empty for none.
        besides: Name of an earlier row that does alone what this one does besides its own work, and as much
            of it: its CPU of the same round is taken off; empty for none.
        prepare: Makes ready what a round needs; not measured.
    """

    name: str
    work: Callable[[], Awaitable[int]]
    processes: Mapping[str, Processes]
    unit: str = "call"
    reference: str = ""
    besides: str = ""
    prepare: Callable[[], Awaitable[None]] | None = None


@dataclass(frozen=True, slots=True)
class Round:
    """One round of one row.

    Attributes:
        units: Units of work done.
        seconds: How long it took.
        cpu_s: CPU seconds by part.
    """

    units: int
    seconds: float
    cpu_s: Mapping[str, float]

    @property
    def cost_us(self) -> float:
        """CPU of all parts a unit, in microseconds."""
        return sum(self.cpu_s.values()) / self.units * 1e6

    @property
    def unit_s(self) -> float:
        """Seconds a unit."""
        return self.seconds / self.units

    def without(self, other: Round) -> Round:
        """Return this round without the CPU of another."""
        return replace(self, cpu_s={part: used - other.cpu_s.get(part, 0.0) for part, used in self.cpu_s.items()})


@dataclass(frozen=True, slots=True)
class Figure:
    """What came out for one row.

    Attributes:
        name: As in the row.
        unit: As in the row.
        rounds: Every round.
        reference: Name of the row that it is compared with; empty for none.
        cheaper: By round, the reference's cost a unit divided by this one's: 0.5 means half its throughput.
        notes: What else there is to say, by word.
    """

    name: str
    unit: str
    rounds: Sequence[Round]
    reference: str = ""
    cheaper: Sequence[float] = ()
    notes: Mapping[str, float] = field(default_factory=dict)

    @property
    def cost_us(self) -> float:
        """Median CPU a unit, in microseconds."""
        return median(each.cost_us for each in self.rounds)

    @property
    def spread_us(self) -> tuple[float, float]:
        """Lowest and highest CPU a unit, in microseconds."""
        costs = [each.cost_us for each in self.rounds]
        return min(costs), max(costs)

    @property
    def rate(self) -> float:
        """Median units a second."""
        return median(each.units / each.seconds for each in self.rounds)

    def part_us(self, part: str) -> float:
        """Return the median CPU of one part a unit, in microseconds."""
        return median(each.cpu_s.get(part, 0.0) / each.units for each in self.rounds) * 1e6


async def measure(rows: Sequence[Row], *, rounds: int) -> list[Figure]:
    """Run every row in each round, after one round that does not count.

    Args:
        rows: What to measure, in this order; each reference is one of them.
        rounds: How often.
    """
    taken: dict[str, list[Round]] = {row.name: [] for row in rows}
    for number in range(-1, rounds):
        for row in rows:
            taken_now = await _round(row)
            if number >= 0:
                taken[row.name].append(taken_now)
    return [_figure(row, taken) for row in rows]


def _figure(row: Row, taken: Mapping[str, Sequence[Round]]) -> Figure:
    whole = rounds = taken[row.name]
    if row.besides:
        rounds = [ours.without(alone) for ours, alone in zip(whole, taken[row.besides], strict=True)]
    references = taken[row.reference] if row.reference else []
    figure = Figure(
        name=row.name,
        unit=row.unit,
        rounds=rounds,
        reference=row.reference,
        cheaper=[theirs.cost_us / ours.cost_us for ours, theirs in zip(rounds, references, strict=True)]
        if references
        else (),
    )
    if not row.besides:
        return figure
    # Said as well, so that nobody has to believe in what was taken off.
    all_of_it = median(each.cost_us for each in whole)
    notes = {f"µs with nothing taken off for “{row.besides}”": round(all_of_it, 1)}
    if references:
        ratio = median(theirs.cost_us / ours.cost_us for ours, theirs in zip(whole, references, strict=True))
        notes[f"× {row.reference} then"] = round(ratio, 2)
    return replace(figure, notes=notes)


async def _round(row: Row) -> Round:
    if row.prepare is not None:
        await row.prepare()
    before = {part: processes.cpu_s() for part, processes in row.processes.items()}
    began = time.perf_counter()
    units = await row.work()
    seconds = time.perf_counter() - began
    after = {part: processes.cpu_s() for part, processes in row.processes.items()}
    return Round(units, seconds, {part: after[part] - before[part] for part in before})
