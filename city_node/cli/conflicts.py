"""The clerk's inbox of conflicts: two licences of one person, of which one city's was issued while it was cut off."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import TypeVar

import click
import grpc

from city_node.cli.clerk_call import as_json_text, city_of
from city_node.cli.options import AS_JSON, CREDENTIALS
from elicense.cli.conflict_text import conflict_name, license_uuid, lines, summary, tally
from elicense.cli.options import ADDRESS
from elicense.rpc.channel import DEFAULT_TIMEOUT_S, secure_channel_sync
from elicense.rpc.errors import from_rpc_error
from elicense.trust.credentials import load_credentials
from elicense.v1 import conflict_pb2 as pb
from elicense.v1 import conflict_pb2_grpc, log_pb2

T = TypeVar("T")

_ID = click.argument("conflict", metavar="CONFLICT")
_GROUNDS = click.option("--grounds", required=True, help="Why, without personal data: it goes into the registry's log.")
_LICENSE = click.option("--license", "license_", default="", help="Your licence, where both are yours.")


@click.group()
def conflicts() -> None:
    """See and settle conflicts of this city's licences with another's."""


@conflicts.command("list")
@click.option("--all", "with_settled", is_flag=True, help="List those that are over as well.")
@CREDENTIALS
@ADDRESS
@AS_JSON
def list_conflicts(with_settled: bool, credentials: Path, address: str | None, as_json: bool) -> None:
    """List this city's conflicts, overdue ones first."""
    request = pb.ListConflictsRequest(with_settled=with_settled)

    def call(stub: conflict_pb2_grpc.ConflictServiceStub) -> pb.ListConflictsResponse:
        answer: pb.ListConflictsResponse = stub.ListConflicts(request, timeout=DEFAULT_TIMEOUT_S)
        return answer

    found, _ = _call(credentials, address, call)
    if as_json:
        click.echo(as_json_text(found))
        return
    for conflict in found.conflicts:
        click.echo(summary(conflict))
    click.echo(tally(found))


@conflicts.command()
@_ID
@CREDENTIALS
@ADDRESS
@AS_JSON
def show(conflict: str, credentials: Path, address: str | None, as_json: bool) -> None:
    """Show a CONFLICT with both sides' evidence; the node checks the proofs."""
    request = pb.GetConflictRequest(name=conflict_name(conflict))

    def call(stub: conflict_pb2_grpc.ConflictServiceStub) -> pb.Conflict:
        answer: pb.Conflict = stub.GetConflict(request, timeout=DEFAULT_TIMEOUT_S)
        return answer

    _print(*_call(credentials, address, call), as_json=as_json)


@conflicts.command()
@_ID
@_GROUNDS
@_LICENSE
@CREDENTIALS
@ADDRESS
@AS_JSON
def contest(conflict: str, grounds: str, license_: str, credentials: Path, address: str | None, as_json: bool) -> None:
    """Say that this city's licence of a CONFLICT should stand."""
    _state(conflict, log_pb2.CONFLICT_POSITION_CONTEST, grounds, license_, credentials, address, as_json=as_json)


@conflicts.command()
@_ID
@_GROUNDS
@_LICENSE
@CREDENTIALS
@ADDRESS
@AS_JSON
def concede(conflict: str, grounds: str, license_: str, credentials: Path, address: str | None, as_json: bool) -> None:
    """Withdraw this city's licence of a CONFLICT: it is void at once, and the other one stands."""
    _state(conflict, log_pb2.CONFLICT_POSITION_WITHDRAW, grounds, license_, credentials, address, as_json=as_json)


def _state(
    conflict: str,
    position: log_pb2.ConflictPosition,
    grounds: str,
    license_: str,
    credentials: Path,
    address: str | None,
    *,
    as_json: bool,
) -> None:
    request = pb.StatePositionRequest(name=conflict_name(conflict), position=position, grounds=grounds)
    if license_:
        request.license = license_uuid(license_)

    def call(stub: conflict_pb2_grpc.ConflictServiceStub) -> pb.Conflict:
        answer: pb.StatePositionResponse = stub.StatePosition(request, timeout=DEFAULT_TIMEOUT_S)
        return answer.conflict

    _print(*_call(credentials, address, call), as_json=as_json)


def _print(conflict: pb.Conflict, city: int, *, as_json: bool) -> None:
    click.echo(as_json_text(conflict) if as_json else "\n".join(lines(conflict, city)))


def _call(
    folder: Path, address: str | None, call: Callable[[conflict_pb2_grpc.ConflictServiceStub], T]
) -> tuple[T, int]:
    credentials = load_credentials(folder)
    city = city_of(credentials)
    with closing(secure_channel_sync(credentials, address=address)) as channel:
        try:
            return call(conflict_pb2_grpc.ConflictServiceStub(channel)), city
        except grpc.RpcError as error:
            raise from_rpc_error(error) from error
