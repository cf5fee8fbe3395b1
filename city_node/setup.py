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
from google.protobuf.message import DecodeError

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
from city_node.store import CityStore, EpochKey, access_metadata
from elicense.config import check_values
from elicense.errors import AlreadyExists, Malformed
from elicense.log.anchor import create_anchor
from elicense.log.checkpoint import Checkpoint, log_verifier_key, sign_checkpoint
from elicense.log.model import FIRST_EPOCH, LogKey
from elicense.log.tree import EMPTY_ROOT
from elicense.log.verifier_key import format_vkey, parse_vkey
from elicense.rpc.channel import DEFAULT_TIMEOUT_S, secure_channel_sync
from elicense.rpc.errors import from_rpc_error
from elicense.sql.database import Database
from elicense.sql.engines import parse_url
from elicense.sql.migrations import upgrade
from elicense.sql.schema import create_tables
from elicense.sql.schema_version import is_new
from elicense.trust.credentials import make_credentials, save_authority, save_credentials
from elicense.trust.csr import build_request, parse_request
from elicense.trust.enrollment import city_log_origin
from elicense.trust.roles import Role
from elicense.trust.secret_file import write_secret
from elicense.trust.signer import FileSigner, generate_key_file
from elicense.trust.spiffe import identify, server_name
from elicense.trust.token import JoinToken, parse_token
from elicense.trust.x509 import Authority, chain_from_pem, from_der, generate_key, key_from_pem, key_to_pem
from elicense.v1 import enrollment_pb2, enrollment_pb2_grpc
from elicense.view.person import KEY_SIZE

if TYPE_CHECKING:
    from ipaddress import IPv4Address, IPv6Address

    from cryptography.hazmat.primitives.asymmetric import ec
    from sqlalchemy import Connection

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
        again: Whether the city is enrolled already and lost its keys.
    """

    token: str = field(repr=False)
    data_dir: Path
    listen: str
    advertise: str | None = None
    database_url: str | None = None
    metrics: str | None = None
    provisional_policy: Literal["issue", "refuse"] = "issue"
    again: bool = False


@dataclass(frozen=True, slots=True)
class Joined:
    """A node that was set up.

    Attributes:
        config: Its configuration.
        enrolled_before: Whether its log has to be restored before it is served.
    """

    config: CityConfig
    enrolled_before: bool


def join(plan: Plan, *, random: Callable[[int], bytes]) -> Joined:
    """Set up a city node; its configuration is on disk on return.

    Raises:
        AlreadyExists: The folder, or the database, holds a node already.
        Malformed: The token, an address or the folder can not be used.
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
    # Whatever can be wrong with the plan is found before anything is written, and before the token is spent.
    planned = _planned(plan, token, identity.city)
    parse_url(planned.database_url)
    keys = plan.data_dir / KEYS_FOLDER
    try:
        keys.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise Malformed(f"{plan.data_dir} can not be made: {error.strerror}") from error
    _make_stores(planned)
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
    if not answer.enrolled_before:
        _open_log(planned, EpochKey(identity.city, FIRST_EPOCH, request.log_verifier_key))
        # The first head there is; a node without any anchor would not know what it signed.
        create_anchor(planned.anchor_path, request.log_possession_note)
    # 0600: the URL of a database may hold its password.
    write_secret(path, _configuration(plan, token, identity.city, answer).encode())
    for leftover in (_TLS_KEY, _AUTHORITY_KEY, _REQUEST):
        (keys / leftover).unlink(missing_ok=True)
    return Joined(load_city_config(path), answer.enrolled_before)


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
    names, addresses = _hosts(plan, server_name(token.subject))
    earlier = _earlier_request(path)
    if earlier is not None:
        asked = parse_request(earlier.tls_csr)
        if (list(asked.dns_names), list(asked.addresses), earlier.again) == (names, addresses, plan.again):
            return earlier
        # The command was given again with another address: the old request would certify the wrong one.
        path.unlink()
    origin = city_log_origin(token.subject.trust_domain, city, FIRST_EPOCH)
    request = enrollment_pb2.EnrollRequest(
        tls_csr=build_request(tls_key, dns_names=names, addresses=addresses),
        authority_csr=build_request(authority_key),
        log_verifier_key=format_vkey(log_verifier_key(origin, signer.public_key())),
        log_possession_note=sign_checkpoint(Checkpoint(origin, 0, EMPTY_ROOT), signer),
        again=plan.again,
    )
    write_secret(path, request.SerializeToString())
    return request


def _earlier_request(path: Path) -> enrollment_pb2.EnrollRequest | None:
    try:
        return enrollment_pb2.EnrollRequest.FromString(path.read_bytes())
    except FileNotFoundError:
        return None
    except DecodeError as error:
        raise Malformed(f"{path.name} is damaged; delete the folder and join again with a new token") from error


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


def _planned(plan: Plan, token: JoinToken, city: int) -> CityConfig:
    """Return what the configuration will be, without the keys that the registry is still to give.

    Raises:
        ConfigInvalid: An address can not be used; all problems are named.
    """
    values: dict[str, object] = {
        "node": {
            "trust_domain": token.subject.trust_domain,
            "listen": plan.listen,
            "advertise": plan.advertise or plan.listen,
            "data_dir": plan.data_dir,
        },
        "city": {"code": city, "registry_address": token.address, "registry_log_key": "", "cosigner_key": ""},
    }
    if plan.database_url is not None:
        values["database"] = {"url": plan.database_url}
    if plan.metrics is not None:
        values["metrics"] = {"listen": plan.metrics}
    return check_values(values, CityConfig, subject="this can not be set up")


def _make_stores(config: CityConfig) -> None:
    """Bring both databases to the newest schema.

    Raises:
        AlreadyExists: The database belongs to another node.
    """
    if not is_new(config.database_url):
        _check_unused(config)
    upgrade(config.database_url, "city_node")
    create_tables(config.access_log_url, access_metadata)


def _check_unused(config: CityConfig) -> None:
    """Refuse a database in use; an earlier try of this very join may have left one without a log, or an empty one."""
    store, own = CityStore(), LogKey(config.city.code, FIRST_EPOCH)

    def in_use(conn: Connection) -> bool:
        head = store.logs.head(conn, own)
        return bool(set(store.logs.keys(conn)) - {own}) or (head is not None and head.size > 0)

    database = Database(config.database_url, readers=1, writers=1)
    try:
        used = database.read_now(in_use)
    finally:
        database.close()
    if used:
        raise AlreadyExists("the database holds the log of a node already; name an empty one")


def _open_log(config: CityConfig, key: EpochKey) -> None:
    """Open the log: its one and only creation."""
    database = Database(config.database_url, readers=1, writers=1)
    try:
        database.write_now(lambda conn: CityStore().open_epoch(conn, key))
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
