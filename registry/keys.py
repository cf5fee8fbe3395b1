"""The registry's own keys, read from where its configuration says."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from elicense.trust.credentials import load_authority, load_credentials
from elicense.trust.secret_file import read_secret
from elicense.trust.signer import Signer, load_signer
from elicense.trust.x509 import Authority, chain_from_pem
from elicense.view.person import KEY_SIZE, PersonIndex
from registry.config import RegistryConfig

if TYPE_CHECKING:
    from cryptography import x509


@dataclass(frozen=True, slots=True)
class RegistryKeys:
    """Every key of the registry.

    Attributes:
        log: Signs the registry's own log.
        cosigner: Signs receipts.
        answers: Signs answers, where evidence is asked for.
        persons: Person and name tags of the national view.
        index_key: The key of those tags.
        subjects: Tags in access logs, the same on every node.
        subject_key: The key of the latter, which cities get when they join.
        authority: Signs certificates.
        root: The national root.
    """

    log: Signer
    cosigner: Signer
    answers: Signer
    persons: PersonIndex
    index_key: bytes = field(repr=False)
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
    index_key, subject_key = (read_secret(path, KEY_SIZE) for path in (config.index_key, config.subject_key))
    root = load_credentials(config.credentials_dir).root_pem
    return RegistryKeys(
        log=load_signer(config.log_key),
        cosigner=load_signer(config.cosigner_key),
        answers=load_signer(config.answers_key),
        persons=PersonIndex(index_key),
        index_key=index_key,
        subjects=PersonIndex(subject_key),
        subject_key=subject_key,
        authority=load_authority(config.authority_dir, random=random),
        root=chain_from_pem(root)[0],
    )
