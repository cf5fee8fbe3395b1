"""Plots of a load test: rate and durations over its time, and durations by percentile."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any, Final

from elicense.cli.load.report import Report, rate
from elicense.errors import Refused

FORMATS: Final = (".svg", ".png")

_TAIL: Final = (0, 10, 25, 50, 75, 90, 95, 99, 99.5, 99.9, 99.99)


class PlotsMissing(Refused):
    """The library that draws is not installed."""

    reason = "PLOTS_NOT_INSTALLED"


def load_pyplot() -> Any:
    """Return the library that draws, without a screen.

    Raises:
        PlotsMissing: It is not installed.
    """
    try:
        import_module("matplotlib").use("Agg")
        return import_module("matplotlib.pyplot")
    except ImportError as error:
        raise PlotsMissing(
            "plots need matplotlib: pip install 'elicense[load]'; everything else works without"
        ) from error


def draw(report: Report, file: Path) -> None:
    """Draw a test into a file, SVG or PNG by its name.

    Raises:
        PlotsMissing: The library that draws is not installed.
    """
    pyplot = load_pyplot()
    figure, (rates, durations, tail) = pyplot.subplots(3, 1, figsize=(9, 11), layout="constrained")
    seconds = report.tally.seconds
    title = f"{report.scenario.name}: {rate(report.tally.units, report.seconds):,.0f} {report.units} a second"
    figure.suptitle(f"{title}\n{report.cut}" if report.cut else title)
    at = [second.at for second in seconds]
    rates.step(at, [second.units for second in seconds], where="pre", label=report.units)
    rates.step(at, [second.errors for second in seconds], where="pre", label="errors", color="tab:red")
    rates.set(xlabel="seconds", ylabel="a second", ylim=(0, None))
    rates.legend()
    for name, values in (("p50", [s.p50_us for s in seconds]), ("p99", [s.p99_us for s in seconds])):
        durations.plot(at, [value / 1_000 for value in values], label=name)
    durations.set(xlabel="seconds", ylabel="milliseconds", ylim=(0, None))
    durations.legend()
    tally = report.tally
    for name, histogram in (("from when it was due", tally.latency), ("from its start", tally.service)):
        tail.plot([f"{p:g}" for p in _TAIL], [histogram.percentile(p) / 1_000 for p in _TAIL], marker=".", label=name)
    tail.set(xlabel="percentile", ylabel="milliseconds", yscale="log")
    tail.legend()
    figure.savefig(file)
    pyplot.close(figure)
