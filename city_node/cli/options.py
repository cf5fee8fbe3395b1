"""Options that several verbs share."""

from __future__ import annotations

import re
from datetime import timedelta
from pathlib import Path
from typing import Final

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

ADDRESS = click.option("--address", help="Where the node is reached, if not where the credentials say.")

AS_JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON.")

_UNITS: Final = {"m": "minutes", "h": "hours", "d": "days"}


class Duration(click.ParamType[timedelta]):
    """A number with m, h or d behind it."""

    name = "duration"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> timedelta:
        """Return the span of time."""
        if isinstance(value, timedelta):
            return value
        match = re.fullmatch(r"([1-9][0-9]{0,4})([mhd])", str(value))
        if match is None:
            self.fail("write a number and a unit, such as 30m, 24h or 7d", param, ctx)
        return timedelta(**{_UNITS[match[2]]: int(match[1])})
