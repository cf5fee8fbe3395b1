"""``elicense-registry``: set up, run and check a registry."""

from __future__ import annotations

from typing import Final

import click

from elicense.cli.command import Command

_VERBS: Final = {
    "allow-signing": "registry.cli.recovery:allow_signing",
    "backup": "registry.cli.recovery:backup",
    "breaches": "registry.cli.evidence:breaches",
    "check-config": "registry.cli.node:check_config",
    "conflicts": "registry.cli.conflicts:conflicts",
    "fsck": "registry.cli.node:fsck",
    "init": "registry.cli.node:init",
    "keys": "registry.cli.evidence:keys",
    "prove": "registry.cli.evidence:prove",
    "prove-breach": "registry.cli.evidence:prove_breach",
    "quarantine": "registry.cli.quarantine:quarantine",
    "revoke": "registry.cli.trust:revoke",
    "serve": "registry.cli.serve:serve",
    "token": "registry.cli.trust:token",
    "upgrade": "registry.cli.upgrade:upgrade",
}


@click.group("elicense-registry", cls=Command, verbs=_VERBS)
@click.version_option(package_name="elicense")
def main() -> None:
    """Set up, run and check the central registry."""
