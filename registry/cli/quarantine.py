"""Verbs about cities in quarantine, for operators: list, release, approve, evidence."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import click
import grpc
from google.protobuf.json_format import MessageToDict

from elicense.cli.evidence_files import write_new
from elicense.cli.options import ADDRESS
from elicense.errors import Malformed
from elicense.rpc.channel import DEFAULT_TIMEOUT_S, secure_channel_sync
from elicense.rpc.errors import from_rpc_error
from elicense.trust.credentials import load_credentials
from elicense.v1 import oversight_pb2 as pb
from elicense.v1 import oversight_pb2_grpc
from elicense.v1.log_pb2 import QuarantineKind

T = TypeVar("T")

_CREDENTIALS = click.option(
    "--credentials",
    required=True,
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder of an operator's credentials.",
)


@click.group()
def quarantine() -> None:
    """See cities whose logs are not taken in, and end a quarantine with two operators."""


@quarantine.command("list")
@_CREDENTIALS
@ADDRESS
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def list_command(credentials: Path, address: str | None, as_json: bool) -> None:
    """Print every quarantine, with what is kept as evidence."""
    with _stub(credentials, address) as stub:
        answer = _call(lambda: stub.ListQuarantines(pb.ListQuarantinesRequest(), timeout=DEFAULT_TIMEOUT_S))
    if as_json:
        click.echo(json.dumps([MessageToDict(held) for held in answer.quarantines]))
        return
    for held in answer.quarantines:
        click.echo(_line(held))
    if not answer.quarantines:
        click.echo("no city is in quarantine")


@quarantine.command()
@click.argument("city", type=int)
@_CREDENTIALS
@ADDRESS
def release(city: int, credentials: Path, address: str | None) -> None:
    """Ask that the quarantine of CITY ends; another operator has to approve."""
    with _stub(credentials, address) as stub:
        held = _call(lambda: stub.AskRelease(pb.AskReleaseRequest(city=city), timeout=DEFAULT_TIMEOUT_S))
    click.echo(_line(held))
    click.echo(f"another operator ends it with: elicense-registry quarantine approve {city} --credentials ...")


@quarantine.command()
@click.argument("city", type=int)
@_CREDENTIALS
@ADDRESS
def approve(city: int, credentials: Path, address: str | None) -> None:
    """End the quarantine of CITY, as another operator than the one who asked."""
    with _stub(credentials, address) as stub:
        held = _call(lambda: stub.ApproveRelease(pb.ApproveReleaseRequest(city=city), timeout=DEFAULT_TIMEOUT_S))
    click.echo(_line(held))


@quarantine.command()
@click.argument("city", type=int)
@click.argument("digest")
@_CREDENTIALS
@ADDRESS
@click.option("--out", required=True, type=click.Path(path_type=Path, dir_okay=False), help="New file.")
def evidence(city: int, digest: str, credentials: Path, address: str | None, out: Path) -> None:
    """Write the evidence of that DIGEST to a file, for `elicense log verify`."""
    try:
        wanted = bytes.fromhex(digest)
    except ValueError:
        raise Malformed("the digest must be 64 hex digits, as `quarantine list` prints it") from None
    with _stub(credentials, address) as stub:
        request = pb.GetEvidenceRequest(city=city, digest=wanted)
        answer = _call(lambda: stub.GetEvidence(request, timeout=DEFAULT_TIMEOUT_S))
    write_new(out, answer.body)
    click.echo(f"{out}: evidence against city {city}")


def _line(held: pb.Quarantine) -> str:
    kind = QuarantineKind.Name(held.kind).removeprefix("QUARANTINE_KIND_")
    state = pb.QuarantineState.Name(held.state).removeprefix("QUARANTINE_STATE_")
    who = "".join(f", {word} by {name}" for word, name in (("asked", held.asked_by), ("ended", held.ended_by)) if name)
    since = held.open_time.ToJsonString()
    return f"{held.city}/{held.epoch}: {kind} {state} since {since}{who}; evidence {held.evidence_digest.hex()}"


@contextmanager
def _stub(credentials: Path, address: str | None) -> Iterator[oversight_pb2_grpc.OversightServiceStub]:
    with secure_channel_sync(load_credentials(credentials), address=address) as channel:
        yield oversight_pb2_grpc.OversightServiceStub(channel)


def _call(call: Callable[[], T]) -> T:
    try:
        return call()
    except grpc.RpcError as error:
        raise from_rpc_error(error) from error
