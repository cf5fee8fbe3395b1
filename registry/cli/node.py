"""Verbs about what the node stores: init, fsck, check-config."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from pathlib import Path

import click

from elicense.cli.fsck import ANEW, FSCK_FILE, Progress, finish
from elicense.clock import utc_micros
from elicense.config import ConfigInvalid
from elicense.errors import Error, Violation
from elicense.sql.database import Database
from elicense.sql.schema_version import is_new, require_current
from elicense.trust.credentials import load_authority, load_credentials
from elicense.trust.secret_file import read_secret
from elicense.trust.signer import load_signer
from elicense.view.person import KEY_SIZE
from registry.cli.options import CONFIG
from registry.config import RegistryConfig, load
from registry.fsck import Fsck
from registry.init import Plan, initialize
from registry.keys import load_keys
from registry.store import RegistryStore


@click.command()
@click.option("--data", "data_dir", required=True, type=click.Path(path_type=Path, file_okay=False), help="New folder.")
@click.option("--trust-domain", required=True, help="Trust domain, such as elicense.example.")
@click.option("--listen", required=True, metavar="HOST:PORT", help="Where to listen.")
@click.option("--advertise", metavar="HOST:PORT", help="Where others reach it; --listen when left out.")
@click.option("--database", "database_url", metavar="URL", help="postgresql+psycopg://...; SQLite when left out.")
@click.option("--metrics", metavar="HOST:PORT", help="Where Prometheus reads, over mTLS.")
def init(
    data_dir: Path,
    trust_domain: str,
    listen: str,
    advertise: str | None,
    database_url: str | None,
    metrics: str | None,
) -> None:
    """Make the national root, every key of the registry, its databases and its configuration file."""
    plan = Plan(
        data_dir=data_dir.absolute(),
        trust_domain=trust_domain,
        listen=listen,
        advertise=advertise,
        database_url=database_url,
        metrics=metrics,
    )
    path = initialize(plan, clock=utc_micros, random=secrets.token_bytes)
    click.echo(f"the registry is set up; start it with: elicense-registry serve --config {path}")


@click.command("check-config")
@CONFIG
def check_config(config_path: Path) -> None:
    """Check the configuration file, the keys and the database that it names."""
    config = load(config_path)
    problems = list(_problems(config))
    if problems:
        raise ConfigInvalid(f"{config_path} does not fit what is on this machine", violations=problems)
    click.echo(f"{config_path}: all is well")


def _problems(config: RegistryConfig) -> Iterator[Violation]:
    """Yield what is wrong with each key and store that the configuration names."""
    checks: tuple[tuple[str, Callable[[], object]], ...] = (
        ("node.data_dir", lambda: load_credentials(config.credentials_dir)),
        ("keys.log", lambda: load_signer(config.log_key)),
        ("keys.cosigner", lambda: load_signer(config.cosigner_key)),
        ("keys.index", lambda: read_secret(config.index_key, KEY_SIZE)),
        ("keys.subject", lambda: read_secret(config.subject_key, KEY_SIZE)),
        ("keys.authority", lambda: load_authority(config.authority_dir, random=secrets.token_bytes)),
        ("database.url", lambda: require_current(config.database.url, "registry")),
        ("access_log.url", lambda: is_new(config.access_log.url, create=False)),
    )
    for field, check in checks:
        try:
            check()
        except Error as error:
            yield Violation(field, error.reason, error.message)


@click.command()
@CONFIG
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
@ANEW
def fsck(config_path: Path, as_json: bool, anew: bool) -> None:
    """Recompute every log and the national view from the records; exit 1 on any difference.

    A run that was stopped is gone on with by the next one.
    """
    config = load(config_path)
    require_current(config.database.url, "registry")
    keys = load_keys(config, random=secrets.token_bytes)
    progress = Progress()
    database = Database(config.database.url, readers=1, writers=1)
    try:
        report = Fsck(
            database=database,
            store=RegistryStore(),
            persons=keys.persons,
            trust_domain=config.node.trust_domain,
            log_key=keys.log.public_key(),
            cosigner_key=keys.cosigner.public_key(),
            progress=progress.add,
            path=config.node.data_dir / FSCK_FILE,
            anew=anew,
            tell=progress.tell,
        ).run()
    finally:
        database.close()
    progress.end()
    finish(report, as_json=as_json)
