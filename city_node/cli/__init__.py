"""The ``elicense-city`` command."""

from __future__ import annotations

from typing import Final

import click

from elicense.cli.command import Command

__all__ = ["main"]

_VERBS: Final = {
    "allow-signing": "city_node.cli.node:allow_signing",
    "backup": "city_node.cli.recovery:backup",
    "cancel": "city_node.cli.lifecycle:cancel",
    "change-classes": "city_node.cli.lifecycle:change_classes",
    "change-identity": "city_node.cli.lifecycle:change_identity",
    "check-config": "city_node.cli.node:check_config",
    "conflicts": "city_node.cli.conflicts:conflicts",
    "correct": "city_node.cli.lifecycle:correct",
    "daily": "city_node.cli.lifecycle:daily",
    "erase": "city_node.cli.erasing:erase",
    "fsck": "city_node.cli.node:fsck",
    "import": "city_node.cli.importing:import_file",
    "issue": "city_node.cli.clerk:issue",
    "join": "city_node.cli.node:join",
    "keys": "city_node.cli.node:published_keys",
    "list": "city_node.cli.clerk:list_licenses",
    "points": "city_node.cli.lifecycle:points",
    "renew": "city_node.cli.lifecycle:renew",
    "restore": "city_node.cli.recovery:restore",
    "revisions": "city_node.cli.clerk:revisions",
    "revoke": "city_node.cli.trust:revoke",
    "serve": "city_node.cli.node:serve",
    "set-status": "city_node.cli.clerk:set_status",
    "show": "city_node.cli.clerk:show",
    "status": "city_node.cli.node:status",
    "token": "city_node.cli.trust:token",
    "transfer": "city_node.cli.transfer:transfer",
    "update": "city_node.cli.lifecycle:update",
    "upgrade": "city_node.cli.upgrade:upgrade",
}


@click.group("elicense-city", cls=Command, verbs=_VERBS)
@click.version_option(package_name="elicense")
def main() -> None:
    """A city's node of the driver-licence registry: join, serve, import, issue."""
