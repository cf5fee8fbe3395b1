"""Setting up a registry: every key, the national root, the databases and the configuration file.

The configuration file is written last: a folder that has one is complete.  A
folder in which a set-up ended early is marked, and the next one starts it over.
A database that holds a log is in use by somebody and is never taken over.
"""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from shutil import rmtree
from typing import TYPE_CHECKING, Final

from elicense.clock import SECOND_US
from elicense.errors import AlreadyExists, Malformed
from elicense.log.anchor import create_anchor
from elicense.log.checkpoint import Checkpoint, sign_checkpoint
from elicense.log.model import FIRST_EPOCH, REGISTRY_LOG, LogKey
from elicense.log.tree import EMPTY_ROOT
from elicense.sql.database import Database
from elicense.sql.engines import parse_url
from elicense.sql.migrations import upgrade
from elicense.sql.schema import create_tables
from elicense.sql.schema_version import is_current, is_new
from elicense.trust.credentials import make_credentials, save_authority, save_credentials
from elicense.trust.secret_file import write_secret
from elicense.trust.signer import generate_key_file, load_signer
from elicense.trust.spiffe import authority_id, registry_id, server_name
from elicense.trust.x509 import REGISTRY_PATH_LENGTH, Authority, Validity, build_root, generate_key
from elicense.view.person import KEY_SIZE
from registry.config import CONFIG_FILE, RegistryConfig, check
from registry.names import registry_origin
from registry.store import RegistryStore, access_metadata

if TYPE_CHECKING:
    from ipaddress import IPv4Address, IPv6Address

    from sqlalchemy import Connection

_DAY_US: Final = 86_400 * SECOND_US
ROOT_LIFETIME_US: Final = 20 * 365 * _DAY_US
AUTHORITY_LIFETIME_US: Final = 10 * 365 * _DAY_US
CERTIFICATE_LIFETIME_US: Final = 365 * _DAY_US

ROOT_FOLDER: Final = "root"
"""Folder below ``keys`` with the national root's key: take it off this machine once it is set up."""


_UNFINISHED: Final = ".unfinished"
"""File that marks a folder whose set-up has not ended yet."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What to set up.

    Attributes:
        data_dir: Folder to make; absolute.
        trust_domain: Trust domain of the nation.
        listen: Where to listen, host:port.
        advertise: Where others reach it, host:port.
        database_url: Database; None makes an SQLite file in the folder.
        metrics: Where Prometheus reads, host:port; None for nowhere.
    """

    data_dir: Path
    trust_domain: str
    listen: str
    advertise: str | None = None
    database_url: str | None = None
    metrics: str | None = None


def initialize(plan: Plan, *, clock: Callable[[], int], random: Callable[[int], bytes]) -> Path:
    """Set up a registry and return its configuration file.

    Raises:
        AlreadyExists: The folder or the database holds something.
        Malformed: An address or the trust domain can not be used.
        StoreUnavailable: The database can not be reached.
    """
    config = _configuration(plan)
    for url in (config.database.url, config.access_log.url):
        parse_url(url)
    _make_folder(plan.data_dir)
    _refuse_other_schema(config.database.url)
    now_us = clock()
    _make_keys(config, random)
    authority, root = _make_authorities(config, now_us, random)
    _make_credentials(config, authority, root, now_us)
    upgrade(config.database.url, "registry")
    create_tables(config.access_log.url, access_metadata)
    _open_log(config.database.url)
    origin = registry_origin(config.node.trust_domain, FIRST_EPOCH)
    create_anchor(config.anchor_path, sign_checkpoint(Checkpoint(origin, 0, EMPTY_ROOT), load_signer(config.log_key)))
    path = plan.data_dir / CONFIG_FILE
    _write_config(path, config)
    (plan.data_dir / _UNFINISHED).unlink()
    return path


def _configuration(plan: Plan) -> RegistryConfig:
    if "?" in str(plan.data_dir):
        raise Malformed("the folder's path must not hold a question mark, which would end the URL of its database")
    node = {"trust_domain": plan.trust_domain, "listen": plan.listen, "data_dir": plan.data_dir}
    if plan.advertise is not None:
        node["advertise"] = plan.advertise
    values: dict[str, object] = {
        "node": node,
        "database": {"url": plan.database_url or f"sqlite:///{plan.data_dir / 'registry.db'}"},
        "access_log": {"url": f"sqlite:///{plan.data_dir / 'access.db'}"},
    }
    if plan.metrics is not None:
        values["metrics"] = {"listen": plan.metrics}
    return check(values)


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        held = list(folder.iterdir())
        unfinished = folder / _UNFINISHED
        if held and (unfinished not in held or folder / CONFIG_FILE in held):
            raise AlreadyExists(f"{folder} is not empty; name a new folder")
        unfinished.touch(mode=0o600)
        for leftover in held:
            if leftover.is_dir():
                rmtree(leftover)
            elif leftover != unfinished:
                leftover.unlink()
    except OSError as error:
        raise Malformed(f"{folder} can not be made: {error.strerror}") from error


