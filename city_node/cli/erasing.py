"""The verb that erases a licence."""

from __future__ import annotations

from pathlib import Path

import click

from city_node.cli.clerk_call import CHECK_ONLY, REQUEST_ID, as_json_text, call_node, durability, full_name
from city_node.cli.options import AS_JSON, CREDENTIALS
from elicense.v1 import issuance_pb2


@click.command()
@click.argument("license_name", metavar="LICENSE")
@CREDENTIALS
@click.option("--address", metavar="HOST:PORT", help="Where the node is; the one in the credentials when left out.")
@click.option("--basis", required=True, help="Law and reason, without personal data: it stays.")
@CHECK_ONLY
@REQUEST_ID
@AS_JSON
def erase(
    license_name: str,
    credentials: Path,
    address: str | None,
    basis: str,
    check_only: bool,
    request_id: str,
    as_json: bool,
) -> None:
    """Erase a cancelled LICENSE for good, once the law lets it go."""
    request = issuance_pb2.EraseLicenseRequest(legal_basis=basis, request_id=request_id, validate_only=check_only)

    def call(stub: object, parent: str) -> issuance_pb2.EraseLicenseResponse:
        request.name = full_name(parent, license_name)
        answer: issuance_pb2.EraseLicenseResponse = stub.EraseLicense(request)  # type: ignore[attr-defined]
        return answer

    answer = call_node(credentials, address, call)
    if as_json:
        click.echo(as_json_text(answer))
        return
    if check_only:
        click.echo("nothing stands against it; nothing was erased")
        return
    left = "its space in the database's files is freed soon"
    gone = "no trace is left in the database's files" if answer.traces_gone else left
    where = f"record {answer.proof.position.index} of the city's log"
    click.echo(f"erased; {where} says so, safe {durability(answer.durability)}")
    click.echo(f"{gone}; delete backups that are older than this as soon as the law allows")
