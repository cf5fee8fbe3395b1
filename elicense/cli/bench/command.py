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
    """Measure the system on this machine."""
