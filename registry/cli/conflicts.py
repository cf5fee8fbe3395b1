"""An operator's verbs about conflicts, over gRPC with the operator's certificate."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any, TypeVar

import click
import grpc
from google.protobuf.json_format import MessageToDict

from elicense.cli.conflict_text import conflict_name, license_uuid, lines, summary, tally
from elicense.cli.options import ADDRESS
from elicense.errors import Malformed
from elicense.rpc.channel import DEFAULT_TIMEOUT_S, secure_channel_sync
from elicense.rpc.errors import from_rpc_error
from elicense.trust.credentials import load_credentials
from elicense.trust.roles import Role
from elicense.trust.spiffe import identify
from elicense.v1 import conflict_pb2 as pb
from elicense.v1 import conflict_pb2_grpc

T = TypeVar("T")

_CREDENTIALS = click.option(
    "--credentials",
    required=True,
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="Folder of an operator, made by `elicense join`.",
)
_AS_JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
_ID = click.argument("conflict", metavar="CONFLICT")


@click.group()
def conflicts() -> None:
    """See and decide conflicts that cities did not settle between them."""


@conflicts.command("list")
@click.option("--all", "with_settled", is_flag=True, help="List those that are over as well.")
@_CREDENTIALS
@ADDRESS
@_AS_JSON
def list_conflicts(with_settled: bool, credentials: Path, address: str | None, as_json: bool) -> None:
    """List conflicts of all cities, overdue ones first."""

    def call(channel: grpc.Channel) -> pb.ListConflictsResponse:
        request = pb.ListConflictsRequest(with_settled=with_settled)
        stub = conflict_pb2_grpc.ConflictServiceStub(channel)
        answer: pb.ListConflictsResponse = stub.ListConflicts(request, timeout=DEFAULT_TIMEOUT_S)
        return answer

    found = _call(credentials, address, call)
    if as_json:
        click.echo(_json(found))
        return
    for conflict in found.conflicts:
        click.echo(summary(conflict))
    click.echo(tally(found))


@conflicts.command()
@_ID
@_CREDENTIALS
@ADDRESS
@_AS_JSON
def show(conflict: str, credentials: Path, address: str | None, as_json: bool) -> None:
    """Show a CONFLICT with both sides' evidence, without anybody's data."""
    request = pb.GetConflictRequest(name=conflict_name(conflict))

    def call(channel: grpc.Channel) -> pb.Conflict:
        stub = conflict_pb2_grpc.ConflictServiceStub(channel)
        answer: pb.Conflict = stub.GetConflict(request, timeout=DEFAULT_TIMEOUT_S)
        return answer

    _print(_call(credentials, address, call), as_json=as_json)


@conflicts.command()
@_ID
@click.option("--stands", required=True, metavar="LICENSE", help="The licence that stands.")
@click.option("--basis", required=True, help="Law and reason, without personal data: it goes into the log.")
@_CREDENTIALS
@ADDRESS
@_AS_JSON
def decide(conflict: str, stands: str, basis: str, credentials: Path, address: str | None, as_json: bool) -> None:
    """Decide which licence of a CONFLICT stands: past its deadline, or once both cities contest."""

    def call(channel: grpc.Channel) -> pb.Conflict:
        request = pb.DecideConflictRequest(
            name=conflict_name(conflict), standing_license=license_uuid(stands), basis=basis
        )
        stub = conflict_pb2_grpc.ConflictRulingServiceStub(channel)
        answer: pb.DecideConflictResponse = stub.DecideConflict(request, timeout=DEFAULT_TIMEOUT_S)
        return answer.conflict

    _print(_call(credentials, address, call), as_json=as_json)


def _print(conflict: pb.Conflict, *, as_json: bool) -> None:
    click.echo(_json(conflict) if as_json else "\n".join(lines(conflict, None)))


def _json(message: Any) -> str:
    return json.dumps(MessageToDict(message), ensure_ascii=False, indent=2)


def _call(folder: Path, address: str | None, call: Callable[[grpc.Channel], T]) -> T:
    credentials = load_credentials(folder)
    if identify(credentials.subject).role is not Role.OPERATOR:
        raise Malformed(f"these are the credentials of {credentials.subject}; give those of an operator")
    with closing(secure_channel_sync(credentials, address=address)) as channel:
        try:
            return call(channel)
        except grpc.RpcError as error:
            raise from_rpc_error(error) from error
