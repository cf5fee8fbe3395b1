"""What a clerk does with a licence that exists: update, renew, classes, points, cancel, correct, and the daily job."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any, Final, ParamSpec, TypeVar

import click
from google.protobuf.json_format import ParseDict, ParseError

from city_node.cli.clerk_call import CHECK_ONLY, ETAG, REQUEST_ID, call_node, civil_date, full_name, print_change
from city_node.cli.options import AS_JSON, CREDENTIALS
from elicense.cli.options import ADDRESS
from elicense.errors import Malformed
from elicense.license.codec import date_to_message
from elicense.license.field_change import CORRECTABLE, UPDATABLE
from elicense.license.model import DocumentType
from elicense.rpc.channel import DEFAULT_TIMEOUT_S
from elicense.v1 import issuance_pb2, issuance_pb2_grpc, license_pb2

P = ParamSpec("P")
R = TypeVar("R")

_NAME: Final = click.argument("name", metavar="LICENSE")
_BASIS: Final = click.option("--basis", required=True, help="Law, decision or reason on which it rests.")
_TEXTS: Final = tuple(sorted(path for path in UPDATABLE if path.startswith("holder.")))
#: A page of the daily job may write thousands of records.
_PAGE_SECONDS: Final = 120.0


def _change_options(verb: Callable[P, R]) -> Callable[P, R]:
    """Add the options that every change has."""
    for option in (_NAME, ETAG, CREDENTIALS, ADDRESS, REQUEST_ID, CHECK_ONLY, AS_JSON):
        verb = option(verb)
    return verb


def _send(method: str, request: Any, **options: Any) -> None:
    """Fill in what every change has, send it and print the answer."""
    request.etag, request.request_id = options["etag"], options["request_id"]
    request.validate_only = options["check_only"]

    def call(stub: issuance_pb2_grpc.IssuanceServiceStub, parent: str) -> Any:
        request.name = full_name(parent, options["name"])
        return getattr(stub, method)(request, timeout=DEFAULT_TIMEOUT_S)

    answer = call_node(options["credentials"], options["address"], call)
    print_change(answer, as_json=options["as_json"], checked=options["check_only"])


@click.command()
@_change_options
@click.option(
    "--set",
    "values",
    multiple=True,
    metavar="FIELD=VALUE",
    help=f"New value of a field; FIELD is one of {', '.join(path.removeprefix('holder.') for path in _TEXTS)}.",
)
@click.option("--photo-sha256", default="", help="SHA-256 of a new portrait, in hex.")
@click.option("--photo-date", default="", help="Day on which it was taken.")
def update(values: tuple[str, ...], photo_sha256: str, photo_date: str, **options: Any) -> None:
    """Change the name, address, nationality or portrait of a LICENSE."""
    request = issuance_pb2.UpdateLicenseRequest()
    for value in values:
        field, separator, text = value.partition("=")
        if not separator or f"holder.{field}" not in _TEXTS:
            raise click.BadParameter(f"{field} is no field that can be set", param_hint="--set")
        setattr(request.license.holder, field, text)
        request.update_mask.paths.append(f"holder.{field}")
    if photo_sha256:
        request.license.photo.CopyFrom(_photo(photo_sha256, photo_date))
        request.update_mask.paths.append("photo")
    _send("UpdateLicense", request, **options)


@click.command()
@_change_options
@click.option("--exam-passed", is_flag=True, help="The exam that restores a licence with R was passed.")
@click.option("--photo-sha256", default="", help="SHA-256 of a new portrait, in hex.")
@click.option("--photo-date", default="", help="Day on which it was taken.")
def renew(exam_passed: bool, photo_sha256: str, photo_date: str, **options: Any) -> None:
    """Renew a LICENSE: six years become ten, ten become long-term."""
    photo = _photo(photo_sha256, photo_date) if photo_sha256 else None
    _send("RenewLicense", issuance_pb2.RenewLicenseRequest(exam_passed=exam_passed, photo=photo), **options)


@click.command("change-classes")
@_change_options
@_BASIS
@click.option("--withdraw", multiple=True, metavar="CLASS", help="Class to withdraw.")
@click.option("--add", multiple=True, metavar="CLASS[:LIMIT,...]", help="Class to add, or to give other limits.")
def change_classes(basis: str, withdraw: tuple[str, ...], add: tuple[str, ...], **options: Any) -> None:
    """Withdraw, downgrade or add single classes of a LICENSE."""
    request = issuance_pb2.ChangeVehicleClassesRequest(withdraw_classes=withdraw, legal_basis=basis)
    for each in add:
        code, _, limits = each.partition(":")
        request.add_classes.add(code=code, limits=[limit for limit in limits.split(",") if limit])
    _send("ChangeVehicleClasses", request, **options)


@click.command("change-identity")
@_change_options
@_BASIS
@click.option("--type", "kind", required=True, type=click.Choice([each.name for each in DocumentType]))
@click.option("--number", required=True, help="Number of the new document.")
@click.option("--name", "new_name", default="", help="New name, if it changes as well.")
def change_identity(basis: str, kind: str, number: str, new_name: str, **options: Any) -> None:
    """Give the holder of a LICENSE another identity document; the old number leads to the licence too."""
    request = issuance_pb2.ChangeIdentityRequest(full_name=new_name, legal_basis=basis)
    request.document.type = DocumentType[kind]  # type: ignore[assignment]  # the same numbers
    request.document.number = number
    _send("ChangeIdentity", request, **options)


@click.command()
@_change_options
@_BASIS
@click.option("--add", "points", type=click.IntRange(1, 12), help="Points of one violation.")
@click.option("--exam-passed", is_flag=True, help="The exam after twelve points was passed: clear them.")
def points(basis: str, points: int | None, exam_passed: bool, **options: Any) -> None:
    """Record points of a LICENSE, or the exam that clears them."""
    if (points is None) is not exam_passed:
        raise click.UsageError("give either --add or --exam-passed")
    request = issuance_pb2.RecordPointsRequest(points=points or 0, exam_passed=exam_passed, legal_basis=basis)
    _send("RecordPoints", request, **options)


@click.command()
@_change_options
@_BASIS
def cancel(basis: str, **options: Any) -> None:
    """Cancel a LICENSE for good; the holder may then apply for a new one."""
    _send("CancelLicense", issuance_pb2.CancelLicenseRequest(legal_basis=basis), **options)


@click.command()
@_change_options
@click.option(
    "--from",
    "file",
    required=True,
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="A License in JSON with the right values; other fields may be left out.",
)
@click.option("--field", "fields", required=True, multiple=True, type=click.Choice(sorted(CORRECTABLE)))
@click.option("--revision", required=True, type=click.IntRange(1), help="Number of the wrong revision.")
@click.option("--reason", required=True, help="Why it was wrong, without personal data.")
def correct(file: Path, fields: tuple[str, ...], revision: int, reason: str, **options: Any) -> None:
    """Put a wrong record of a LICENSE right; the new revision names the wrong one."""
    request = issuance_pb2.CorrectLicenseRequest(corrects_revision=revision, reason=reason)
    try:
        ParseDict(json.loads(file.read_text(encoding="utf-8")), request.license)
    except (ParseError, json.JSONDecodeError):
        # The cause may quote the file, which describes a person.
        raise Malformed(f"{file.name} is not a License in JSON") from None
    request.update_mask.paths.extend(fields)
    _send("CorrectLicense", request, **options)


@click.command()
@click.option("--date", "day", default="", help="Last day that counts; today in China when not given.")
@CREDENTIALS
@ADDRESS
@AS_JSON
def daily(day: str, credentials: Path, address: str | None, as_json: bool) -> None:
    """Apply what the days bring to every licence: M, R and G after the end, point cycles.

    The node does so by itself as each day begins; to do it again changes nothing.
    """
    until = civil_date(day, "--date") if day else None

    def call(stub: issuance_pb2_grpc.IssuanceServiceStub, parent: str) -> tuple[int, int]:
        licenses, revisions, token = 0, 0, ""
        while True:
            page = stub.ApplyDailyRules(_page_request(parent, until, token), timeout=_PAGE_SECONDS)
            licenses += page.licenses
            revisions += page.revisions
            token = page.next_page_token
            if sys.stderr.isatty():
                click.echo(f"\r{licenses:,} licenses", nl=False, err=True)
            if not token:
                return licenses, revisions

    licenses, revisions = call_node(credentials, address, call)
    if sys.stderr.isatty():
        click.echo(err=True)
    if as_json:
        click.echo(json.dumps({"licenses": licenses, "revisions": revisions}))
    else:
        click.echo(f"{licenses:,} licenses looked at, {revisions:,} revisions written")


def _page_request(parent: str, day: date | None, token: str) -> issuance_pb2.ApplyDailyRulesRequest:
    request = issuance_pb2.ApplyDailyRulesRequest(parent=parent, page_token=token)
    if day is not None:
        request.date.CopyFrom(date_to_message(day))
    return request


def _photo(sha256: str, day: str) -> license_pb2.Photo:
    try:
        digest = bytes.fromhex(sha256)
    except ValueError:
        raise click.BadParameter("give 64 hex digits", param_hint="--photo-sha256") from None
    return license_pb2.Photo(sha256=digest, capture_date=date_to_message(civil_date(day, "--photo-date")))
