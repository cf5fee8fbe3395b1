"""Plots of a load test: rate and durations over its time, and durations by percentile."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any, Final

from elicense.cli.load.histogram import Histogram
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
    # A second is a step as wide as itself: also the only one of a short test, and the first.
    edges = [0, *(second.at for second in seconds)]
    rates.stairs([second.units for second in seconds], edges, label=report.units, linewidth=1.5)
    rates.stairs([second.errors for second in seconds], edges, label="errors", color="tab:red", linewidth=1.5)
    rates.set(title="What the calls of each second brought", xlabel="seconds", ylabel="a second", ylim=(0, None))
    for name, values in (("p99", [s.p99_us for s in seconds]), ("p50", [s.p50_us for s in seconds])):
        durations.stairs([value / 1_000 for value in values], edges, label=name, linewidth=1.5)
    durations.set(title="How long they took", xlabel="seconds", ylabel="milliseconds", ylim=(0, None))
    for name, histogram in _durations(report):
        tail.plot([f"{p:g}" for p in _TAIL], [histogram.percentile(p) / 1_000 for p in _TAIL], marker=".", label=name)
    tail.set(title="How long all of them took", xlabel="percentile", ylabel="milliseconds", yscale="log")
    tail.yaxis.set_major_formatter("{x:,g}")
    for axis in (rates, durations, tail):
        axis.grid(alpha=0.3)
        axis.legend()
    figure.savefig(file)
    pyplot.close(figure)


def _durations(report: Report) -> list[tuple[str, Histogram]]:
    """Return durations with from when they count: in a closed loop every call is due when it starts."""
    from_start = ("from its start", report.tally.service)
    if report.scenario.loop.kind == "closed":
        return [from_start]
    return [("from when it was due", report.tally.latency), from_start]
