"""Verbs about what the node stores: init, fsck, check-config."""

from __future__ import annotations

import json
import secrets
import sys
from pathlib import Path
from typing import Final

import click

from elicense.clock import utc_micros
from elicense.sql.database import Database
from elicense.sql.migrations import require_current
from registry.cli.options import CONFIG
from registry.config import load
from registry.fsck import Fsck, Report
from registry.init import Plan, initialize
from registry.keys import load_keys
from registry.store import RegistryStore

#: Findings printed in full; a store that is far gone has too many to read.
_MAX_PRINTED: Final = 1_000


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
    load_keys(config, random=secrets.token_bytes)
    require_current(config.database.url, "registry")
    click.echo(f"{config_path}: all is well")


@click.command()
@CONFIG
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
def fsck(config_path: Path, as_json: bool) -> None:
    """Recompute every log and the national view from the records; exit 1 on any difference."""
    config = load(config_path)
    require_current(config.database.url, "registry")
    keys = load_keys(config, random=secrets.token_bytes)
    database = Database(config.database.url, readers=1, writers=1)
    checked = 0

    def progress(entries: int) -> None:
        nonlocal checked
        checked += entries
        if sys.stderr.isatty():
            click.echo(f"\r{checked:,} entries checked", nl=False, err=True)

    try:
        report = Fsck(
            database=database,
            store=RegistryStore(),
            persons=keys.persons,
            trust_domain=config.node.trust_domain,
            log_key=keys.log.public_key(),
            cosigner_key=keys.cosigner.public_key(),
            progress=progress,
        ).run()
    finally:
        database.close()
    if sys.stderr.isatty():
        click.echo(err=True)
    _print_report(report, as_json=as_json)
    sys.exit(1 if report.findings else 0)


def _print_report(report: Report, *, as_json: bool) -> None:
    if as_json:
        findings = [{"where": finding.where, "what": finding.what} for finding in report.findings]
        counts = {"logs": report.logs, "entries": report.entries, "licenses": report.licenses}
        click.echo(json.dumps({**counts, "findings": findings}))
        return
    for finding in report.findings[:_MAX_PRINTED]:
        click.echo(f"{finding.where}: {finding.what}")
    counts_text = f"{report.logs} logs, {report.entries:,} entries, {report.licenses:,} licenses"
    verdict = f"{len(report.findings):,} differences" if report.findings else "no difference"
    click.echo(f"{counts_text}: {verdict}")
