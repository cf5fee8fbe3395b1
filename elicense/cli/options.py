"""Options and their types that the commands share."""

from __future__ import annotations

import re
from datetime import timedelta
from enum import IntEnum
from pathlib import Path
from typing import Final, TypeVar

import click

from elicense.config import check_address
from elicense.license.model import DocumentType

_Kind = TypeVar("_Kind", bound=IntEnum)

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


def word(chosen: IntEnum) -> str:
    """Return how a member of an enum is written at a terminal."""
    return chosen.name.lower().replace("_", "-")


def words(kind: type[IntEnum]) -> click.Choice[str]:
    """Return the choice among all members of an enum."""
    return click.Choice([word(chosen) for chosen in kind])


def member(kind: type[_Kind], written: str) -> _Kind:
    """Return the member that was written."""
    return kind[written.upper().replace("-", "_")]


ADDRESS: Final = click.option(
    "--address", type=HostPort(), help="Where the node is reached, if not where the credentials say."
)

CREDENTIALS: Final = click.option(
    "--credentials",
    required=True,
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="Folder that `elicense join` made.",
)

DOCUMENT_TYPE: Final = click.option(
    "--type", "document_type", type=words(DocumentType), default="resident-id", show_default=True
)
