"""What a clerk does at the counter: issue, show, list, revisions, set-status."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import click
from google.protobuf.json_format import MessageToDict, ParseDict, ParseError

from city_node.cli.clerk_call import (
    CHECK_ONLY,
    ETAG,
    REQUEST_ID,
    as_json_text,
    call_node,
    civil_date,
    classes,
    durability,
    full_name,
    letters,
    lines,
    print_change,
    standing,
)
from city_node.cli.options import AS_JSON, CREDENTIALS
from elicense.cli.options import ADDRESS
from elicense.clock import china_date, utc_micros
from elicense.errors import Malformed
from elicense.license.bans import BANNING_LETTERS, GROUNDS
from elicense.license.codec import date_to_message, license_to_message
from elicense.license.csv_format import check_header, parse_row
from elicense.license.model import Ban
from elicense.license.standing import write_ban
from elicense.rpc.channel import DEFAULT_TIMEOUT_S
from elicense.v1 import issuance_pb2, issuance_pb2_grpc, license_pb2


@click.command()
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@CREDENTIALS
@ADDRESS
@REQUEST_ID
@CHECK_ONLY
@AS_JSON
def issue(file: Path, credentials: Path, address: str | None, request_id: str, check_only: bool, as_json: bool) -> None:
    """Issue the licence described in FILE: a License in JSON, or a CSV file with one row."""
    message = _read_license(file)

    def call(stub: issuance_pb2_grpc.IssuanceServiceStub, parent: str) -> issuance_pb2.CreateLicenseResponse:
        request = issuance_pb2.CreateLicenseRequest(
            parent=parent, license=message, request_id=request_id, validate_only=check_only
        )
        response: issuance_pb2.CreateLicenseResponse = stub.CreateLicense(request, timeout=DEFAULT_TIMEOUT_S)
        return response

    print_change(call_node(credentials, address, call), as_json=as_json, checked=check_only)


@click.command()
@click.argument("name", metavar="LICENSE")
@CREDENTIALS
@ADDRESS
@AS_JSON
def show(name: str, credentials: Path, address: str | None, as_json: bool) -> None:
    """Show a LICENSE (its resource name, or the UUID alone) as it stands."""

    def call(stub: issuance_pb2_grpc.IssuanceServiceStub, parent: str) -> license_pb2.License:
        request = issuance_pb2.GetLicenseRequest(name=full_name(parent, name))
        license_: license_pb2.License = stub.GetLicense(request, timeout=DEFAULT_TIMEOUT_S)
        return license_

    found = call_node(credentials, address, call)
    click.echo(as_json_text(found) if as_json else "\n".join(lines(found)))


@click.command("list")
@click.option("--limit", type=click.IntRange(1), default=50, show_default=True, help="At most this many.")
@CREDENTIALS
@ADDRESS
@AS_JSON
def list_licenses(limit: int, credentials: Path, address: str | None, as_json: bool) -> None:
    """List this city's licences; with --json one object a line."""

    def call(stub: issuance_pb2_grpc.IssuanceServiceStub, parent: str) -> list[license_pb2.License]:
        found: list[license_pb2.License] = []
        token = ""
        while len(found) < limit:
            request = issuance_pb2.ListLicensesRequest(
                parent=parent, page_size=min(1_000, limit - len(found)), page_token=token
            )
            page = stub.ListLicenses(request, timeout=DEFAULT_TIMEOUT_S)
            found.extend(page.licenses)
            token = page.next_page_token
            if not token:
                break
        return found

    for license_ in call_node(credentials, address, call):
        if as_json:
            click.echo(json.dumps(MessageToDict(license_), ensure_ascii=False))
        else:
            click.echo(f"{license_.name}  {classes(license_)}  {letters(license_)}  {standing(license_)}".rstrip())


