"""Public keys as they are given on a command line."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Final

import click

from elicense.cli.evidence_files import read_bounded
from elicense.log.verifier_key import VerifierKey, parse_vkey

_MAX_SIZE: Final = 1 << 20

KEYS: Final = click.option(
    "--key", "keys", multiple=True, required=True, help="A published key, or a file with one a line."
)


def read_keys(given: Iterable[str]) -> list[VerifierKey]:
    """Return keys, each given as itself or as a file with one a line.

    Raises:
        Malformed: A text is not a key.
        Error: A file can not be read.
    """
    return list(dict.fromkeys(key for text in given for key in _keys(text)))


def _keys(text: str) -> list[VerifierKey]:
    path = Path(text)
    if "+" in text and not path.exists():
        return [parse_vkey(text)]
    lines = read_bounded(path, _MAX_SIZE).decode(errors="replace").splitlines()
    return [parse_vkey(line) for line in lines if line and not line.startswith("#")]
