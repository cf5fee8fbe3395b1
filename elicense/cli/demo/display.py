"""What the audience sees: a live picture on a terminal, plain lines elsewhere, JSON for machines."""

from __future__ import annotations

import json
import time
from typing import Protocol

import click
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from elicense.cli.demo.figures import Figures


class Display(Protocol):
    """How a run tells what it does."""

    def scene(self, title: str) -> None:
        """Begin a scene; the one before has come out well."""

    def say(self, text: str) -> None:
        """State a fact of this scene."""

    def node(self, name: str, state: str) -> None:
        """Show what a node is doing now."""

    def finish(self, figures: Figures) -> None:
        """Show the figures; every scene has come out well."""

    def close(self) -> None:
        """Leave the terminal as it was."""


class JsonDisplay:
    """Nothing but the figures, as one JSON object, for machines."""

    def scene(self, title: str) -> None:
        """Show nothing."""

    def say(self, text: str) -> None:
        """Show nothing."""

    def node(self, name: str, state: str) -> None:
        """Show nothing."""

    def finish(self, figures: Figures) -> None:
        """Print the figures."""
        click.echo(json.dumps(figures.as_json(), indent=2, ensure_ascii=False))

    def close(self) -> None:
        """Nothing to put back."""


class PlainDisplay:
    """One line a fact, for pipes and files; what the nodes are doing meanwhile is left out."""

    def __init__(self) -> None:
        self._number = 0
        self._began = time.monotonic()

    def scene(self, title: str) -> None:
        """Print the title with its number and the time so far."""
        self._number += 1
        click.echo(f"[{time.monotonic() - self._began:5.1f} s] {self._number}. {title}")

    def say(self, text: str) -> None:
        """Print the fact."""
        click.echo(f"          {text}")

    def node(self, name: str, state: str) -> None:
        """Show nothing: it would be a line every moment."""

    def finish(self, figures: Figures) -> None:
        """Print the figures in two columns."""
        click.echo("")
        width = max(len(figure.label) for figure in figures)
        for figure in figures:
            click.echo(f"  {figure.label:<{width}}  {figure.text}")

    def close(self) -> None:
        """Nothing to put back."""


class LiveDisplay:
    """Scenes scroll by; below them stand the nodes with what they are doing, several times a second."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._number = 0
        self._title = ""
        self._began = time.monotonic()
        self._scene_began = self._began
        self._nodes: dict[str, str] = {}
        self._spinner = Spinner("dots")
        self._live = Live(
            console=console, get_renderable=self._picture, refresh_per_second=8, transient=True, redirect_stderr=False
        )
        self._live.start()

    def scene(self, title: str) -> None:
        """Print that the scene before came out well, and begin the next."""
        self._end_scene()
        self._number += 1
        self._title = title
        self._scene_began = time.monotonic()
        self._console.print(Text(f"{self._number}. {title}", style="bold"))

    def say(self, text: str) -> None:
        """Print the fact with a tick."""
        line = Text("   ✓ ", style="green")
        line.append(text, style="default")
        self._console.print(line)

    def node(self, name: str, state: str) -> None:
        """Change one line of the picture below."""
        self._nodes[name] = state

    def finish(self, figures: Figures) -> None:
        """Print the figures as a table."""
        self._end_scene()
        self._live.stop()
        table = Table(title="Figures of this run", title_justify="left", show_header=False, border_style="dim")
        table.add_column(style="default")
        table.add_column(justify="right", style="bold")
        for figure in figures:
            table.add_row(figure.label, figure.text)
        self._console.print(table)

    def close(self) -> None:
        """Take the picture away."""
        self._live.stop()

    def _end_scene(self) -> None:
        if self._title:
            self._console.print(Text(f"   {time.monotonic() - self._scene_began:.1f} s", style="dim"))
        self._title = ""

    def _picture(self) -> RenderableType:
        grid = Table.grid(padding=(0, 2))
        for name, state in self._nodes.items():
            grid.add_row(Text(f"   {name}", style="cyan"), Text(state, style="dim"))
        self._spinner.update(text=Text(f" {self._title or 'starting'}  {time.monotonic() - self._began:.0f} s"))
        return Group(Text(""), self._spinner, grid)


def choose_display(*, for_machine: bool) -> Display:
    """Return the display for where standard output goes."""
    if for_machine:
        return JsonDisplay()
    console = Console()
    return LiveDisplay(console) if console.is_terminal else PlainDisplay()
