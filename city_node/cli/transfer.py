"""The clerk's verbs for licences that move: offer, accept, withdraw, and the list of what comes and goes."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Final, TypeVar

import click
import grpc
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from city_node.cli.clerk_call import (
    CHECK_ONLY,
    ETAG,
    REQUEST_ID,
    as_json_text,
    city_of,
    classes,
    full_name,
    letters,
    lines,
    print_change,
)
from city_node.cli.options import AS_JSON, CREDENTIALS
from elicense.cli.conflict_text import city_name
from elicense.cli.options import ADDRESS
from elicense.errors import Malformed, Unavailable
from elicense.rpc.channel import DEFAULT_TIMEOUT_S, secure_channel_sync
from elicense.rpc.errors import from_rpc_error
from elicense.trust.credentials import load_credentials
from elicense.v1 import custody_pb2, license_pb2, log_pb2, transfer_pb2_grpc
from elicense.v1 import transfer_pb2 as pb

T = TypeVar("T")

_LICENSE: Final = click.argument("name", metavar="LICENSE")
_BASIS: Final = click.option("--basis", required=True, help="Law, application or reason on which it rests.")
_PAGE: Final = 100
_WORDS: Final = {
    (pb.TRANSFER_DIRECTION_OUT, pb.TRANSFER_STATE_OPEN): "offered to",
    (pb.TRANSFER_DIRECTION_OUT, pb.TRANSFER_STATE_DONE): "moved to",
    (pb.TRANSFER_DIRECTION_OUT, pb.TRANSFER_STATE_WITHDRAWN): "offer withdrawn from",
    (pb.TRANSFER_DIRECTION_OUT, pb.TRANSFER_STATE_RECALLED): "offer withdrawn, not confirmed yet, from",
    (pb.TRANSFER_DIRECTION_OUT, pb.TRANSFER_STATE_CANCELLED): "cancelled, no longer offered to",
    (pb.TRANSFER_DIRECTION_IN, pb.TRANSFER_STATE_OPEN): "arriving from",
    (pb.TRANSFER_DIRECTION_IN, pb.TRANSFER_STATE_DONE): "arrived from",
    (pb.TRANSFER_DIRECTION_IN, pb.TRANSFER_STATE_REFUSED): "not taken over from",
    (pb.TRANSFER_DIRECTION_LATE, pb.TRANSFER_STATE_OPEN): "changed too late by",
    (pb.TRANSFER_DIRECTION_LATE, pb.TRANSFER_STATE_DONE): "acknowledged that it was changed too late by",
}


@click.group()
def transfer() -> None:
    """Hand a licence over to another city, or take one over."""


@transfer.command()
@_LICENSE
@click.option("--to", "to_city", type=int, required=True, metavar="CITY", help="Division code, such as 510100.")
@_BASIS
@ETAG
@CREDENTIALS
@ADDRESS
@REQUEST_ID
@CHECK_ONLY
@AS_JSON
def offer(
    name: str,
    to_city: int,
    basis: str,
    etag: str,
    credentials: Path,
    address: str | None,
    request_id: str,
    check_only: bool,
    as_json: bool,
) -> None:
    """Offer a LICENSE to another city; it stays here, and valid, until that city has taken it over."""

    def call(stub: transfer_pb2_grpc.TransferServiceStub, parent: str) -> pb.OfferTransferResponse:
        request = pb.OfferTransferRequest(
            name=full_name(parent, name),
            to_city=to_city,
            legal_basis=basis,
            etag=etag,
            request_id=request_id,
            validate_only=check_only,
        )
        answer: pb.OfferTransferResponse = stub.OfferTransfer(request, timeout=DEFAULT_TIMEOUT_S)
        return answer

    print_change(_call(credentials, address, call), as_json=as_json, checked=check_only)


@transfer.command()
@_LICENSE
@_BASIS
@ETAG
@CREDENTIALS
@ADDRESS
@REQUEST_ID
@CHECK_ONLY
@AS_JSON
def withdraw(
    name: str,
    basis: str,
    etag: str,
    credentials: Path,
    address: str | None,
    request_id: str,
    check_only: bool,
    as_json: bool,
) -> None:
    """Take the offer of a LICENSE back; without effect once the other city has taken it over."""

    def call(stub: transfer_pb2_grpc.TransferServiceStub, parent: str) -> pb.WithdrawTransferResponse:
        request = pb.WithdrawTransferRequest(
            name=full_name(parent, name),
            legal_basis=basis,
            etag=etag,
            request_id=request_id,
            validate_only=check_only,
        )
        answer: pb.WithdrawTransferResponse = stub.WithdrawTransfer(request, timeout=DEFAULT_TIMEOUT_S)
        return answer

    print_change(_call(credentials, address, call), as_json=as_json, checked=check_only)


@transfer.command()
@_LICENSE
@_BASIS
@click.option("--archive-number", help="New archive number, twelve digits; give all three of the new office or none.")
@click.option("--authority", help="New issuing authority, in characters.")
@click.option("--division", help="Its division code, six digits.")
@CREDENTIALS
@ADDRESS
@REQUEST_ID
@CHECK_ONLY
@AS_JSON
def accept(
    name: str,
    basis: str,
    archive_number: str | None,
    authority: str | None,
    division: str | None,
    credentials: Path,
    address: str | None,
    request_id: str,
    check_only: bool,
    as_json: bool,
) -> None:
    """Take over a LICENSE that another city offers: its resource name there, as `transfer list` shows it."""
    if "/" not in name:
        raise Malformed("give the whole resource name of the license in the other city; `transfer list` shows it")
    given = [part for part in (archive_number, authority, division) if part is not None]
    if len(given) not in (0, 3):
        raise Malformed("give --archive-number, --authority and --division of the new office together, or none")

    def call(stub: transfer_pb2_grpc.TransferServiceStub, parent: str) -> pb.AcceptTransferResponse:
        request = pb.AcceptTransferRequest(
            parent=parent, license=name, legal_basis=basis, request_id=request_id, validate_only=check_only
        )
        if given:
            request.office.archive_number, request.office.issuing_authority, request.office.division_code = given
        answer: pb.AcceptTransferResponse = stub.AcceptTransfer(request, timeout=DEFAULT_TIMEOUT_S)
        return answer

    answer = _call(credentials, address, call)
    print_change(answer, as_json=as_json, checked=check_only)
    if as_json or check_only:
        return
    if answer.state == pb.TRANSFER_STATE_DONE:
        click.echo("this city has custody from now on")
    elif answer.state == pb.TRANSFER_STATE_REFUSED:
        click.echo(f"NOT TAKEN OVER: {answer.detail}")
    else:
        click.echo("arriving: the registry has not decided yet; see `transfer list`")


@transfer.command("list")
@CREDENTIALS
@ADDRESS
@AS_JSON
def list_transfers(credentials: Path, address: str | None, as_json: bool) -> None:
    """List what is offered to this city, and what moves, moved or was noticed within thirty days."""
    away = ""
    offers: list[pb.ListIncomingOffersResponse] = []
    try:
        offers = _call(credentials, address, _incoming)
    except Unavailable as error:
        away = error.message
    for offered in (each for page in offers for each in page.offers):
        click.echo(_json_line("offer", offered) if as_json else _offer_line(offered))
    for moving in _call(credentials, address, _transfers):
        click.echo(_json_line("transfer", moving) if as_json else _transfer_line(moving))
    if away:
        click.echo(f"what is offered to this city is not known now: {away}", err=True)


@transfer.command()
@_LICENSE
@click.argument("position", metavar="CITY/EPOCH/INDEX")
@CREDENTIALS
@ADDRESS
@AS_JSON
def late(name: str, position: str, credentials: Path, address: str | None, as_json: bool) -> None:
    """Show what another city wrote of a LICENSE after the hand-over, without effect."""
    where = _position(position)

    def call(stub: transfer_pb2_grpc.TransferServiceStub, parent: str) -> pb.GetLateRevisionResponse:
        request = pb.GetLateRevisionRequest(license=full_name(parent, name), position=where)
        answer: pb.GetLateRevisionResponse = stub.GetLateRevision(request, timeout=DEFAULT_TIMEOUT_S)
        return answer

    found = _call(credentials, address, call)
    if as_json:
        click.echo(as_json_text(found))
        return
    event = license_pb2.LicenseEvent.Name(found.event).removeprefix("LICENSE_EVENT_").lower()
    click.echo(f"{event}, written {_time(found.record_time)} by {city_name(where.city)}, without effect: {found.basis}")
    click.echo("\n".join(lines(found.license)))


@transfer.command()
@_LICENSE
@click.argument("position", metavar="CITY/EPOCH/INDEX")
@CREDENTIALS
@ADDRESS
@AS_JSON
def acknowledge(name: str, position: str, credentials: Path, address: str | None, as_json: bool) -> None:
    """Note that you have dealt with what another city wrote of a LICENSE too late."""
    where = _position(position)

    def call(stub: transfer_pb2_grpc.TransferServiceStub, parent: str) -> pb.AcknowledgeLateRevisionResponse:
        request = pb.AcknowledgeLateRevisionRequest(license=full_name(parent, name), position=where)
        answer: pb.AcknowledgeLateRevisionResponse = stub.AcknowledgeLateRevision(request, timeout=DEFAULT_TIMEOUT_S)
        return answer

    answer = _call(credentials, address, call)
    click.echo(_json_line("transfer", answer.notice) if as_json else _transfer_line(answer.notice))


def _position(text: str) -> log_pb2.LogPosition:
    parts = text.split("/")
    if len(parts) != 3 or not all(part.isascii() and part.isdigit() and len(part) < 19 for part in parts):
        raise click.BadParameter("give city, epoch and index, as `transfer list` shows them", param_hint="POSITION")
    if int(parts[0]) > 999_999:
        raise click.BadParameter("a city has six digits; see `transfer list`", param_hint="POSITION")
    return log_pb2.LogPosition(city=int(parts[0]), epoch=int(parts[1]), index=int(parts[2]))


def _incoming(stub: transfer_pb2_grpc.TransferServiceStub, parent: str) -> list[pb.ListIncomingOffersResponse]:
    pages: list[pb.ListIncomingOffersResponse] = []
    request = pb.ListIncomingOffersRequest(parent=parent, page_size=_PAGE)
    while True:
        page = stub.ListIncomingOffers(request, timeout=DEFAULT_TIMEOUT_S)
        pages.append(page)
        request.page_token = page.next_page_token
        if not request.page_token:
            return pages


def _transfers(stub: transfer_pb2_grpc.TransferServiceStub, parent: str) -> list[pb.Transfer]:
    found: list[pb.Transfer] = []
    request = pb.ListTransfersRequest(parent=parent, page_size=_PAGE)
    while True:
        page = stub.ListTransfers(request, timeout=DEFAULT_TIMEOUT_S)
        found.extend(page.transfers)
        request.page_token = page.next_page_token
        if not request.page_token:
            return found


def _json_line(kind: str, message: Message) -> str:
    return json.dumps({kind: MessageToDict(message)}, ensure_ascii=False)


def _offer_line(offer: custody_pb2.TransferOffer) -> str:
    license_ = offer.license
    since = f"offered by {city_name(offer.from_city)} since {_time(offer.offer_time)}"
    return f"{license_.name}  {since}  {classes(license_)}  {letters(license_)}  {offer.legal_basis}"


def _transfer_line(moving: pb.Transfer) -> str:
    words = _WORDS.get((moving.direction, moving.state), f"state {moving.state}:")
    line = f"{moving.license}  {words} {city_name(moving.other_city)}  {_time(moving.update_time)}  {moving.detail}"
    if moving.direction != pb.TRANSFER_DIRECTION_LATE or moving.state != pb.TRANSFER_STATE_OPEN:
        return line.rstrip()
    where = f"{moving.license} {moving.position.city}/{moving.position.epoch}/{moving.position.index}"
    return f"{line}\n     see `transfer late {where}`, then `transfer acknowledge` it"


def _time(instant: Timestamp) -> str:
    return instant.ToJsonString()[:19] + "Z"


def _call(folder: Path, address: str | None, call: Callable[[transfer_pb2_grpc.TransferServiceStub, str], T]) -> T:
    credentials = load_credentials(folder)
    parent = f"cities/{city_of(credentials)}"
    with closing(secure_channel_sync(credentials, address=address)) as channel:
        try:
            return call(transfer_pb2_grpc.TransferServiceStub(channel), parent)
        except grpc.RpcError as error:
            raise from_rpc_error(error) from error
