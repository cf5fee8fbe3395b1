"""What somebody at a terminal sees while a load test runs; a line now and then where there is no terminal."""

from __future__ import annotations

import sys
from typing import Final, Protocol

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from elicense.cli.load.tally import Second, Tally

LINE_EVERY_S: Final = 10


class Display(Protocol):
    """Told of what happens."""

    def say(self, text: str) -> None:
        """Show what is being done."""

    def second(self, second: Second, tally: Tally) -> None:
        """Show a second of the test."""

    def close(self) -> None:
        """Show no more."""


class Silent:
    """Shows nothing."""

    def say(self, text: str) -> None:
        """Show nothing."""

    def second(self, second: Second, tally: Tally) -> None:
        """Show nothing."""

    def close(self) -> None:
        """Show nothing."""


class Lines:
    """Writes a line now and then, to standard error."""

    def say(self, text: str) -> None:
        """Write it."""
        sys.stderr.write(f"{text}\n")

    def second(self, second: Second, tally: Tally) -> None:
        """Write every so many seconds."""
        if second.at % LINE_EVERY_S == 0:
            self.say(_line(second, tally))

    def close(self) -> None:
        """Nothing is left to do."""


class Screen:
    """A table that changes, on standard error."""

    def __init__(self) -> None:
        self._text = ""
        self._live = Live(console=Console(stderr=True), auto_refresh=False, transient=True)
        self._live.start()

    def say(self, text: str) -> None:
        """Show it below the table."""
        self._text = text
        self._live.update(Text(text), refresh=True)

    def second(self, second: Second, tally: Tally) -> None:
        """Show the newest second."""
        table = Table(box=None)
        for name in ("second", "calls", "a second", "p50 ms", "p99 ms", "in flight", "failed"):
            table.add_column(name, justify="right")
        table.add_row(
            str(second.at),
            f"{tally.calls:,}",
            f"{second.units:,}",
            f"{second.p50_us / 1_000:.1f}",
            f"{second.p99_us / 1_000:.1f}",
            str(tally.in_flight),
            f"{tally.failed:,}",
        )
        self._live.update(Group(table, Text(self._text, style="dim")), refresh=True)

    def close(self) -> None:
        """Take the table away."""
        self._live.stop()


def choose_display(*, for_machine: bool) -> Display:
    """Return what suits whoever runs this."""
    if for_machine:
        return Silent()
    return Screen() if sys.stderr.isatty() else Lines()


def _line(second: Second, tally: Tally) -> str:
    return (
        f"{second.at} s: {second.units:,} a second, p50 {second.p50_us / 1_000:.1f} ms, "
        f"p99 {second.p99_us / 1_000:.1f} ms, {tally.failed:,} failed"
    )
