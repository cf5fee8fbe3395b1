"""The verb ``import``: a file of existing drivers into the city's log."""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import sys
from dataclasses import asdict
from pathlib import Path

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from city_node import import_progress
from city_node.cli.clerk_call import city_of
from city_node.cli.options import CREDENTIALS
from city_node.importer import MAX_ROWS_PER_CALL, ROWS_PER_CALL, Files, Importer, Summary
from elicense.cli.options import ADDRESS
from elicense.errors import Error
from elicense.rpc.channel import secure_channel
from elicense.trust.credentials import load_credentials
from elicense.v1 import issuance_pb2_grpc

_INTERRUPTED = 130
#: How far it stands back from a node on the same machine, which answers people.
_NICE = 10


class _Bar:
    """Shows an import on standard error: a bar at a terminal, one line for each change elsewhere."""

    def __init__(self, size: int, *, quiet: bool) -> None:
        console = Console(stderr=True)
        self._quiet = quiet
        self._console = console
        self._waiting = ""
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TaskProgressColumn(),
            TextColumn("{task.fields[counts]}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=console,
            disable=quiet or not console.is_terminal,
        )
        self._task = self._bar.add_task("importing", total=size, counts="")

    def __enter__(self) -> _Bar:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def settled(self, progress: import_progress.Progress) -> None:
        counts = f"{progress.imported:,} imported, {progress.refused:,} refused"
        self._bar.update(self._task, completed=progress.offset, counts=counts)

    def waiting(self, why: Error) -> None:
        if why.reason == self._waiting:
            return
        self._waiting = why.reason
        self._bar.update(self._task, description="waiting")
        self._say(f"waiting: {why.message} [{why.reason}]")

    def going_on(self) -> None:
        self._waiting = ""
        self._bar.update(self._task, description="importing")
        self._say("going on")

    def _say(self, text: str) -> None:
        if not self._quiet:
            self._console.print(text, highlight=False, markup=False)


@click.command("import")
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@CREDENTIALS
@ADDRESS
@click.option(
    "--rejects",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Where refused rows go, with number and reasons; FILE.rejects.csv when left out.",
)
@click.option(
    "--progress",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Where the import remembers how far it is; FILE.progress when left out.",
)
@click.option(
    "--batch",
    "rows_per_call",
    type=click.IntRange(1, MAX_ROWS_PER_CALL),
    default=ROWS_PER_CALL,
    show_default=True,
    help="Rows that are sent at a time.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON, and nothing else.")
def import_file(
    file: Path,
    credentials: Path,
    address: str | None,
    rejects: Path | None,
    progress: Path | None,
    rows_per_call: int,
    as_json: bool,
) -> None:
    """Import the drivers in FILE, a CSV file, through the same rules as at the counter.

    Stopped or killed, the same command goes on where it was; no row is imported
    twice.  It waits while the node or the registry is away.
    """
    files = Files(
        source=file,
        rejects=rejects or file.with_name(f"{file.name}.rejects.csv"),
        progress=progress or file.with_name(f"{file.name}.progress"),
    )
    os.nice(_NICE)
    try:
        summary = asyncio.run(_import(files, credentials, address, rows_per_call, quiet=as_json))
    except KeyboardInterrupt:
        click.echo("interrupted; give the same command to go on", err=True)
        sys.exit(_INTERRUPTED)
    if as_json:
        click.echo(json.dumps({**asdict(summary), "rejects": str(files.rejects)}))
        return
    counts = f"{summary.rows:,} rows: {summary.imported:,} imported, {summary.refused:,} refused"
    click.echo(f"{counts}; {summary.rows_now:,} of these rows in this run" if summary.resumed else counts)
    if summary.refused:
        click.echo(f"refused rows with their reasons: {files.rejects}")


async def _import(files: Files, credentials: Path, address: str | None, rows_per_call: int, *, quiet: bool) -> Summary:
    bearer = load_credentials(credentials)
    parent = f"cities/{city_of(bearer)}"
    with _Bar(files.source.stat().st_size, quiet=quiet) as bar:
        # The importer repeats calls itself and says so; the channel must not do it in silence.
        async with secure_channel(bearer, address=address, retries=False) as channel:
            importer = Importer(
                stub=issuance_pb2_grpc.IssuanceServiceStub(channel),
                parent=parent,
                files=files,
                display=bar,
                random=secrets.token_bytes,
                rows_per_call=rows_per_call,
            )
            return await importer.run()
