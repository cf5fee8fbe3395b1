"""``elicense log``: look at logs and at what is signed over them, with files and public keys."""

from __future__ import annotations

from typing import Final

import click

from elicense.cli.command import Command

_VERBS: Final = {
    "audit": "elicense.cli.log.audit:audit",
    "export": "elicense.cli.log.files:export",
    "inspect": "elicense.cli.log.inspect:inspect",
    "prove": "elicense.cli.log.files:prove",
    "verify": "elicense.cli.log.verify:verify_command",
}


@click.group("log", cls=Command, verbs=_VERBS)
def log_group() -> None:
    """Check signed answers, heads and entries of logs; audit every log of the nation."""
