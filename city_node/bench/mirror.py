"""Copying the registry's log into a city that does not run, as it would have while its persons were granted."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import click

from city_node.app import build
from city_node.cli.options import CONFIG
from city_node.config import CityConfig, load_city_config
from elicense.workers.node_lock import alone

if TYPE_CHECKING:
    from pathlib import Path


async def _catch_up(config: CityConfig) -> None:
    node = await build(config)
    try:
        await node.mirror.catch_up()
    finally:
        await node.stop()


@click.command()
@CONFIG
def mirror(config_path: Path) -> None:
    """Bring the copy of the registry's log up to its end; the city must not run, its registry must."""
    config = load_city_config(config_path)
    with alone(config.data_dir):
        asyncio.run(_catch_up(config))
