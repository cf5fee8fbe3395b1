"""The ``elicense-city`` command."""

from __future__ import annotations

import click

from city_node.cli.clerk import issue, list_licenses, revisions, set_status, show
from city_node.cli.importing import import_file
from city_node.cli.node import check_config, fsck, join, serve, status
from city_node.cli.trust import revoke, token
from elicense.cli.command import Command

__all__ = ["main"]


@click.group(cls=Command)
@click.version_option(package_name="elicense")
def main() -> None:
    """A city's node of the driver-licence registry: join, serve, import, issue."""


for _verb in (
    join,
    serve,
    check_config,
    status,
    fsck,
    token,
    revoke,
    import_file,
    issue,
    show,
    list_licenses,
    revisions,
    set_status,
):
    main.add_command(_verb)
