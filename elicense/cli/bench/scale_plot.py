"""Plots of cost against the number of licences and of cities."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

from elicense.cli.bench.scale import Point, Scale
from elicense.cli.load.plot import load_pyplot

#: Height of an axis, so that its legend stands above every line.
_ROOM: Final = 1.3


def draw(scale: Scale, file: Path) -> None:
    """Draw what came out into a file, SVG or PNG by its name.

    Raises:
        PlotsMissing: The library that draws is not installed.
    """
    pyplot = load_pyplot()
    columns: list[tuple[str, Sequence[Point], Callable[[Point], int]]] = [
        ("licences", scale.by_licenses, lambda point: point.licenses),
        ("cities", scale.by_cities, lambda point: point.cities),
    ]
    # One point alone shows nothing that another column does not.
    shown = [column for column in columns if len(column[1]) > 1] or columns[:1]
    figure, axes = pyplot.subplots(
        3, len(shown), figsize=(6 * len(shown), 10), layout="constrained", sharey="row", squeeze=False
    )
    figure.suptitle(f"A registry on {scale.store}: cost against size")
    for column, (name, points, key) in enumerate(shown):
        at = [key(point) for point in points]
        for row, paint in enumerate((_paint_calls, _paint_start, _paint_memory)):
            axis = axes[row][column]
            paint(axis, at, points)
            axis.set_xscale("log")
            axis.set_xticks(at, [f"{each:,}" for each in at])
            axis.minorticks_off()
            axis.grid(alpha=0.3)
            axis.set_xlabel(name)
    for row, label in enumerate(("CPU µs", "seconds", "MiB")):
        axes[row][0].set_ylabel(label)
        axes[row][0].set_ylim(0, _ROOM * axes[row][0].get_ylim()[1])
        axes[row][0].legend(loc="upper left", ncols=3)
    figure.savefig(file)
    pyplot.close(figure)


def _paint_calls(axis: Any, at: Sequence[int], points: Sequence[Point]) -> None:
    axis.set_title("CPU of server and database")
    axis.plot(at, [point.verify_us for point in points], marker="o", label="VerifyLicense")
    axis.plot(at, [point.echo_us for point in points], marker="s", label="bare call")
    axis.plot(at, [point.verdict_us for point in points], marker="^", label="a verdict of a batch")


def _paint_start(axis: Any, at: Sequence[int], points: Sequence[Point]) -> None:
    axis.set_title("From start to the first answer")
    axis.plot(at, [point.start.seconds for point in points], marker="o", label="time")
    axis.plot(at, [point.start.cpu_s for point in points], marker="s", label="CPU")


def _paint_memory(axis: Any, at: Sequence[int], points: Sequence[Point]) -> None:
    axis.set_title("Anonymous memory of the server")
    axis.plot(at, [point.memory / 2**20 for point in points], marker="o", label="after all questions")
    axis.plot(at, [point.start.memory / 2**20 for point in points], marker="s", label="after its start")
