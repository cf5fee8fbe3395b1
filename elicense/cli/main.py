"""The ``elicense`` command."""

from __future__ import annotations

import os

# gRPC reads this when it is first imported; its notes about connections that
# come and go would stand between the lines of a command's own output.
os.environ.setdefault("GRPC_VERBOSITY", "ERROR")

import click

from elicense.cli.command import Command
from elicense.cli.demo.command import demo
from elicense.cli.join import join_command
from elicense.cli.verify import verify


@click.group(cls=Command)
@click.version_option(package_name="elicense")
def main() -> None:
    """Electronic driver's licences: verify them, join a node, or see the whole system run."""


main.add_command(demo)
main.add_command(verify)
main.add_command(join_command)

if __name__ == "__main__":
    main()