def _refuse_other_schema(url: str) -> None:
    if not is_new(url) and not is_current(url, "registry"):
        raise AlreadyExists("the database holds the tables of something else; name a new one")


def _make_keys(config: RegistryConfig, random: Callable[[int], bytes]) -> None:
    config.keys_dir.mkdir(mode=0o700)
    generate_key_file(config.keys_dir / "log.pem")
    generate_key_file(config.keys_dir / "cosigner.pem")
    generate_key_file(config.keys_dir / "answers.pem")
    write_secret(config.index_key, random(KEY_SIZE))
    write_secret(config.subject_key, random(KEY_SIZE))


def _make_authorities(
    config: RegistryConfig, now_us: int, random: Callable[[int], bytes]
) -> tuple[Authority, Authority]:
    """Return the registry's authority and the national root."""
    trust_domain = config.node.trust_domain
    root = build_root(
        trust_domain=trust_domain,
        key=generate_key(),
        validity=Validity.starting(now_us, ROOT_LIFETIME_US),
        random=random,
    )
    key = generate_key()
    certificate = root.issue_authority(
        subject=authority_id(registry_id(trust_domain)),
        public_key=key.public_key(),
        validity=Validity.starting(now_us, AUTHORITY_LIFETIME_US),
        path_length=REGISTRY_PATH_LENGTH,
    )
    authority = Authority(certificate=certificate, key=key, issuers=(), random=random)
    save_authority(config.keys_dir / ROOT_FOLDER, root)
    save_authority(config.authority_dir, authority)
    return authority, root


def _make_credentials(config: RegistryConfig, authority: Authority, root: Authority, now_us: int) -> None:
    node = registry_id(config.node.trust_domain)
    names, addresses = _server_names(config)
    key = generate_key()
    certificate = authority.issue_leaf(
        subject=node,
        public_key=key.public_key(),
        validity=Validity.starting(now_us, CERTIFICATE_LIFETIME_US),
        dns_names=[server_name(node), *names],
        addresses=addresses,
    )
    chain = authority.chain_of(certificate)
    credentials = make_credentials(
        key=key, chain=chain, root=root.certificate, address=config.advertised, server_name=server_name(node)
    )
    save_credentials(config.credentials_dir, credentials)


def _server_names(config: RegistryConfig) -> tuple[list[str], list[IPv4Address | IPv6Address]]:
    """Return the hosts under which the registry is reached, for clients that check those."""
    names: list[str] = []
    addresses: list[IPv4Address | IPv6Address] = []
    for host in sorted({address.rpartition(":")[0].strip("[]") for address in (config.node.listen, config.advertised)}):
        try:
            address = ipaddress.ip_address(host)
        except ValueError:
            names.append(host)
        else:
            if not address.is_unspecified:
                addresses.append(address)
    return names, addresses


def _open_log(url: str) -> None:
    database = Database(url)
    try:
        database.write_now(_create_log)
    finally:
        database.close()


def _create_log(conn: Connection) -> None:
    logs = RegistryStore().logs
    if logs.keys(conn):
        raise AlreadyExists("the database holds the logs of a registry already; name a new one")
    logs.create(conn, LogKey(REGISTRY_LOG, FIRST_EPOCH))


def _write_config(path: Path, config: RegistryConfig) -> None:
    sections = [
        f"[node]\ntrust_domain = {_toml(config.node.trust_domain)}\nlisten = {_toml(config.node.listen)}\n"
        f"advertise = {_toml(config.advertised)}\ndata_dir = {_toml(str(config.node.data_dir))}\n",
        f"[database]\nurl = {_toml(config.database.url)}\n",
        f"[access_log]\nurl = {_toml(config.access_log.url)}\n",
    ]
    if config.metrics is not None:
        sections.append(f"[metrics]\nlisten = {_toml(config.metrics.listen)}\n")
    # 0600: the URL of a database may hold its password.
    write_secret(path, "\n".join(sections).encode())


def _toml(text: str) -> str:
    # A basic string of TOML is written like one of JSON.
    return json.dumps(text, ensure_ascii=False)
