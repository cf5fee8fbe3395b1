"""A registry that does not record looks, to show what recording them costs."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import click

from elicense.access.entry import AccessEntry
from elicense.rpc.server import run, stop_on_signals
from elicense.rpc.telemetry import LineWriter, configure_logging
from registry.app import build
from registry.cli.options import CONFIG
from registry.config import RegistryConfig, load


class Unrecorded:
    """Stands where looks are recorded, and records none."""

    async def record(self, entry: AccessEntry) -> None:
        """Let it pass."""

    async def record_all(self, entries: Sequence[AccessEntry]) -> Sequence[None]:
        """Let them pass."""
        return [None] * len(entries)


async def _serve(config: RegistryConfig, log: LineWriter) -> int:
    stop = stop_on_signals()
    node = await build(config, log=log, recording=Unrecorded())
    try:
        await node.start()
        await stop.wait()
    finally:
        await node.stop()
    return 0


@click.command("serve-unlogged")
@CONFIG
def serve_unlogged(config_path: Path) -> None:
    """Serve like `elicense-registry serve`, recording no look; for measurements alone."""
    config = load(config_path)
    log = LineWriter(sys.stdout)
    configure_logging(log)
    try:
        status = run(lambda: _serve(config, log))
    finally:
        log.close()
    sys.exit(status)
