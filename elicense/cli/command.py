"""How every command reports: results on standard output, errors in one line on standard error."""

from __future__ import annotations

import sys
from typing import Any

import click

from elicense.errors import Error


def fail(error: Error) -> None:
    """Print an error in one line, its violations one a line below, for a person at a terminal."""
    click.echo(f"error: {error.message} [{error.reason}]", err=True)
    for violation in error.violations:
        where = f"{violation.field}: " if violation.field else ""
        click.echo(f"  {where}{violation.message} [{violation.reason}]", err=True)


class Command(click.Group):
    """A click group whose verbs may raise :class:`elicense.errors.Error`.

    Exit status: 0 done, 1 the work failed, 2 the command was used wrongly, 130
    interrupted.
    """

    def main(self, *args: Any, **kwargs: Any) -> Any:  # click's own signature
        """Run, and turn errors into one line and an exit status."""
        try:
            return super().main(*args, **kwargs)
        except Error as error:
            fail(error)
            sys.exit(1)