@click.command()
@click.argument("name", metavar="LICENSE")
@CREDENTIALS
@ADDRESS
@AS_JSON
def revisions(name: str, credentials: Path, address: str | None, as_json: bool) -> None:
    """List every revision of a LICENSE, oldest first."""

    def call(stub: issuance_pb2_grpc.IssuanceServiceStub, parent: str) -> list[issuance_pb2.LicenseRevision]:
        found: list[issuance_pb2.LicenseRevision] = []
        request = issuance_pb2.ListRevisionsRequest(parent=full_name(parent, name), page_size=1_000)
        while True:
            page = stub.ListRevisions(request, timeout=DEFAULT_TIMEOUT_S)
            found.extend(page.revisions)
            request.page_token = page.next_page_token
            if not request.page_token:
                return found

    for revision in call_node(credentials, address, call):
        if as_json:
            click.echo(json.dumps(MessageToDict(revision), ensure_ascii=False))
            continue
        event = license_pb2.LicenseEvent.Name(revision.event).removeprefix("LICENSE_EVENT_").lower()
        click.echo(
            f"{revision.revision:3}  {revision.record_time.ToJsonString()}  {event}  {letters(revision.license)}  "
            f"index {revision.position.index}  {durability(revision.durability)}"
        )
        if revision.HasField("correction"):
            click.echo(f"     corrects revision {revision.correction.revision}: {revision.correction.reason}")


@click.command("set-status")
@click.argument("name", metavar="LICENSE")
@click.option("--add", multiple=True, metavar="LETTER", help="Letter to add; may be given several times.")
@click.option("--lift", multiple=True, metavar="LETTER", help="Letter to lift; may be given several times.")
@click.option("--basis", default="", help="Law and article on which added letters rest.")
@click.option("--authority", default="", help="Authority that sets them.")
@click.option("--until", metavar="YYYY-MM-DD", help="Last day of added letters; open-ended when left out.")
@click.option(
    "--ban-ground",
    default="",
    metavar="GROUND",
    help=f"Ground of the bar from applying anew that goes with E or F: {', '.join(ground.code for ground in GROUNDS)}.",
)
@click.option("--ban-until", metavar="YYYY-MM-DD", help="Last day of the bar, where a ruling states it.")
@click.option("--ban-for-life", is_flag=True, help="The bar never ends, as a ruling states.")
@ETAG
@CREDENTIALS
@ADDRESS
@REQUEST_ID
@CHECK_ONLY
@AS_JSON
def set_status(
    name: str,
    add: tuple[str, ...],
    lift: tuple[str, ...],
    basis: str,
    authority: str,
    until: str | None,
    ban_ground: str,
    ban_until: str | None,
    ban_for_life: bool,
    etag: str,
    credentials: Path,
    address: str | None,
    request_id: str,
    check_only: bool,
    as_json: bool,
) -> None:
    """Add and lift status letters of a LICENSE."""
    end = civil_date(until, "--until") if until else None
    bar = Ban(ban_ground, civil_date(ban_until, "--ban-until") if ban_until else None, ban_for_life)

    def call(stub: issuance_pb2_grpc.IssuanceServiceStub, parent: str) -> issuance_pb2.SetStatusResponse:
        request = issuance_pb2.SetStatusRequest(
            name=full_name(parent, name),
            lift_letters=lift,
            etag=etag,
            request_id=request_id,
            validate_only=check_only,
        )
        for letter in add:
            added = request.add_letters.add(
                letter=letter,
                legal_basis=basis,
                authority=authority,
                start_date=date_to_message(china_date(utc_micros())),
            )
            if end is not None:
                added.end_date.CopyFrom(date_to_message(end))
            if letter in BANNING_LETTERS and bar != Ban():
                write_ban(bar, added)
        response: issuance_pb2.SetStatusResponse = stub.SetStatus(request, timeout=DEFAULT_TIMEOUT_S)
        return response

    print_change(call_node(credentials, address, call), as_json=as_json, checked=check_only)


def _read_license(file: Path) -> license_pb2.License:
    try:
        text = file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise Malformed(f"{file.name} is not UTF-8; save the file as UTF-8") from None
    if file.suffix.lower() != ".csv":
        try:
            return ParseDict(json.loads(text), license_pb2.License())
        except (ParseError, json.JSONDecodeError) as error:
            # The cause may quote the file, which describes a person.
            del error
            raise Malformed(f"{file.name} is not a License in JSON") from None
    reader = csv.DictReader(text.splitlines())
    check_header(reader.fieldnames)
    rows = list(reader)
    if len(rows) != 1:
        raise Malformed(f"{file.name} has {len(rows)} rows; issue takes one, import takes many")
    return license_to_message(parse_row(rows[0]))
