"""Calling a node as a clerk, and what its answers look like on a terminal."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable
from contextlib import closing
from datetime import date
from pathlib import Path
from typing import Any, Final, TypeVar

import click
import grpc
from google.protobuf.json_format import MessageToDict
from google.type.date_pb2 import Date

from elicense.errors import Malformed
from elicense.rpc.channel import secure_channel_sync
from elicense.rpc.errors import from_rpc_error
from elicense.trust.credentials import Credentials, load_credentials
from elicense.trust.roles import Role
from elicense.trust.spiffe import identify
from elicense.v1 import issuance_pb2_grpc, license_pb2, log_pb2

T = TypeVar("T")

REQUEST_ID: Final = click.option(
    "--request-id", default=lambda: str(uuid.uuid4()), help="UUID of this request; give the same one to try again."
)
CHECK_ONLY: Final = click.option("--check-only", is_flag=True, help="Check everything, change nothing.")
ETAG: Final = click.option("--etag", default="", help="Version that was read; refused when it has changed since.")

_STANDINGS: Final = {
    "VOID": "valid nowhere any more, whatever is written of it here; cancel it",
    "CONFLICT": "valid nowhere while another license of the person counts; see `elicense-city conflicts list`",
    "PROVISIONAL": "valid nowhere until the registry has confirmed it",
}


def city_of(credentials: Credentials) -> int:
    """Return the city whose clerk bears ``credentials``.

    Raises:
        Malformed: The bearer is no clerk.
    """
    identity = identify(credentials.subject)
    if identity.role is not Role.CLERK or identity.city is None:
        raise Malformed(f"these are the credentials of {credentials.subject}; give those of a clerk")
    return identity.city


def civil_date(text: str, option: str) -> date:
    """Return the date in an option.

    Raises:
        BadParameter: There is no such day.
    """
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise click.BadParameter("give a date that exists, as YYYY-MM-DD", param_hint=option) from None


def call_node(folder: Path, address: str | None, call: Callable[[issuance_pb2_grpc.IssuanceServiceStub, str], T]) -> T:
    """Call the node as a clerk; raises the domain error that the node raised."""
    credentials = load_credentials(folder)
    parent = f"cities/{city_of(credentials)}"
    with closing(secure_channel_sync(credentials, address=address)) as channel:
        try:
            return call(issuance_pb2_grpc.IssuanceServiceStub(channel), parent)
        except grpc.RpcError as error:
            raise from_rpc_error(error) from error


def full_name(parent: str, name: str) -> str:
    """Return the resource name of a licence that may be given by its UUID alone."""
    return name if "/" in name else f"{parent}/licenses/{name}"


def print_change(answer: Any, *, as_json: bool, checked: bool) -> None:
    """Print the answer to a change: a licence, how widely it is safe, and its proof."""
    if as_json:
        click.echo(as_json_text(answer))
        return
    if checked:
        click.echo("nothing stands against it; nothing was changed")
        return
    click.echo("\n".join(lines(answer.license)))
    click.echo(f"record {answer.proof.position.index} of the city's log, safe {durability(answer.durability)}")


def lines(license_: license_pb2.License) -> list[str]:
    """Return a licence in a few lines, without personal data."""
    shown = [
        license_.name,
        f"classes   {classes(license_)}",
        f"letters   {letters(license_)}",
        f"validity  {validity(license_)}",
        f"points    {points(license_)}",
        f"revision  {license_.revision}, etag {license_.etag}",
    ]
    word = standing(license_)
    return [*shown, f"{word}: {_STANDINGS[word]}"] if word else shown


def standing(license_: license_pb2.License) -> str:
    """Return in one word what keeps a licence from counting nationwide; empty when nothing does."""
    if license_.national_standing == license_pb2.NATIONAL_STANDING_VOID:
        return "VOID"
    if license_.national_standing == license_pb2.NATIONAL_STANDING_CONFLICT:
        return "CONFLICT"
    return "PROVISIONAL" if license_.provisional else ""


def classes(license_: license_pb2.License) -> str:
    """Return a licence's classes."""
    return " ".join(held.code for held in license_.vehicle_classes)


def letters(license_: license_pb2.License) -> str:
    """Return a licence's letters; A when there is none."""
    return "".join(letter.letter for letter in license_.status_letters) or "A"


def validity(license_: license_pb2.License) -> str:
    """Return how long a licence is valid."""
    period = license_.validity
    return f"until {_day(period.until_date)}" if period.HasField("until_date") else "long-term"


def points(license_: license_pb2.License) -> str:
    """Return a licence's points and when they are cleared."""
    if not license_.points:
        return "none"
    return f"{license_.points}, cycle ends before {_day(license_.points_roll_date)}"


def _day(day: Date) -> str:
    return f"{day.year:04}-{day.month:02}-{day.day:02}"


def durability(level: int) -> str:
    """Return how widely a record is safe, in words."""
    national = level == log_pb2.DURABILITY_NATIONAL
    return "nationwide" if national else "on this city's disk"


def as_json_text(message: Any) -> str:
    """Return a message as JSON text."""
    return json.dumps(MessageToDict(message), ensure_ascii=False, indent=2)
