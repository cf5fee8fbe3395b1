"""Verbs about the node itself: join, serve, status, allow-signing, fsck, check-config."""

from __future__ import annotations

import json
import secrets
import sys
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any, Literal, TypeVar

import click

from city_node import setup
from city_node.cli.options import AS_JSON, CONFIG
from city_node.config import CityConfig, load_city_config
from city_node.fsck import Fsck
from city_node.keys import load_keys
from city_node.mirror import RegistryHistory
from city_node.progress import log_progress, own_head
from city_node.store import CityStore
from city_node.verify_only import verify_only_mark
from elicense.cli.fsck import ANEW, FSCK_FILE, Progress, finish
from elicense.clock import CHINA, utc_micros
from elicense.config import ConfigInvalid
from elicense.errors import Error, HistoryUnknown, Violation
from elicense.log.anchor import Anchor, create_anchor
from elicense.log.checkpoint import Checkpoint, sign_checkpoint
from elicense.log.model import FIRST_EPOCH
from elicense.log.verifier_key import format_vkey, parse_vkey
from elicense.sql.database import Database
from elicense.sql.schema_version import require_current
from elicense.trust.enrollment import city_log_origin
from elicense.trust.spiffe import city_id
from elicense.verification.evidence import answers_verifier_key
from elicense.workers.node_lock import alone
from elicense.workers.serving import LINK, WORKER, WORKERS, serve_node

T = TypeVar("T")


@click.command()
@click.argument("token")
@click.option("--data", "data_dir", required=True, type=click.Path(path_type=Path, file_okay=False), help="New folder.")
@click.option("--listen", required=True, metavar="HOST:PORT", help="Where to listen.")
@click.option("--advertise", metavar="HOST:PORT", help="Where others reach it; --listen when left out.")
@click.option("--database", "database_url", metavar="URL", help="postgresql+psycopg://...; SQLite when left out.")
@click.option("--metrics", metavar="HOST:PORT", help="Where Prometheus reads, over mTLS.")
@click.option(
    "--provisional",
    type=click.Choice(["issue", "refuse"]),
    default="issue",
    show_default=True,
    help="Whether to issue provisional licences while the registry is away.",
)
@click.option("--again", is_flag=True, help="The city is enrolled already, and its keys are lost.")
def join(
    token: str,
    data_dir: Path,
    listen: str,
    advertise: str | None,
    database_url: str | None,
    metrics: str | None,
    provisional: Literal["issue", "refuse"],
    again: bool,
) -> None:
    """Join the registry with the one-time TOKEN that its operator gave you.

    Makes the city's keys, gets its certificates, opens its log and writes its
    configuration.  A TOKEN of - is read from standard input.
    """
    if token == "-":  # noqa: S105  # the word for standard input
        token = sys.stdin.readline()
    plan = setup.Plan(
        token=token,
        data_dir=data_dir.absolute(),
        listen=listen,
        advertise=advertise,
        database_url=database_url,
        metrics=metrics,
        provisional_policy=provisional,
        again=again,
    )
    joined = setup.join(plan, random=secrets.token_bytes)
    verb = (
        "get its log back with: elicense-city restore"
        if joined.enrolled_before
        else ("start the node with: elicense-city serve")
    )
    click.echo(f"joined as city {joined.config.city.code}; {verb} --config {plan.data_dir / 'config.toml'}")


@click.command()
@CONFIG
@WORKERS
@WORKER
@LINK
def serve(config_path: Path, workers: int, worker: str | None, link: int | None) -> None:
    """Serve until SIGTERM or SIGINT, then end in order."""
    config = load_city_config(config_path)
    status = serve_node(
        config,
        app="city_node.app",
        module="city_node.cli",
        config_path=config_path,
        listen=config.node.listen,
        database_url=config.database_url,
        workers=workers,
        worker=worker,
        link=link,
    )
    sys.exit(status)


@click.command("keys")
@CONFIG
def published_keys(config_path: Path) -> None:
    """Print the public keys with which strangers check this city's log and its signed answers."""
    config = load_city_config(config_path)
    keys = load_keys(config, random=secrets.token_bytes)
    for key in _reading(config, lambda conn: CityStore().epoch_keys(conn, config.city.code)).values():
        click.echo(key.log_key)
    node = str(city_id(config.node.trust_domain, config.city.code))
    click.echo(format_vkey(answers_verifier_key(node, keys.answers.public_key())))


@click.command("check-config")
@CONFIG
def check_config(config_path: Path) -> None:
    """Check the configuration file, the keys and the database that it names; report every problem at once."""
    config = load_city_config(config_path)
    found: list[Violation] = []
    checks: tuple[tuple[str, Callable[[], object]], ...] = (
        ("", lambda: load_keys(config, random=secrets.token_bytes)),
        ("database.url", lambda: require_current(config.database_url, "city_node")),
        ("access_log.url", lambda: _open(config.access_log_url)),
    )
    for name, check in checks:
        try:
            check()
        except ConfigInvalid as error:
            found += error.violations
        except Error as error:
            found.append(Violation(name, error.reason, error.message))
    if found:
        # A URL that can not be read is found both with the keys and when it is opened.
        raise ConfigInvalid(f"{config_path} can not be used", violations=list(dict.fromkeys(found)))
    click.echo(f"{config_path}: all is well")


