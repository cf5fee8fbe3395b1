"""The ``elicense`` command."""

from __future__ import annotations

import os

# gRPC reads this when it is first imported; its notes about connections that
# come and go would stand between the lines of a command's own output.
os.environ.setdefault("GRPC_VERBOSITY", "ERROR")

from typing import Final

import click

from elicense.cli.command import Command

_VERBS: Final = {
    "accesses": "elicense.cli.accesses:accesses",
    "bench": "elicense.cli.bench.command:bench",
    "demo": "elicense.cli.demo.command:demo",
    "load": "elicense.cli.load.command:load",
    "join": "elicense.cli.join:join_command",
    "log": "elicense.cli.log.command:log_group",
    "verify": "elicense.cli.verify:verify",
}


@click.group(cls=Command, verbs=_VERBS)
@click.version_option(package_name="elicense")
def main() -> None:
    """Electronic driver's licences: verify them, join a node, or see the whole system run."""


if __name__ == "__main__":
    main()
