"""How every command reports: results on standard output, errors in one line on standard error."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from importlib import import_module
from typing import Any

import click

from elicense.errors import Error, Malformed
from elicense.startup import uncollected


def fail(error: Error) -> None:
    """Print an error in one line, its violations one a line below, for a person at a terminal."""
    click.echo(f"error: {error.message} [{error.reason}]", err=True)
    for violation in error.violations:
        where = f"{violation.field}: " if violation.field else ""
        click.echo(f"  {where}{violation.message} [{violation.reason}]", err=True)


class Command(click.Group):
    """A click group whose verbs may raise :class:`elicense.errors.Error`.

    Each verb is loaded when it is asked for: whoever makes a token need not wait
    for the server's code.

    Exit status: 0 done, 1 the work failed, 2 the command was used wrongly, 130
    interrupted.

    Args:
        verbs: Name of each verb to ``module:attribute``.
    """

    def __init__(self, *args: Any, verbs: Mapping[str, str] | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._verbs = dict(verbs or {})

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of all verbs, sorted."""
        return sorted({*super().list_commands(ctx), *self._verbs})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return a verb, loading it if need be, or None."""
        if cmd_name not in self._verbs:
            return super().get_command(ctx, cmd_name)
        module, _, attribute = self._verbs[cmd_name].partition(":")
        with uncollected():
            verb: click.Command = getattr(import_module(module), attribute)
        return verb

    def main(self, *args: Any, **kwargs: Any) -> Any:  # click's own signature
        """Run, and turn errors into one line and an exit status."""
        try:
            return super().main(*args, **kwargs)
        except Error as error:
            fail(error)
            sys.exit(1)
        except UnicodeError:
            # Arguments, standard input and files in another encoding; the text may be personal data.
            fail(Malformed("an argument or the input is not UTF-8; write it as UTF-8"))
            sys.exit(1)
