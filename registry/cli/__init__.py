"""``elicense-registry``: set up, run and check a registry."""

from __future__ import annotations

from importlib import import_module
from typing import Final

import click

from elicense.cli.command import Command

_VERBS: Final = {
    "check-config": ("registry.cli.node", "check_config"),
    "fsck": ("registry.cli.node", "fsck"),
    "init": ("registry.cli.node", "init"),
    "revoke": ("registry.cli.trust", "revoke"),
    "serve": ("registry.cli.serve", "serve"),
    "token": ("registry.cli.trust", "token"),
}


class _Verbs(Command):
    """Loads each verb when it is asked for: whoever makes a token need not wait for the server's code."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002  # click's signature
        """Return the names of all verbs."""
        return list(_VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002  # likewise
        """Return a verb, or None."""
        if cmd_name not in _VERBS:
            return None
        module, name = _VERBS[cmd_name]
        verb: click.Command = getattr(import_module(module), name)
        return verb


@click.group("elicense-registry", cls=_Verbs)
def main() -> None:
    """Set up, run and check the central registry."""
