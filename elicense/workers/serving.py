"""The verb ``serve`` of either side: one process, or a keeper and its workers."""

from __future__ import annotations

import gc
import secrets
import sys
import tempfile
from collections.abc import Sequence
from contextlib import AsyncExitStack
from importlib import import_module
from pathlib import Path
from typing import Final, Protocol

import click

from elicense.errors import PeerUnreachable
from elicense.rpc.server import run, stop_on_signals
from elicense.rpc.telemetry import LineWriter, configure_logging
from elicense.startup import uncollected
from elicense.workers.link import linked
from elicense.workers.place import ALONE, MAX_WORKERS, Place, places
from elicense.workers.supervisor import Supervisor, reserve

WORKERS: Final = click.option(
    "--workers",
    type=click.IntRange(1, MAX_WORKERS),
    default=1,
    show_default=True,
    help="Processes that serve; on SQLite they verify, and one more behind them writes.",
)
WORKER: Final = click.option("--worker", hidden=True, help="Place of a worker; for the process that starts it.")
LINK: Final = click.option("--link", type=int, hidden=True, help="Socket to the process that started this worker.")


class Node(Protocol):
    """A node that was put together."""

    async def start(self) -> None:
        """Serve."""

    async def stop(self) -> None:
        """End in order."""


def serve_node(
    config: object,
    *,
    app: str,
    module: str,
    config_path: Path,
    listen: str,
    database_url: str,
    workers: int,
    worker: str | None,
    link: int | None,
) -> int:
    """Serve until SIGTERM or SIGINT, and return the exit status.

    Args:
        config: The node's configuration.
        app: Module whose ``build`` puts the node together.
        module: Module that runs the command.
        config_path: File of the configuration.
        listen: Its address.
        database_url: Its database, whose engine decides who does what.
        workers: How many processes serve.
        worker: Place of this process, when another started it.
        link: Its end of the line to that one.

    Raises:
        PeerUnreachable: An address can not be listened on.
    """
    log = LineWriter(sys.stdout)
    configure_logging(log)
    try:
        if worker is None and workers > 1:
            return run(lambda: _keep(module, config_path, listen, database_url, workers))
        place = ALONE if worker is None else Place.model_validate_json(worker)
        return run(lambda: _serve(app, config, log, place, link))
    finally:
        log.close()


async def _serve(app: str, config: object, log: LineWriter, place: Place, link: int | None) -> int:
    stop = stop_on_signals()
    async with AsyncExitStack() as stack:
        end = None if link is None else await stack.enter_async_context(linked(link, stop))
        with uncollected():
            # Not at the top: whoever only keeps workers running needs a third of the memory without it.
            build = import_module(app).build
            node: Node = await build(config, log=log, place=place)
        # Later searches for garbage pass over what is there by now and stays.
        gc.freeze()
        try:
            await node.start()
            if end is not None:
                await end.ready()
            await stop.wait()
        finally:
            await node.stop()
    return 0


async def _keep(module: str, config_path: Path, listen: str, database_url: str, workers: int) -> int:
    stop = stop_on_signals()
    try:
        kept, address = reserve(listen)
    except OSError as error:
        raise PeerUnreachable(f"{listen} can not be listened on; is it in use?") from error

    def command(place: Place, link: int) -> Sequence[str]:
        words = ("serve", "--config", str(config_path), "--worker", place.model_dump_json(), "--link", str(link))
        return (sys.executable, "-m", module, *words)

    # A short path, since names of Unix sockets have little room; for the owner alone.
    with kept, tempfile.TemporaryDirectory(prefix="elicense-") as folder:
        filled = places(
            workers=workers,
            engine=database_url.partition(":")[0].partition("+")[0],
            run=secrets.token_hex(8),
            folder=Path(folder),
            listen=address,
        )
        return await Supervisor(filled, command).run(stop)
