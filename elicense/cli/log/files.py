"""``elicense log export`` and ``prove``: a log as files, and proofs out of them."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from elicense.cli.evidence_files import write_new
from elicense.cli.options import ADDRESS
from elicense.client.transparency import LogClient, RemoteSource
from elicense.log.export import DatabaseSource
from elicense.log.model import LogKey
from elicense.log.tile_folder import TileFolder, write_export
from elicense.log.tlog_proof import TlogProof, format_tlog_proof
from elicense.sql.database import Database
from elicense.trust.credentials import load_credentials

FOLDER = click.Path(path_type=Path, file_okay=False)


class Progress:
    """Shows on a terminal how many entries are done."""

    def __init__(self) -> None:
        self.done = 0

    def __call__(self, entries: int) -> None:
        """Note that so many more entries are done."""
        self.done += entries
        if sys.stderr.isatty():
            click.echo(f"\r{self.done:,} entries", nl=False, err=True)


@click.command()
@click.argument("folder", type=FOLDER)
@click.option("--city", type=int, default=0, show_default=True, help="Division code; 0 for the registry's own log.")
@click.option("--epoch", type=int, default=1, show_default=True, help="Epoch of the log.")
@click.option("--database", "url", metavar="URL", help="A registry's or city's database: tree and entries.")
@click.option("--credentials", type=FOLDER, help="Of a caller, to ask a node instead: the tree alone.")
@ADDRESS
def export(folder: Path, city: int, epoch: int, url: str | None, credentials: Path | None, address: str | None) -> None:
    """Write a log to FOLDER in the C2SP tile layout; run again, it goes on where it ended.

    Without records and salts: nothing of it is personal data.
    """
    if (url is None) == (credentials is None):
        raise click.UsageError("name either --database or --credentials")
    key, target = LogKey(city, epoch), TileFolder(folder)
    if url is not None:
        database = Database(url, readers=1, writers=1)
        try:
            head = write_export(target, DatabaseSource(database, key), Progress())
        finally:
            database.close()
    else:
        with LogClient(load_credentials(credentials or Path()), address=address) as client:
            head = write_export(target, RemoteSource(client, key), Progress())
    click.echo(f"{folder}: {head.size:,} entries of {head.origin}")


@click.command()
@click.argument("folder", type=FOLDER)
@click.argument("index", type=int)
@click.option("--out", required=True, type=click.Path(path_type=Path, dir_okay=False), help="New file.")
def prove(folder: Path, index: int, out: Path) -> None:
    """Write the C2SP tlog-proof that entry INDEX stands in the log exported to FOLDER."""
    source = TileFolder(folder)
    proof = TlogProof(index, tuple(source.inclusion_proof(index)), source.note())
    write_new(out, format_tlog_proof(proof))
    click.echo(f"{out}: entry {index} of {source.checkpoint().origin}")
