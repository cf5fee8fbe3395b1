"""Verbs that keep a registry and get it back: backup, allow-signing."""

from __future__ import annotations

import secrets
from pathlib import Path

import click

from elicense.cli.backup import back_up
from elicense.clock import utc_micros
from elicense.log.anchor import Anchor, create_anchor, epoch_of
from elicense.log.checkpoint import Checkpoint, sign_checkpoint
from elicense.log.entry import SALT_SIZE
from elicense.sql.database import Database
from elicense.sql.schema_version import require_current
from elicense.trust.spiffe import registry_id
from elicense.workers.node_lock import alone
from elicense.workers.stop_mark import StopMark
from registry.cli.options import CONFIG
from registry.config import RegistryConfig, load
from registry.history import open_key, open_next, own_doubt
from registry.keys import load_keys
from registry.names import registry_origin
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
    """Let a stopped registry decide again that was set back, or signed two histories, without what it lacks.

    Put the newest database in place before this, and let the registry run until its
    cities have given back what they mirrored.  The registry's log ends where the
    database does, and goes on in a new epoch whose first entry says so: nothing is
    signed a second time.  What was decided beyond is gone, and may be decided anew;
    cities that hold it can show that.  Publish the registry's keys again.
    """
    config = load(config_path)
    # A registry that runs looks for what stopped it, and for its epoch, at its start alone.
    with alone(config.node.data_dir):
        _allow_signing(config, yes)


def _allow_signing(config: RegistryConfig, yes: bool) -> None:
    require_current(config.database.url, "registry")
    signer = load_keys(config, random=secrets.token_bytes).log
    domain, logs = config.node.trust_domain, RegistryStore().logs
    mark = StopMark(config.stop_mark_path, utc_micros)
    database = Database(config.database.url, readers=1, writers=1)
    try:
        key = database.read_now(lambda conn: open_key(conn, logs))
        anchor = Anchor(config.anchor_path, registry_origin(domain, key.epoch))
        reason = mark.read() or database.read_now(lambda conn: own_doubt(conn, logs, key, anchor))
        if reason is None:
            click.echo("this registry may decide already")
            return
        last = anchor.last()
        signed = None if last is None else (epoch_of(last.origin), last.size)
        head = database.read_now(lambda conn: logs.head(conn, key))
        held = 0 if head is None else head.size
        click.echo(
            f"this registry decides nothing: {reason.message} [{reason.reason}]; {_missing(signed, key.epoch, held)}"
        )
        if not yes:
            click.confirm("Was this looked into, and may the registry decide again?", abort=True)
        opened = database.write_now(
            lambda conn: open_next(
                conn,
                logs,
                signed=signed,
                actor=str(registry_id(domain)),
                salt=secrets.token_bytes(SALT_SIZE),
                now_us=utc_micros(),
            )
        )
    finally:
        database.close()
    origin = registry_origin(domain, opened.key.epoch)
    create_anchor(config.anchor_path, sign_checkpoint(Checkpoint(origin, opened.size, opened.root), signer))
    mark.clear()
    click.echo(f"the registry decides again, in epoch {opened.key.epoch} of its log, once it is restarted")


def _missing(signed: tuple[int, int] | None, epoch: int, held: int) -> str:
    if signed is None or signed[0] != epoch:
        return "it is not known how many decisions are missing"
    return f"{max(0, signed[1] - held):,} decisions are missing"
