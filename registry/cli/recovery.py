"""Verbs that keep a registry and get it back: backup, allow-signing."""

from __future__ import annotations

import secrets
from pathlib import Path

import click

from elicense.cli.backup import back_up
from elicense.errors import StoreCorrupt
from elicense.log.anchor import Anchor, create_anchor
from elicense.log.checkpoint import Checkpoint, sign_checkpoint
from elicense.log.model import LogKey
from elicense.sql.database import Database
from elicense.sql.schema_version import require_current
from registry.cli.options import CONFIG
from registry.config import load
from registry.history import own_doubt
from registry.keys import load_keys
from registry.names import FIRST_EPOCH, REGISTRY_LOG, registry_origin
from registry.store import RegistryStore


@click.command()
@click.argument("out", type=click.Path(path_type=Path, dir_okay=False))
@CONFIG
@click.option("--access-log", is_flag=True, help="Back up the access log's store instead.")
def backup(out: Path, config_path: Path, access_log: bool) -> None:
    """Copy the database of a registry, which may be running, into the new file OUT, and check the copy.

    It holds personal data, and what was erased since: keep no backup longer than
    the law lets you.  Keys are not in it.
    """
    config = load(config_path)
    if access_log:
        back_up(config.access_log.url, out, None)
        click.echo(f"{out}: a whole and checked copy of the access log")
        return
    entries = back_up(config.database.url, out, RegistryStore().logs)
    click.echo(f"{out}: a whole and checked copy, with {entries:,} entries of logs")


@click.command("allow-signing")
@CONFIG
@click.option("--yes", is_flag=True, help="Do not ask.")
def allow_signing(config_path: Path, yes: bool) -> None:
    """Let a stopped registry decide again whose database was set back; the database's head becomes the anchor.

    Cities send again whatever of their own logs is missing.  Decisions that are
    missing are gone: their places in the registry's log are signed a second time,
    which whoever has seen the first will hold against it.  Put the newest database
    in place before this.
    """
    config = load(config_path)
    require_current(config.database.url, "registry")
    signer = load_keys(config, random=secrets.token_bytes).log
    key, logs = LogKey(REGISTRY_LOG, FIRST_EPOCH), RegistryStore().logs
    origin = registry_origin(config.node.trust_domain, FIRST_EPOCH)
    anchor = Anchor(config.anchor_path, origin)
    database = Database(config.database.url, readers=1, writers=1)
    try:
        reason = database.read_now(lambda conn: own_doubt(conn, logs, key, anchor))
        head = database.read_now(lambda conn: logs.head(conn, key))
    finally:
        database.close()
    if reason is None:
        click.echo("this registry may decide already")
        return
    if head is None:
        raise StoreCorrupt("the registry's own log is missing; run fsck")
    last = anchor.last()
    missing = (
        "it is not known how many decisions are missing"
        if last is None
        else (f"{max(0, last.size - head.size):,} decisions are missing")
    )
    click.echo(f"this registry decides nothing: {reason.message} [{reason.reason}]; {missing}")
    if not yes:
        click.confirm("Was this looked into, and may the registry decide again?", abort=True)
    create_anchor(config.anchor_path, sign_checkpoint(Checkpoint(origin, head.size, head.root), signer))
    click.echo("the registry decides again once it is restarted")