def _open(url: str) -> None:
    database = Database(url, readers=1, writers=1)
    try:
        database.read_now(lambda _: None)
    finally:
        database.close()


@click.command()
@CONFIG
@AS_JSON
def status(config_path: Path, as_json: bool) -> None:
    """Show how long the log is, how much of it the registry has confirmed, and how many conflicts wait."""
    config = load_city_config(config_path)
    require_current(config.database_url, "city_node")
    progress = _reading(config, lambda conn: log_progress(conn, CityStore(), config.city.code))
    doubt = verify_only_mark(config, utc_micros).read()
    origin = city_log_origin(config.node.trust_domain, config.city.code, progress.epoch)
    anchored = Anchor(config.anchor_path, origin).last()
    found: dict[str, int | str] = {
        "city": progress.city,
        "epoch": progress.epoch,
        "log_size": progress.log_size,
        "confirmed_size": progress.confirmed_size,
        "anchored_size": anchored.size if anchored is not None and anchored.origin == origin else 0,
        "backlog": progress.log_size - progress.confirmed_size,
        "last_commit": _time(progress.last_commit_us) if progress.last_commit_us else "",
        "dispositions": progress.dispositions,
        "conflicts": progress.contested + progress.without_effect,
        "evidence": sum(1 for _ in config.evidence_dir.glob("*.json")),
        "verify_only": doubt.message if doubt is not None else "",
    }
    if as_json:
        click.echo(json.dumps(found))
        return
    for name, value in found.items():
        counted = isinstance(value, int) and name != "city"
        click.echo(f"{name.replace('_', ' '):16} {f'{value:,}' if counted else value}".rstrip())


@click.command("allow-signing")
@CONFIG
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option(
    "--unregistered-epoch",
    is_flag=True,
    help="Also in an epoch that a restore opened and the registry may refuse, with whatever is issued in it.",
)
def allow_signing(config_path: Path, yes: bool, unregistered_epoch: bool) -> None:
    """Let a node sign again that only verifies; for a stopped node whose history was looked into.

    A node stops signing when its database lacks what it signed, when its log
    and what the registry holds of it are two histories, or when its database is
    damaged.  Find out which, and put it right, before this: every further
    signature could be half of a fork.  The database's head becomes the anchor.
    """
    config, store = load_city_config(config_path), CityStore()
    keys = load_keys(config, random=secrets.token_bytes)
    head = _reading(config, lambda conn: own_head(conn, store, config.city.code))
    origin = city_log_origin(config.node.trust_domain, config.city.code, head.key.epoch)
    mark = verify_only_mark(config, utc_micros)
    doubt = mark.read()
    if doubt is None and Anchor(config.anchor_path, origin).last() is None:
        doubt = HistoryUnknown(f"its anchor, {config.anchor_path}, is missing")
    if doubt is None:
        click.echo("this node may sign already")
        return
    click.echo(f"this node only verifies: {doubt.message} [{doubt.reason}]")
    receipt = _reading(config, lambda conn: store.logs.commits.latest_cosigned(conn, head.key))
    if head.key.epoch > FIRST_EPOCH and receipt is None and not unregistered_epoch:
        raise HistoryUnknown(
            f"a restore opened epoch {head.key.epoch} of this log, and no receipt shows that the registry took it: if "
            "it got more of the epoch before than this database holds, it refuses this one, and whatever was issued in "
            "it has to be issued anew; run `elicense-city restore`, which asks it, or give --unregistered-epoch if it "
            "is away for long",
            epoch=head.key.epoch,
        )
    if not yes:
        click.confirm("Was this looked into, and may the node sign again?", abort=True)
    signer = keys.log.of(head.key.epoch)
    with alone(config.data_dir):
        create_anchor(config.anchor_path, sign_checkpoint(Checkpoint(origin, head.size, head.root), signer))
        mark.clear()
    click.echo("the node signs again once it is restarted")


@click.command()
@CONFIG
@AS_JSON
@ANEW
def fsck(config_path: Path, as_json: bool, anew: bool) -> None:
    """Recompute the log and everything derived from it from the records; exit 1 on any difference.

    A run that was stopped is gone on with by the next one.
    """
    config = load_city_config(config_path)
    require_current(config.database_url, "city_node")
    keys = load_keys(config, random=secrets.token_bytes)
    progress = Progress()
    database = Database(config.database_url, readers=1, writers=1)
    try:
        report = Fsck(
            database=database,
            store=CityStore(),
            persons=keys.persons,
            trust_domain=config.node.trust_domain,
            city=config.city.code,
            cosigner=keys.cosigner,
            progress=progress.add,
            registry=RegistryHistory(parse_vkey(config.city.registry_log_key)),
            path=config.data_dir / FSCK_FILE,
            anew=anew,
            tell=progress.tell,
        ).run()
    finally:
        database.close()
    progress.end()
    finish(report, as_json=as_json)


def _reading(config: CityConfig, fn: Callable[[Any], T]) -> T:
    database = Database(config.database_url, readers=1, writers=1)
    try:
        return database.read_now(fn)
    finally:
        database.close()


def _time(us: int) -> str:
    return datetime.fromtimestamp(us / 1_000_000, tz=CHINA).isoformat(timespec="seconds")
