"""``python -m city_node.bench``: what ``elicense bench`` runs in processes of their own."""

from __future__ import annotations

from typing import Final

import click

from elicense.cli.command import Command

_VERBS: Final = {"fill": "city_node.bench.fill:fill", "mirror": "city_node.bench.mirror:mirror"}


@click.group(cls=Command, verbs=_VERBS)
def main() -> None:
    """Prepare a city that is only measured."""


if __name__ == "__main__":
    main()
