"""The node's own keys, read from where its configuration says, and everything that can be wrong with them."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

from city_node.config import INDEX_KEY_FILE, SUBJECT_KEY_FILE, CityConfig
from elicense.config import ConfigInvalid
from elicense.errors import Error, Malformed, NotFound, Violation
from elicense.license.divisions import is_city
from elicense.log.verifier_key import VerifierKey, parse_vkey
from elicense.sql.engines import parse_url
from elicense.trust.credentials import Credentials, load_authority, load_credentials
from elicense.trust.signer import Signer, load_signer
from elicense.trust.spiffe import city_id
from elicense.trust.x509 import Authority, chain_from_pem
from elicense.view.person import KEY_SIZE, PersonIndex

if TYPE_CHECKING:
    from cryptography import x509

_PRIVATE: Final = 0o600


@dataclass(frozen=True, slots=True)
class CityKeys:
    """Every key of a city node.

    Attributes:
        log: Signs the city's log.
        answers: Signs answers, where evidence is asked for.
        registry_log: Key of the registry's log.
        cosigner: Key of the registry's receipts.
        persons: Person and name tags of the city's view.
        subjects: Tags in access logs, the same on every node.
        index_key: The key of ``persons``, which also binds page tokens.
        credentials: The node's certificate.
        authority: Signs certificates of clerks and verifiers.
        root: The national root.
    """

    log: Signer
    answers: Signer
    registry_log: VerifierKey
    cosigner: VerifierKey
    persons: PersonIndex
    subjects: PersonIndex
    index_key: bytes = field(repr=False)
    credentials: Credentials
    authority: Authority
    root: x509.Certificate


def load_keys(config: CityConfig, *, random: Callable[[int], bytes]) -> CityKeys:
    """Read every key.

    Raises:
        ConfigInvalid: Something is missing or can not be used; everything that is wrong is named.
    """
    if found := tuple(_problems(config)):
        listed = "; ".join(f"{violation.field}: {violation.message}" for violation in found)
        raise ConfigInvalid(f"the configuration can not be used: {listed}", violations=found)
    index_key = read_secret(config.keys_dir / INDEX_KEY_FILE)
    credentials = load_credentials(config.credentials_dir)
    return CityKeys(
        log=load_signer(config.log_key_uri),
        answers=load_signer(config.answers_key_uri),
        registry_log=parse_vkey(config.city.registry_log_key),
        cosigner=parse_vkey(config.city.cosigner_key),
        persons=PersonIndex(index_key),
        subjects=PersonIndex(read_secret(config.keys_dir / SUBJECT_KEY_FILE)),
        index_key=index_key,
        credentials=credentials,
        authority=load_authority(config.authority_dir, random=random),
        root=chain_from_pem(credentials.root_pem)[0],
    )


def write_secret(path: Path, secret: bytes) -> None:
    """Write a secret to a new file that its owner alone may read, durably."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, _PRIVATE)
    with os.fdopen(descriptor, "wb") as file:
        file.write(secret)
        file.flush()
        os.fsync(file.fileno())


def read_secret(path: Path) -> bytes:
    """Read a 32-byte secret.

    Raises:
        NotFound: The file is missing.
        Malformed: Others may read it, or it has another length.
    """
    try:
        with path.open("rb") as file:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            secret = file.read(KEY_SIZE + 1)
    except FileNotFoundError as error:
        raise NotFound(f"{path.name} is missing; has this node joined?") from error
    except OSError as error:
        raise Malformed(f"{path.name} can not be read: {error.strerror}") from error
    if mode & ~_PRIVATE:
        raise Malformed(f"{path.name} is open to others (mode {mode:04o}); set mode 0600")
    if len(secret) != KEY_SIZE:
        raise Malformed(f"{path.name} must hold {KEY_SIZE} bytes")
    return secret


def _problems(config: CityConfig) -> Iterator[Violation]:
    checks: tuple[tuple[str, Callable[[], object]], ...] = (
        ("city.code", lambda: _check_city(config.city.code)),
        ("city.registry_log_key", lambda: parse_vkey(config.city.registry_log_key)),
        ("city.cosigner_key", lambda: parse_vkey(config.city.cosigner_key)),
        ("database.url", lambda: parse_url(config.database_url)),
        ("access_log.url", lambda: parse_url(config.access_log_url)),
        ("keys.log", lambda: load_signer(config.log_key_uri)),
        ("keys.answers", lambda: load_signer(config.answers_key_uri)),
        ("node.data_dir", lambda: _check_identity(config)),
        ("node.data_dir", lambda: load_authority(config.authority_dir, random=os.urandom)),
        ("node.data_dir", lambda: read_secret(config.keys_dir / INDEX_KEY_FILE)),
        ("node.data_dir", lambda: read_secret(config.keys_dir / SUBJECT_KEY_FILE)),
    )
    for name, check in checks:
        try:
            check()
        except Error as error:
            yield Violation(name, error.reason, error.message)


def _check_city(code: int) -> None:
    if not is_city(code):
        raise Malformed(f"{code} is not the division code of a city")


def _check_identity(config: CityConfig) -> None:
    subject = load_credentials(config.credentials_dir).subject
    expected = city_id(config.node.trust_domain, config.city.code)
    if subject != expected:
        raise Malformed(f"the certificate is that of {subject}, the configuration that of {expected}")
