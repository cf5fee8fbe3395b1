"""Joining: a one-time token in, a complete city node out.

Keys are made here and never leave the folder.  The configuration file is
written last: a folder that has one is complete.  When the answer was lost, the
same command may be given again: keys that were made are used again, so that the
request is the same and the token is good for it.
"""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

import grpc

from city_node.config import (
    ANSWERS_KEY_FILE,
    AUTHORITY_FOLDER,
    CONFIG_FILE,
    CREDENTIALS_FOLDER,
    INDEX_KEY_FILE,
    KEYS_FOLDER,
    LOG_KEY_FILE,
    SUBJECT_KEY_FILE,
    CityConfig,
    load_city_config,
)
from city_node.keys import write_secret
from city_node.store import CityStore, access_metadata
from elicense.errors import AlreadyExists, Malformed
from elicense.log.checkpoint import Checkpoint, log_verifier_key, sign_checkpoint
from elicense.log.model import LogKey
from elicense.log.tree import EMPTY_ROOT
from elicense.log.verifier_key import format_vkey, parse_vkey
from elicense.rpc.channel import DEFAULT_TIMEOUT_S, secure_channel_sync
from elicense.rpc.errors import from_rpc_error
from elicense.sql.database import Database
from elicense.sql.migrations import upgrade
from elicense.sql.schema import create_tables
from elicense.trust.credentials import make_credentials, save_authority, save_credentials
from elicense.trust.csr import build_request
from elicense.trust.enrollment import FIRST_EPOCH, city_log_origin
from elicense.trust.roles import Role
from elicense.trust.signer import FileSigner, generate_key_file
from elicense.trust.spiffe import identify, server_name
from elicense.trust.token import JoinToken, parse_token
from elicense.trust.x509 import Authority, chain_from_pem, from_der, generate_key, key_from_pem, key_to_pem
from elicense.v1 import enrollment_pb2, enrollment_pb2_grpc
from elicense.view.person import KEY_SIZE

if TYPE_CHECKING:
    from ipaddress import IPv4Address, IPv6Address

    from cryptography.hazmat.primitives.asymmetric import ec

_TLS_KEY: Final = "joining-tls.pem"
_AUTHORITY_KEY: Final = "joining-authority.pem"
_REQUEST: Final = "joining-request.bin"


@dataclass(frozen=True, slots=True)
class Plan:
    """What to set up.

    Attributes:
        token: The join token, one line.
        data_dir: Folder to make.
        listen: Address to listen on, host:port.
        advertise: Address under which others reach the node; ``listen`` when None.
        database_url: Database; None makes an SQLite file in the folder.
        metrics: Where Prometheus reads, host:port; None for nowhere.
        provisional_policy: Whether to issue while the registry is away.
    """

    token: str = field(repr=False)
    data_dir: Path
    listen: str
    advertise: str | None = None
    database_url: str | None = None
    metrics: str | None = None
    provisional_policy: Literal["issue", "refuse"] = "issue"


def join(plan: Plan, *, random: Callable[[int], bytes]) -> CityConfig:
    """Set up a city node and return its configuration, which is on disk by then.

    Raises:
        AlreadyExists: The folder holds a node already.
        Malformed: The token or an address can not be used.
        TokenSpent: The token was used before, by another request.
        TokenExpired: The token is too old.
        PeerUnreachable: The registry does not answer.
        StoreUnavailable: The database can not be reached.
    """
    token = parse_token(plan.token)
    identity = identify(token.subject)
    if identity.role is not Role.CITY or identity.city is None:
        raise Malformed("this token is not for a city node: use `elicense join`")
    path = plan.data_dir / CONFIG_FILE
    if path.exists():
        raise AlreadyExists(f"{plan.data_dir} holds a node already; name another folder")
    keys = plan.data_dir / KEYS_FOLDER
    keys.mkdir(mode=0o700, parents=True, exist_ok=True)
    signer = _signer(keys / LOG_KEY_FILE)
    _signer(keys / ANSWERS_KEY_FILE)
    tls_key, authority_key = _private_key(keys / _TLS_KEY), _private_key(keys / _AUTHORITY_KEY)
    request = _request(keys / _REQUEST, plan, token, identity.city, signer, tls_key, authority_key)
    answer = _enroll(token, request)
    if len(answer.subject_key) != KEY_SIZE or answer.subject != str(token.subject):
        raise Malformed("the registry's answer is not one for this city; ask its operator for a new token")
    parse_vkey(answer.registry_log_key)
    parse_vkey(answer.registry_cosigner_key)
    _keep_answer(plan, token, answer, tls_key, authority_key, random)
    config = _configuration(plan, token, identity.city, answer)
    _make_stores(plan, identity.city, config)
    # 0600: the URL of a database may hold its password.
    write_secret(path, config.encode())
    for leftover in (_TLS_KEY, _AUTHORITY_KEY, _REQUEST):
        (keys / leftover).unlink(missing_ok=True)
    return load_city_config(path)


def _signer(path: Path) -> FileSigner:
    return FileSigner.load(path) if path.exists() else generate_key_file(path)


def _private_key(path: Path) -> ec.EllipticCurvePrivateKey:
    if not path.exists():
        write_secret(path, key_to_pem(generate_key()))
    return key_from_pem(path.read_bytes())


