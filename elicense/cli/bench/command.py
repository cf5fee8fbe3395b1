"""``elicense bench``: the verbs."""

from __future__ import annotations

from typing import Final

import click

from elicense.cli.command import Command

_VERBS: Final = {
    "verify": "elicense.cli.bench.verify_command:verify",
    "issue": "elicense.cli.bench.issue_command:issue",
    "replicate": "elicense.cli.bench.replicate_command:replicate",
    "pilot": "elicense.cli.bench.pilot_command:pilot",
    "scale": "elicense.cli.bench.scale_command:scale",
    "enumeration": "elicense.cli.bench.enumeration:enumeration",
}


@click.group(cls=Command, verbs=_VERBS)
def bench() -> None:
    """Measure the system on this machine: what a call, a record, a licence costs, and how that grows.

    Each verb sets up what it measures, as processes of their own on loopback in a
    temporary folder, and removes it afterwards; nothing else on the machine is
    touched. Costs are CPU time of server and database, and each has a reference from
    the same run beside it, such as a bare call on the same server stack: quote the
    ratio. Let the machine do nothing else meanwhile.
    """
