"""The verb that brings an older release's databases to this one's schema."""

from __future__ import annotations

from pathlib import Path

import click

from city_node.cli.options import CONFIG
from city_node.config import load_city_config
from city_node.epochs import Epochs, name_first_key
from city_node.keys import LogSigners
from city_node.store import CityStore, access_metadata
from elicense.cli.upgrade import BACKUP, YES, upgrade_stores
from elicense.sql.schema import create_tables


@click.command()
@CONFIG
@BACKUP
@YES
def upgrade(config_path: Path, copy: Path | None, yes: bool) -> None:
    """Bring the databases of a stopped node, which an older release wrote, to the schema of this release.

    Each step is a transaction: killed at any moment, the same command goes on
    where it was.  A backup of an older release is upgraded the same way once it is
    in the place of the database, before `restore`.
    """
    config = load_city_config(config_path)
    # No migration can say which key signs the log: it is not in the database.
    epochs = Epochs(config.node.trust_domain, config.city.code, LogSigners(config).of)
    upgrade_stores(
        "city_node",
        folder=config.data_dir,
        url=config.database_url,
        access_log_url=config.access_log_url,
        make_access_tables=lambda: create_tables(config.access_log_url, access_metadata),
        complete=lambda conn: name_first_key(conn, CityStore(), epochs),
        logs=CityStore().logs,
        copy=copy,
        yes=yes,
    )
