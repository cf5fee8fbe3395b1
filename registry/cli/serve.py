"""The verb that runs the node."""

from __future__ import annotations

import logging
import sys
from pathlib import Path

import click

from elicense.rpc.server import run, stop_on_signals
from elicense.rpc.telemetry import LineWriter, configure_logging
from registry.app import build
from registry.cli.options import CONFIG
from registry.config import RegistryConfig, load


@click.command()
@CONFIG
def serve(config_path: Path) -> None:
    """Serve until SIGTERM or SIGINT, then end in order."""
    config = load(config_path)
    log = LineWriter(sys.stdout)
    configure_logging(log)
    # Its account of reading the schema's version says nothing that matters here.
    logging.getLogger("alembic").setLevel(logging.WARNING)
    try:
        status = run(lambda: _serve(config, log))
    finally:
        log.close()
    sys.exit(status)


async def _serve(config: RegistryConfig, log: LineWriter) -> int:
    stop = stop_on_signals()
    node = await build(config, log=log)
    try:
        await node.start()
        await stop.wait()
    finally:
        await node.stop()
    return 0
