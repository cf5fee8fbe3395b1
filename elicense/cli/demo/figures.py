"""What a run of the demo measured."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from elicense.errors import Error


class ExpectationFailed(Error):
    """Something did not come out as the demo promises."""

    reason = "EXPECTATION_FAILED"


def expect(condition: bool, message: str) -> None:
    """Go on only if ``condition`` holds.

    Raises:
        ExpectationFailed: It does not; ``message`` says what was expected and what came.
    """
    if not condition:
        raise ExpectationFailed(message)


def percentile(values: Sequence[float], share: float) -> float:
    """Return the value below or at which ``share`` of all values lie (nearest rank, so it was measured).

    Args:
        values: At least one.
        share: Above 0, at most 1.
    """
    return sorted(values)[max(0, math.ceil(share * len(values)) - 1)]


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured value.

    Attributes:
        key: Name for machines; ends in the unit where there is one.
        label: What it is, for people.
        value: The value.
        unit: Unit for people; may be empty.
    """

    key: str
    label: str
    value: float | int | str
    unit: str = ""

    @property
    def text(self) -> str:
        """The value with its unit, for people."""
        match self.value:
            case float() as value:
                return f"{value:,.{1 if abs(value) < 100 else 0}f} {self.unit}".rstrip()
            case int() as value:
                return f"{value:,} {self.unit}".rstrip()
            case value:
                return str(value)


@dataclass(slots=True)
class Figures:
    """All that was measured so far, in the order in which it was."""

    _all: list[Figure] = field(default_factory=list)

    def add(self, key: str, label: str, value: float | int | str, unit: str = "") -> Figure:
        """Keep a value and return it."""
        figure = Figure(key, label, value, unit)
        self._all.append(figure)
        return figure

    def __iter__(self) -> Iterator[Figure]:
        return iter(self._all)

    def as_json(self) -> dict[str, float | int | str]:
        """Return the values by key; floats rounded to a thousandth."""
        return {f.key: round(f.value, 3) if isinstance(f.value, float) else f.value for f in self._all}
