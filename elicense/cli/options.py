"""Options and their types that the commands share."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Final

import click

from elicense.config import check_address

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


class HostPort(click.ParamType[str]):
    """An address, host:port."""

    name = "host:port"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the address as it is."""
        try:
            return check_address(str(value))
        except ValueError as error:
            self.fail(str(error), param, ctx)


ADDRESS: Final = click.option(
    "--address", type=HostPort(), help="Where the node is reached, if not where the credentials say."
)
