"""The verb that brings an older release's databases to this one's schema."""

from __future__ import annotations

from pathlib import Path

import click

from elicense.cli.upgrade import BACKUP, YES, upgrade_stores
from elicense.sql.schema import create_tables
from registry.cli.options import CONFIG
from registry.config import load
from registry.older_release import fill_from_logs
from registry.store import RegistryStore, access_metadata


@click.command()
@CONFIG
@BACKUP
@YES
def upgrade(config_path: Path, copy: Path | None, yes: bool) -> None:
    """Bring the databases of a stopped registry, which an older release wrote, to the schema of this release.

    Each step is a transaction: killed at any moment, the same command goes on
    where it was.  A backup of an older release is upgraded the same way once it is
    in the place of the database.
    """
    config = load(config_path)
    upgrade_stores(
        "registry",
        folder=config.node.data_dir,
        url=config.database.url,
        access_log_url=config.access_log.url,
        make_access_tables=lambda: create_tables(config.access_log.url, access_metadata),
        complete=lambda conn: fill_from_logs(conn, RegistryStore()),
        logs=RegistryStore().logs,
        copy=copy,
        yes=yes,
    )
