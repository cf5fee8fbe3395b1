"""Verbs for those who check the registry: its published keys, and proofs of entries."""

from __future__ import annotations

import secrets
from datetime import UTC, datetime
from pathlib import Path

import click

from elicense.cli.evidence_files import write_new
from elicense.clock import SECOND_US
from elicense.errors import Malformed, NotFound
from elicense.log.checkpoint import cosigner_verifier_key, log_verifier_key
from elicense.log.entry_proofs import read_proof
from elicense.log.model import LogKey
from elicense.log.proof_file import format_proof
from elicense.log.verifier_key import format_vkey, parse_vkey
from elicense.sql.database import Database
from elicense.sql.schema_version import require_current
from elicense.trust.spiffe import registry_id
from elicense.verification.evidence import answers_verifier_key
from elicense.verification.evidence_file import confirm, format_evidence
from registry.breaches import CUSTODY_BROKEN, Breach
from registry.cli.options import CONFIG
from registry.config import load
from registry.custody_proof import custody_evidence
from registry.history import own_epochs
from registry.keys import load_keys
from registry.names import cosigner_name, registry_origin
from registry.store import RegistryStore
from registry.unacknowledged import Acknowledgements


@click.command()
@CONFIG
def keys(config_path: Path) -> None:
    """Print the public keys of the registry and of every city's log, one a line, for `elicense log verify --key`."""
    config = load(config_path)
    held = load_keys(config, random=secrets.token_bytes)
    domain = config.node.trust_domain
    database = Database(config.database.url, readers=1, writers=1)
    try:
        cities = database.read_now(RegistryStore().cities)
        epochs = database.read_now(lambda conn: own_epochs(conn, RegistryStore().logs))
    finally:
        database.close()
    for epoch in epochs:
        click.echo(format_vkey(log_verifier_key(registry_origin(domain, epoch), held.log.public_key())))
    click.echo(format_vkey(cosigner_verifier_key(cosigner_name(domain), held.cosigner.public_key())))
    click.echo(format_vkey(answers_verifier_key(str(registry_id(domain)), held.answers.public_key())))
    for city in cities:
        click.echo(city.log_key)


@click.command()
@CONFIG
@click.argument("city", type=int)
@click.argument("index", type=int)
@click.option("--epoch", type=int, default=1, show_default=True, help="Epoch of the city's log.")
@click.option("--out", required=True, type=click.Path(path_type=Path, dir_okay=False), help="New file.")
def prove(config_path: Path, city: int, index: int, epoch: int, out: Path) -> None:
    """Write the proof that entry INDEX stands in the log of CITY, with its record: personal data, for a court."""
    config = load(config_path)
    require_current(config.database.url, "registry")
    database = Database(config.database.url, readers=1, writers=1)
    try:
        proof = database.read_now(lambda conn: read_proof(conn, RegistryStore().logs, LogKey(city, epoch), index))
    finally:
        database.close()
    write_new(out, format_proof(proof))
    click.echo(f"{out}: entry {index} of city {city}, epoch {epoch}")


@click.command()
@CONFIG
def breaches(config_path: Path) -> None:
    """List the records that are proved to break custody, as the registry found them, and cities that sign nothing.

    A city signs with its next call that it knows where a licence of its own went. One that does not can not be
    convicted of what it writes of it.
    """
    config = load(config_path)
    require_current(config.database.url, "registry")
    store = RegistryStore()
    database = Database(config.database.url, readers=1, writers=1)
    try:
        kept = database.read_now(lambda conn: store.evidence.kept_for(conn, CUSTODY_BROKEN))
        silent = database.read_now(Acknowledgements(store).all)
    finally:
        database.close()
    for body, noted_us in kept:
        breach = Breach.parse(body)
        city, epoch = breach.record.log, breach.record.epoch
        when = datetime.fromtimestamp(noted_us / SECOND_US, UTC)
        click.echo(f"{city}/{epoch} entry {breach.index}, found {when:%Y-%m-%d %H:%M} UTC: ", nl=False)
        click.echo(f"elicense-registry prove-breach {city} {breach.index} --epoch {epoch} --out FILE")
    for each in silent:
        click.echo(f"{each.city}/{each.word.epoch} entry {each.word.idx}: ", nl=False)
        click.echo(f"told {each.seconds:.0f} s ago, by its last call, who has the license, and has not signed so")


@click.command("prove-breach")
@CONFIG
@click.argument("city", type=int)
@click.argument("index", type=int)
@click.option("--epoch", type=int, default=1, show_default=True, help="Epoch of the city's log.")
@click.option("--out", required=True, type=click.Path(path_type=Path, dir_okay=False), help="New file.")
def prove_breach(config_path: Path, city: int, index: int, epoch: int, out: Path) -> None:
    """Write the proof that CITY had no custody of the license when it wrote entry INDEX: personal data, for a court."""
    config = load(config_path)
    require_current(config.database.url, "registry")
    store = RegistryStore()
    own = load_keys(config, random=secrets.token_bytes).log
    database = Database(config.database.url, readers=1, writers=1)
    try:
        evidence = database.read_now(lambda conn: custody_evidence(conn, store, LogKey(city, epoch), index))
        cities = database.read_now(store.cities)
        epochs = database.read_now(lambda conn: own_epochs(conn, store.logs))
    finally:
        database.close()
    domain = config.node.trust_domain
    keys = [log_verifier_key(registry_origin(domain, epoch), own.public_key()) for epoch in epochs]
    keys += [parse_vkey(each.log_key) for each in cities]
    try:
        confirmed = confirm(evidence, keys)
    except Malformed as error:
        raise NotFound(f"nothing is proved against city {city} by this entry: {error.message}") from error
    write_new(out, format_evidence(evidence))
    click.echo(f"{out}: {' and '.join(confirmed.accused)} {confirmed.what}")
