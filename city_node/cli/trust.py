"""Verbs about the city's own people: token, revoke."""

from __future__ import annotations

import asyncio
import secrets
from datetime import timedelta
from pathlib import Path

import click

from city_node.cli.options import CONFIG
from city_node.config import CityConfig, load_city_config
from city_node.enrollment import enrollment
from city_node.keys import load_keys
from city_node.store import CityStore
from elicense.cli.options import Duration
from elicense.clock import utc_micros
from elicense.errors import NotFound
from elicense.sql.database import Database
from elicense.sql.schema_version import require_current
from elicense.trust.revocation import revoke as revoke_certificates
from elicense.trust.roles import VERIFIERS, Role
from elicense.trust.spiffe import SpiffeId, city_id
from elicense.trust.token import format_token

_VALID = click.option(
    "--valid",
    type=Duration(),
    default="24h",
    show_default=True,
    help="How long the token may be used: 30m, 24h, 7d.",
)


@click.group()
def token() -> None:
    """Make a one-time join token and print it; hand it over by a safe way."""


@token.command("clerk")
@click.argument("name", metavar="ID")
@CONFIG
@_VALID
def clerk_token(name: str, config_path: Path, valid: timedelta) -> None:
    """For a clerk, or an issuing system, of this city."""
    config = load_city_config(config_path)
    _print_token(config, (Role.CLERK.value, str(config.city.code), name), valid)


@token.command("verifier")
@click.argument("role", type=click.Choice(sorted(role.value for role in VERIFIERS)))
@click.argument("org")
@CONFIG
@_VALID
def verifier_token(role: str, org: str, config_path: Path, valid: timedelta) -> None:
    """For a verifier of ROLE that belongs to ORG and asks this node."""
    config = load_city_config(config_path)
    _print_token(config, ("city", str(config.city.code), "verifier", role, org), valid)


def _print_token(config: CityConfig, path: tuple[str, ...], valid: timedelta) -> None:
    require_current(config.database_url, "city_node")
    keys = load_keys(config, random=secrets.token_bytes)
    trust_domain = config.node.trust_domain
    database = Database(config.database_url, readers=1, writers=1)
    try:
        use_case = enrollment(config, keys, database, CityStore(), clock=utc_micros, random=secrets.token_bytes)
        made = asyncio.run(
            use_case.create_token(
                subject=SpiffeId(trust_domain, path),
                address=config.advertised,
                # Whoever can read the keys acts as the node itself.
                issued_by=str(city_id(trust_domain, config.city.code)),
                lifetime_us=valid // timedelta(microseconds=1),
            )
        )
    finally:
        database.close()
    click.echo(format_token(made))


@click.command()
@click.argument("whom", metavar="FINGERPRINT|SUBJECT")
@CONFIG
def revoke(whom: str, config_path: Path) -> None:
    """Revoke one certificate by its SHA-256 FINGERPRINT, or every one of a SPIFFE ID; felt within a second."""
    config = load_city_config(config_path)
    require_current(config.database_url, "city_node")
    store = CityStore()

    database = Database(config.database_url, readers=1, writers=1)
    try:
        revoked = database.write_now(lambda conn: revoke_certificates(conn, store.trust, whom))
    finally:
        database.close()
    if not revoked:
        raise NotFound("no certificate in force is known by that fingerprint or subject")
    click.echo(f"{revoked} certificate{'' if revoked == 1 else 's'} revoked")
