"""The registry's own keys, read from where its configuration says."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

from elicense.errors import Malformed, NotFound
from elicense.trust.credentials import load_authority, load_credentials
from elicense.trust.signer import Signer, load_signer
from elicense.trust.x509 import Authority, chain_from_pem
from elicense.view.person import KEY_SIZE, PersonIndex
from registry.config import RegistryConfig

if TYPE_CHECKING:
    from cryptography import x509

_PRIVATE: Final = 0o600


@dataclass(frozen=True, slots=True)
class RegistryKeys:
    """Every key of the registry.

    Attributes:
        log: Signs the registry's own log.
        cosigner: Signs receipts.
        answers: Signs answers, where evidence is asked for.
        persons: Person and name tags of the national view.
        subjects: Tags in access logs, the same on every node.
        subject_key: The key of the latter, which cities get when they join.
        authority: Signs certificates.
        root: The national root.
    """

    log: Signer
    cosigner: Signer
    answers: Signer
    persons: PersonIndex
    subjects: PersonIndex
    subject_key: bytes = field(repr=False)
    authority: Authority
    root: x509.Certificate


def load_keys(config: RegistryConfig, *, random: Callable[[int], bytes]) -> RegistryKeys:
    """Read every key.

    Raises:
        NotFound: A file is missing.
        Malformed: A file is open to others or does not hold what it should.
    """
    subject_key = read_secret(config.subject_key)
    root = load_credentials(config.credentials_dir).root_pem
    return RegistryKeys(
        log=load_signer(config.log_key),
        cosigner=load_signer(config.cosigner_key),
        answers=load_signer(config.answers_key),
        persons=PersonIndex(read_secret(config.index_key)),
        subjects=PersonIndex(subject_key),
        subject_key=subject_key,
        authority=load_authority(config.authority_dir, random=random),
        root=chain_from_pem(root)[0],
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
        raise NotFound(f"{path.name} is missing; has this registry been set up?") from error
    except OSError as error:
        raise Malformed(f"{path.name} can not be read: {error.strerror}") from error
    if mode & ~_PRIVATE:
        raise Malformed(f"{path.name} is open to others (mode {mode:04o}); set mode 0600")
    if len(secret) != KEY_SIZE:
        raise Malformed(f"{path.name} must hold {KEY_SIZE} bytes")
    return secret
