"""``elicense demo``."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from elicense.cli.demo.display import choose_display
from elicense.cli.demo.play import Options, run


@click.command()
@click.option("--drivers", type=click.IntRange(60, 100_000), default=1_000, show_default=True, help="Rows a city.")
@click.option("--seed", type=int, default=20210601, show_default=True, help="The same seed gives the same drivers.")
@click.option(
    "--dir",
    "folder",
    type=click.Path(path_type=Path, file_okay=False),
    help="Empty folder to use; it is kept.  [default: a temporary one, removed at the end]",
)
@click.option("--keep", is_flag=True, help="Leave everything running until Ctrl-C and print commands to try.")
@click.option("--json", "as_json", is_flag=True, help="Print the figures as one JSON object and nothing else.")
def demo(drivers: int, seed: int, folder: Path | None, keep: bool, as_json: bool) -> None:
    """Run a registry and three cities on this machine, end to end.

    Imports drivers in Tianjin, Chengdu and Suzhou, replicates and verifies them,
    suspends and issues licences, tries what must be refused, takes the registry
    away and brings it back, and prints what was measured.  Exit status 1 if
    anything does not come out as promised.
    """
    options = Options(drivers=drivers, seed=seed, folder=folder, keep=keep)
    try:
        run(options, choose_display(for_machine=as_json))
    except KeyboardInterrupt:
        click.echo("stopped; nothing was left running", err=True)
        sys.exit(130)
