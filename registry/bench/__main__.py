"""``python -m registry.bench``: what ``elicense bench`` runs in processes of their own."""

from __future__ import annotations

from typing import Final

import click

from elicense.cli.command import Command

_VERBS: Final = {
    "load": "registry.bench.load:load_command",
    "reads": "registry.bench.reads:reads",
    "serve-unlogged": "registry.bench.serve:serve_unlogged",
}


@click.group(cls=Command, verbs=_VERBS)
def main() -> None:
    """Fill, read and serve a registry that is only measured."""


if __name__ == "__main__":
    main()
