"""Verbs that keep a node and get it back: backup, restore."""

from __future__ import annotations

import asyncio
import json
import logging
import secrets
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Final

import click

from city_node.cli.options import AS_JSON, CONFIG
from city_node.config import CityConfig, load_city_config
from city_node.keys import load_keys
from city_node.restore import Restore, Restored, upstream
from city_node.store import CityStore, access_metadata
from city_node.verify_only import verify_only_mark
from elicense.cli.backup import back_up
from elicense.clock import utc_micros
from elicense.errors import Error
from elicense.sql.database import Database
from elicense.sql.migrations import upgrade
from elicense.sql.schema import create_tables
from elicense.sql.schema_version import is_new, require_current
from elicense.workers.node_lock import alone


@click.command()
@click.argument("out", type=click.Path(path_type=Path, dir_okay=False))
@CONFIG
@click.option("--access-log", is_flag=True, help="Back up the access log's store instead.")
def backup(out: Path, config_path: Path, access_log: bool) -> None:
    """Copy the database of a node, which may be running, into the new file OUT, and check the copy.

    It holds personal data, and what was erased since: keep no backup longer than
    the law lets you.  Keys are not in it.  To use it: stop the node, put the file in
    the place of city.db, delete city.db-wal and city.db-shm, and restore.
    """
    config = load_city_config(config_path)
    if access_log:
        back_up(config.access_log_url, out, None)
        click.echo(f"{out}: a whole and checked copy of the access log")
        return
    entries = back_up(config.database_url, out, CityStore().logs)
    click.echo(f"{out}: a whole and checked copy, with {entries:,} entries of the log")


_NOT_ENDED: Final = (
    "the node only verifies until a restore has ended: run it again.  If nothing is wrong with its database,\n"
    "and no restore has opened an epoch, `elicense-city allow-signing` lets it sign as it is"
)

_TO_ERASE: Final = (
    "by the registry's word these licences were erased, and neither side holds the record that says so any more,\n"
    "so they stand as the database had them.  Look into this city's files before anybody relies on them: cancel\n"
    "each that was erased, and erase it once the time that the law keeps it is over"
)
_NOT_ASKED: Final = (
    "the registry did not say which licences of the database were erased meanwhile: run it again once it can be reached"
)


@click.command()
@CONFIG
@click.option(
    "--without-registry",
    is_flag=True,
    help="Open a new epoch at what the database holds, because the registry can not be asked for long.",
)
@AS_JSON
def restore(config_path: Path, without_registry: bool, as_json: bool) -> None:
    """Refill the log of a stopped node from the registry, and let it sign again without any chance of a fork.

    For a database that was lost, or that is older than what the node has signed.
    The old epoch of the log goes on when the anchor shows that nothing is
    missing; else the next one begins, with a new key.  Killed at any moment, the
    same command goes on where it was.

    If registry and city were both set back before the entry that erased a licence
    was held again, the licence is back: the command names it, where the database had
    a record of it that the registry holds emptied.
    """
    config = load_city_config(config_path)
    logging.getLogger("alembic").setLevel(logging.WARNING)
    with alone(config.data_dir):
        if is_new(config.database_url):
            upgrade(config.database_url, "city_node")
        require_current(config.database_url, "city_node")
        create_tables(config.access_log_url, access_metadata)
        try:
            restored = asyncio.run(_restore(config, without_registry))
        except Error:
            if verify_only_mark(config, utc_micros).read() is not None:
                click.echo(_NOT_ENDED, err=True)
            raise
    if as_json:
        click.echo(json.dumps(asdict(restored), default=str))
        return
    click.echo(_sentence(restored))
    if restored.to_erase is None:
        click.echo(_NOT_ASKED)
    elif restored.to_erase:
        click.echo("\n".join([_TO_ERASE, *map(str, restored.to_erase)]))
    click.echo(
        "what is not in the log comes from the database as it was put back: certificates revoked since are in force\n"
        "again (`elicense-city revoke`), and people enrolled since have to join again (`elicense-city token`)"
    )


def _sentence(restored: Restored) -> str:
    opened = "was opened" if restored.opened else "goes on"
    there = "the registry holds all of it" if restored.registered else "the registry gets it once the node runs"
    return f"{restored.refilled:,} entries came back; epoch {restored.epoch} {opened}; {there}"


async def _restore(config: CityConfig, without_registry: bool) -> Restored:
    keys = load_keys(config, random=secrets.token_bytes)
    database = Database(config.database_url, readers=1, writers=1)
    try:
        work = Restore(
            config=config,
            keys=keys,
            database=database,
            store=CityStore(),
            clock=utc_micros,
            random=secrets.token_bytes,
            progress=_show,
        )
        if without_registry:
            return await work.run_alone()
        async with upstream(config, keys) as registry:
            return await work.run(registry)
    finally:
        database.close()


def _show(epoch: int, done: int, of: int) -> None:
    if sys.stderr.isatty():
        click.echo(f"\repoch {epoch}: {done:,} of {of:,} entries", nl=done == of, err=True)
