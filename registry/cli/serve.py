"""The verb that runs the node."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from elicense.workers.serving import LINK, WORKER, WORKERS, serve_node
from registry.cli.options import CONFIG
from registry.config import load


@click.command()
@CONFIG
@WORKERS
@WORKER
@LINK
def serve(config_path: Path, workers: int, worker: str | None, link: int | None) -> None:
    """Serve until SIGTERM or SIGINT, then end in order."""
    config = load(config_path)
    status = serve_node(
        config,
        app="registry.app",
        module="registry.cli",
        config_path=config_path,
        listen=config.node.listen,
        database_url=config.database.url,
        workers=workers,
        worker=worker,
        link=link,
    )
    sys.exit(status)
