"""A folder with all that a node or a client needs to prove who it is.

::

    key.pem        private key of the TLS certificate, mode 0600, made here, never sent
    chain.pem      the certificate, then its issuers without the root
    root.pem       the national root: the only anchor of trust
    identity.toml  whose folder this is, and which node it belongs to

Every file is replaced as a whole.  A rotation writes key and chain one after the
other; a reader that sees a pair that does not match keeps what it has.
"""

from __future__ import annotations

import os
import re
import stat
import tomllib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from elicense.errors import Malformed, NotFound
from elicense.trust.secret_file import replace_file
from elicense.trust.spiffe import SpiffeId, parse_spiffe_id
from elicense.trust.x509 import (
    Authority,
    chain_from_pem,
    key_from_pem,
    key_to_pem,
    public_key_matches,
    spiffe_id_of,
    to_pem,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric import ec

KEY_FILE: Final = "key.pem"
CHAIN_FILE: Final = "chain.pem"
ROOT_FILE: Final = "root.pem"
IDENTITY_FILE: Final = "identity.toml"
AUTHORITY_KEY_FILE: Final = "authority-key.pem"
AUTHORITY_CHAIN_FILE: Final = "authority-chain.pem"

MAX_FILE_BYTES: Final = 64 * 1024
"""Nothing in such a folder is near this size."""

_PRIVATE: Final = 0o600
_PUBLIC: Final = 0o644
_ADDRESS = re.compile(r"[A-Za-z0-9._:/\[\]-]{1,255}\Z")


@dataclass(frozen=True, slots=True)
class Credentials:
    """What proves who somebody is.

    Attributes:
        subject: The bearer's SPIFFE ID, as its certificate carries it.
        address: Address of the node that the bearer calls, host:port; empty for a node that calls none.
        server_name: DNS name that this node's certificate carries; empty like the address.
        key_pem: Private key.
        chain_pem: Certificate, then its issuers without the root.
        root_pem: The national root.
    """

    subject: SpiffeId
    address: str
    server_name: str
    key_pem: bytes = field(repr=False)
    chain_pem: bytes = field(repr=False)
    root_pem: bytes = field(repr=False)

    @property
    def certificate(self) -> x509.Certificate:
        """The bearer's own certificate."""
        return chain_from_pem(self.chain_pem)[0]


def make_credentials(
    *,
    key: ec.EllipticCurvePrivateKey,
    chain: Sequence[x509.Certificate],
    root: x509.Certificate,
    address: str = "",
    server_name: str = "",
) -> Credentials:
    """Return the credentials for a certified key.

    Raises:
        Malformed: The certificate is not for this key or names nobody.
    """
    if not chain or not public_key_matches(chain[0], key):
        raise Malformed("the certificate is not for this key")
    return Credentials(
        subject=spiffe_id_of(chain[0]),
        address=address,
        server_name=server_name,
        key_pem=key_to_pem(key),
        chain_pem=to_pem(chain),
        root_pem=to_pem([root]),
    )


def load_credentials(folder: Path) -> Credentials:
    """Return the credentials in ``folder``.

    Raises:
        NotFound: A file is missing.
        Malformed: A file can not be read, the key is open to others, or key and certificate do not match.
    """
    key_pem = _read(folder / KEY_FILE, private=True)
    chain_pem = _read(folder / CHAIN_FILE)
    root_pem = _read(folder / ROOT_FILE)
    identity = _read_identity(folder / IDENTITY_FILE)
    leaf = chain_from_pem(chain_pem)[0]
    chain_from_pem(root_pem)
    if not public_key_matches(leaf, key_from_pem(key_pem)):
        raise Malformed(f"{CHAIN_FILE} and {KEY_FILE} do not belong together")
    subject = parse_spiffe_id(identity["subject"])
    if spiffe_id_of(leaf) != subject:
        raise Malformed(f"{IDENTITY_FILE} names somebody else than the certificate")
    return Credentials(
        subject=subject,
        address=identity.get("address", ""),
        server_name=identity.get("server_name", ""),
        key_pem=key_pem,
        chain_pem=chain_pem,
        root_pem=root_pem,
    )


def save_credentials(folder: Path, credentials: Credentials) -> None:
    """Write credentials to ``folder``, each file at once and durably; makes the folder if need be.

    Raises:
        Malformed: The address or server name holds a character that no address has.
    """
    for text in (credentials.address, credentials.server_name):
        if text and not _ADDRESS.match(text):
            raise Malformed("an address is host:port without spaces or quotes")
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    identity = (
        f'subject = "{credentials.subject}"\n'
        f'address = "{credentials.address}"\n'
        f'server_name = "{credentials.server_name}"\n'
    )
    replace_file(folder / ROOT_FILE, credentials.root_pem, _PUBLIC)
    replace_file(folder / KEY_FILE, credentials.key_pem, _PRIVATE)
    replace_file(folder / CHAIN_FILE, credentials.chain_pem, _PUBLIC)
    replace_file(folder / IDENTITY_FILE, identity.encode(), _PUBLIC)


def load_authority(folder: Path, *, random: Callable[[int], bytes]) -> Authority:
    """Return the certificate authority in ``folder``.

    Args:
        folder: Folder with the authority's key and chain.
        random: Gives that many random bytes, for serial numbers.

    Raises:
        NotFound: A file is missing.
        Malformed: A file can not be read, the key is open to others, or key and certificate do not match.
    """
    key = key_from_pem(_read(folder / AUTHORITY_KEY_FILE, private=True))
    certificate, *issuers = chain_from_pem(_read(folder / AUTHORITY_CHAIN_FILE))
    if not public_key_matches(certificate, key):
        raise Malformed(f"{AUTHORITY_CHAIN_FILE} and {AUTHORITY_KEY_FILE} do not belong together")
    return Authority(certificate=certificate, key=key, issuers=tuple(issuers), random=random)


def save_authority(folder: Path, authority: Authority) -> None:
    """Write a certificate authority to ``folder``, each file at once and durably."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    replace_file(folder / AUTHORITY_KEY_FILE, key_to_pem(authority.key), _PRIVATE)
    replace_file(folder / AUTHORITY_CHAIN_FILE, to_pem([authority.certificate, *authority.issuers]), _PUBLIC)


def _read_identity(path: Path) -> dict[str, str]:
    try:
        values = tomllib.loads(_read(path).decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise Malformed(f"{path.name} is not a TOML file") from error
    if "subject" not in values or not all(isinstance(value, str) for value in values.values()):
        raise Malformed(f"{path.name} must name a subject, and all its values must be text")
    return values


def _read(path: Path, *, private: bool = False) -> bytes:
    try:
        with path.open("rb") as file:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            if private and mode & 0o077:
                raise Malformed(f"{path.name} is open to others (mode {mode:04o}); set mode 0600")
            content = file.read(MAX_FILE_BYTES + 1)
    except FileNotFoundError as error:
        raise NotFound(f"{path.name} is missing; has this folder been set up?") from error
    except OSError as error:
        raise Malformed(f"{path.name} can not be read: {error.strerror}") from error
    if len(content) > MAX_FILE_BYTES:
        raise Malformed(f"{path.name} is too large to be what it should be")
    return content
