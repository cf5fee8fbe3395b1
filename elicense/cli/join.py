"""``elicense join``: turn a one-time token into credentials for a clerk, a verifier or an operator."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Final

import click
import grpc
from cryptography.hazmat.primitives.asymmetric import ec

from elicense.errors import Malformed
from elicense.rpc.channel import DEFAULT_TIMEOUT_S, secure_channel_sync
from elicense.rpc.errors import from_rpc_error
from elicense.trust.credentials import KEY_FILE, Credentials, make_credentials, save_credentials
from elicense.trust.csr import build_request
from elicense.trust.roles import Role
from elicense.trust.spiffe import identify, server_name
from elicense.trust.token import parse_token
from elicense.trust.x509 import from_der, generate_key, key_from_pem, key_to_pem
from elicense.v1 import enrollment_pb2, enrollment_pb2_grpc

_KEY_TO_BE: Final = "joining-key.pem"
_REQUEST: Final = "joining-request.bin"
_NODE_ROLES: Final = frozenset({Role.CITY, Role.REGISTRY})


def join(token_text: str, folder: Path) -> Credentials:
    """Make a key, have it certified by the node that the token names, and save the credentials.

    The key is made here and never leaves ``folder``.  If the answer was lost, the
    same call sends the same request again, for which the token is still good.

    Args:
        token_text: The token, one line.
        folder: Folder to make; may exist if it holds no key.

    Raises:
        Malformed: The token is damaged or for a city node, the folder holds a key, or the certificate is not for it.
        TokenSpent: The token was used before.
        TokenExpired: The token is too old.
        PeerUnreachable: The node does not answer.
    """
    token = parse_token(token_text)
    if identify(token.subject).role in _NODE_ROLES:
        raise Malformed("this token is for a city node: use `elicense-city join`")
    if (folder / KEY_FILE).exists():
        raise Malformed(f"{folder} holds credentials already; name another folder")
    key, tls_csr = _prepare(folder)
    request = enrollment_pb2.EnrollRequest(tls_csr=tls_csr)
    with secure_channel_sync(token.credentials()) as channel:
        try:
            service = enrollment_pb2_grpc.EnrollmentServiceStub(channel)
            answer: enrollment_pb2.EnrollResponse = service.Enroll(request, timeout=DEFAULT_TIMEOUT_S)
        except grpc.RpcError as error:
            raise from_rpc_error(error) from error
    credentials = make_credentials(
        key=key,
        chain=[from_der(der) for der in answer.tls_chain],
        root=token.root,
        address=token.address,
        server_name=server_name(token.node),
    )
    if credentials.subject != token.subject:
        raise Malformed("the node certified somebody else than the token names; ask its operator for a new token")
    save_credentials(folder, credentials)
    for name in (_KEY_TO_BE, _REQUEST):
        (folder / name).unlink()
    return credentials


def _prepare(folder: Path) -> tuple[ec.EllipticCurvePrivateKey, bytes]:
    """Return key and certificate request; those of an attempt that got no answer, if there was one."""
    key_file, request_file = folder / _KEY_TO_BE, folder / _REQUEST
    if request_file.exists():
        return key_from_pem(key_file.read_bytes()), request_file.read_bytes()
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    key = generate_key()
    request = build_request(key)
    key_file.unlink(missing_ok=True)
    _write(key_file, key_to_pem(key))
    _write(request_file, request)
    return key, request


def _write(path: Path, content: bytes) -> None:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as sink:
        sink.write(content)


@click.command("join")
@click.argument("token")
@click.option(
    "--into", "folder", required=True, type=click.Path(path_type=Path, file_okay=False), help="Folder to make."
)
def join_command(token: str, folder: Path) -> None:
    """Join with the one-time TOKEN that an operator or a city gave you.

    Makes a key in the folder and gets a certificate for it.  A TOKEN of - is
    read from standard input.
    """
    if token == "-":  # noqa: S105  # the word for standard input
        token = sys.stdin.readline()
    credentials = join(token, folder)
    click.echo(f"joined as {credentials.subject}; credentials are in {folder}")
