"""``elicense-registry``: set up, run and check a registry."""

from __future__ import annotations

import click

from elicense.cli.command import Command
from registry.cli.node import check_config, fsck, init, serve
from registry.cli.trust import revoke, token


@click.group("elicense-registry", cls=Command)
def main() -> None:
    """Set up, run and check the central registry."""


for _verb in (init, serve, token, revoke, fsck, check_config):
    main.add_command(_verb)
