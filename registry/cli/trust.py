"""Verbs about who may call: token, revoke."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

import click

from elicense.cli.options import Duration
from elicense.clock import utc_micros
from elicense.errors import Malformed, NotFound, Violation
from elicense.license.divisions import is_city
from elicense.sql.database import Database
from elicense.sql.schema_version import require_current
from elicense.trust.revocation import revoke as revoke_certificates
from elicense.trust.roles import VERIFIERS, Role
from elicense.trust.spiffe import SpiffeId, city_id, registry_id
from elicense.trust.token import format_token
from registry.cli.options import CONFIG
from registry.config import RegistryConfig, load
from registry.enrollment import enrollment
from registry.keys import load_keys
from registry.store import RegistryStore

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


@token.command("city")
@click.argument("codes", metavar="CODE...", type=int, nargs=-1, required=True)
@CONFIG
@_VALID
def city_token(codes: tuple[int, ...], config_path: Path, valid: timedelta) -> None:
    """For the node of each city with division CODE, one token a line."""
    config = load(config_path)
    for code in codes:
        if not is_city(code):
            raise Malformed(
                f"{code} is not the division code of a city",
                violations=[Violation("CODE", "UNKNOWN_CITY", "give the six-digit code of a city, such as 320500")],
            )
    _print_tokens(config, [city_id(config.node.trust_domain, code) for code in codes], valid)


@token.command("verifier")
@click.argument("role", type=click.Choice(sorted(role.value for role in VERIFIERS)))
@click.argument("org")
@CONFIG
@_VALID
def verifier_token(role: str, org: str, config_path: Path, valid: timedelta) -> None:
    """For a verifier of ROLE that belongs to ORG, with access to the whole nation."""
    config = load(config_path)
    _print_tokens(config, [SpiffeId(config.node.trust_domain, ("verifier", role, org))], valid)


@token.command("operator")
@click.argument("name", metavar="ID")
@CONFIG
@_VALID
def operator_token(name: str, config_path: Path, valid: timedelta) -> None:
    """For an operator of the registry."""
    config = load(config_path)
    _print_tokens(config, [SpiffeId(config.node.trust_domain, (Role.OPERATOR.value, name))], valid)


@token.command("auditor")
@click.argument("name", metavar="ID")
@CONFIG
@_VALID
def auditor_token(name: str, config_path: Path, valid: timedelta) -> None:
    """For an auditor."""
    config = load(config_path)
    _print_tokens(config, [SpiffeId(config.node.trust_domain, (Role.AUDITOR.value, name))], valid)


def _print_tokens(config: RegistryConfig, subjects: Sequence[SpiffeId], valid: timedelta) -> None:
    require_current(config.database.url, "registry")
    keys = load_keys(config, random=secrets.token_bytes)
    database = Database(config.database.url, readers=1, writers=1)
    use_case = enrollment(config, keys, database, RegistryStore(), clock=utc_micros, random=secrets.token_bytes)

    async def make() -> None:
        for subject in subjects:
            made = await use_case.create_token(
                subject=subject,
                address=config.advertised,
                # Whoever can read the keys acts as the registry itself.
                issued_by=str(registry_id(config.node.trust_domain)),
                lifetime_us=valid // timedelta(microseconds=1),
            )
            click.echo(format_token(made))

    try:
        asyncio.run(make())
    finally:
        database.close()


@click.command()
@click.argument("whom", metavar="FINGERPRINT|SUBJECT")
@CONFIG
def revoke(whom: str, config_path: Path) -> None:
    """Revoke one certificate by its SHA-256 FINGERPRINT, or every one of a SPIFFE ID; felt within a second."""
    config = load(config_path)
    require_current(config.database.url, "registry")
    database = Database(config.database.url, readers=1, writers=1)
    try:
        revoked = database.write_now(lambda conn: revoke_certificates(conn, RegistryStore().trust, whom))
    finally:
        database.close()
    if not revoked:
        raise NotFound("no certificate in force is known by that fingerprint or subject")
    click.echo(f"{revoked} certificate{'' if revoked == 1 else 's'} revoked")
