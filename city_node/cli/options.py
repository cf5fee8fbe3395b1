"""Options that several verbs share."""

from __future__ import annotations

from pathlib import Path

import click

CONFIG = click.option(
    "--config",
    "config_path",
    required=True,
    type=click.Path(path_type=Path, dir_okay=False),
    help="Configuration file of the node.",
)

CREDENTIALS = click.option(
    "--credentials",
    required=True,
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="Folder of a clerk, made by `elicense join`.",
)

AS_JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