def _request(
    path: Path,
    plan: Plan,
    token: JoinToken,
    city: int,
    signer: FileSigner,
    tls_key: ec.EllipticCurvePrivateKey,
    authority_key: ec.EllipticCurvePrivateKey,
) -> enrollment_pb2.EnrollRequest:
    """Return the request, the same bytes at every try: ECDSA signatures differ each time they are made."""
    if path.exists():
        return enrollment_pb2.EnrollRequest.FromString(path.read_bytes())
    names, addresses = _hosts(plan, server_name(token.subject))
    origin = city_log_origin(token.subject.trust_domain, city, FIRST_EPOCH)
    request = enrollment_pb2.EnrollRequest(
        tls_csr=build_request(tls_key, dns_names=names, addresses=addresses),
        authority_csr=build_request(authority_key),
        log_verifier_key=format_vkey(log_verifier_key(origin, signer.public_key())),
        log_possession_note=sign_checkpoint(Checkpoint(origin, 0, EMPTY_ROOT), signer),
    )
    write_secret(path, request.SerializeToString())
    return request


def _hosts(plan: Plan, own_name: str) -> tuple[list[str], list[IPv4Address | IPv6Address]]:
    """Return the hosts under which the node is reached, for clients that check those."""
    names = [own_name]
    addresses: list[IPv4Address | IPv6Address] = []
    for host in sorted({text.rpartition(":")[0].strip("[]") for text in (plan.listen, plan.advertise or plan.listen)}):
        try:
            address = ipaddress.ip_address(host)
        except ValueError:
            names.append(host.lower())
        else:
            if not address.is_unspecified:
                addresses.append(address)
    return names, addresses


def _enroll(token: JoinToken, request: enrollment_pb2.EnrollRequest) -> enrollment_pb2.EnrollResponse:
    with secure_channel_sync(token.credentials()) as channel:
        service = enrollment_pb2_grpc.EnrollmentServiceStub(channel)
        try:
            answer: enrollment_pb2.EnrollResponse = service.Enroll(request, timeout=DEFAULT_TIMEOUT_S)
        except grpc.RpcError as error:
            raise from_rpc_error(error) from error
    return answer


def _keep_answer(
    plan: Plan,
    token: JoinToken,
    answer: enrollment_pb2.EnrollResponse,
    tls_key: ec.EllipticCurvePrivateKey,
    authority_key: ec.EllipticCurvePrivateKey,
    random: Callable[[int], bytes],
) -> None:
    keys = plan.data_dir / KEYS_FOLDER
    credentials = make_credentials(
        key=tls_key,
        chain=[from_der(der) for der in answer.tls_chain],
        root=token.root,
        address=token.address,
        server_name=server_name(token.node),
    )
    if credentials.subject != token.subject:
        raise Malformed("the registry certified somebody else than the token names; ask its operator for a new token")
    save_credentials(plan.data_dir / CREDENTIALS_FOLDER, credentials)
    certificate, *issuers = (from_der(der) for der in answer.authority_chain)
    save_authority(
        keys / AUTHORITY_FOLDER,
        Authority(certificate=certificate, key=authority_key, issuers=tuple(issuers), random=random),
    )
    for name, secret in ((INDEX_KEY_FILE, random(KEY_SIZE)), (SUBJECT_KEY_FILE, answer.subject_key)):
        (keys / name).unlink(missing_ok=True)
        write_secret(keys / name, secret)
    chain_from_pem(credentials.root_pem)


def _make_stores(plan: Plan, city: int, config: str) -> None:
    """Bring both databases to the newest schema and open the log: its one and only creation."""
    trial = plan.data_dir / ".config.new"
    trial.unlink(missing_ok=True)
    write_secret(trial, config.encode())
    try:
        loaded = load_city_config(trial)
    finally:
        trial.unlink()
    upgrade(loaded.database_url, "city_node")
    create_tables(loaded.access_log_url, access_metadata)
    database = Database(loaded.database_url, readers=1, writers=1)
    try:
        database.write_now(lambda conn: CityStore().logs.create(conn, LogKey(city, FIRST_EPOCH)))
    finally:
        database.close()


def _configuration(plan: Plan, token: JoinToken, city: int, answer: enrollment_pb2.EnrollResponse) -> str:
    lines = [
        "[node]",
        f"trust_domain = {_toml(token.subject.trust_domain)}",
        f"listen = {_toml(plan.listen)}",
        f"advertise = {_toml(plan.advertise or plan.listen)}",
        "",
        "[city]",
        f"code = {city}",
        f"registry_address = {_toml(token.address)}",
        f"registry_log_key = {_toml(answer.registry_log_key)}",
        f"cosigner_key = {_toml(answer.registry_cosigner_key)}",
        f"provisional_policy = {_toml(plan.provisional_policy)}",
    ]
    if plan.database_url is not None:
        lines += ["", "[database]", f"url = {_toml(plan.database_url)}"]
    if plan.metrics is not None:
        lines += ["", "[metrics]", f"listen = {_toml(plan.metrics)}"]
    return "\n".join(lines) + "\n"


def _toml(text: str) -> str:
    # A basic string of TOML is written like one of JSON.
    return json.dumps(text, ensure_ascii=False)
