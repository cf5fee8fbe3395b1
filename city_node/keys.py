"""The node's own keys, read from where its configuration says, and everything that can be wrong with them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from city_node.config import INDEX_KEY_FILE, SUBJECT_KEY_FILE, CityConfig
from elicense.config import ConfigInvalid
from elicense.errors import Error, Malformed, Violation
from elicense.license.divisions import is_city
from elicense.log.model import FIRST_EPOCH
from elicense.log.verifier_key import VerifierKey, parse_vkey
from elicense.sql.engines import parse_url
from elicense.trust.credentials import Credentials, load_authority, load_credentials
from elicense.trust.secret_file import read_secret
from elicense.trust.signer import Signer, load_signer
from elicense.trust.spiffe import city_id
from elicense.trust.x509 import Authority, chain_from_pem
from elicense.view.person import KEY_SIZE, PersonIndex

if TYPE_CHECKING:
    from cryptography import x509


class LogSigners:
    """The keys of the city's log, one an epoch, each read when it is first asked for.

    Args:
        config: Says where they are.
    """

    def __init__(self, config: CityConfig) -> None:
        self._config = config
        self._read: dict[int, Signer] = {}

    def of(self, epoch: int) -> Signer:
        """Return the key of an epoch.

        Raises:
            ConfigInvalid: The configuration names one key for all epochs.
            NotFound: There is no such key.
            Malformed: It can not be used.
        """
        if epoch not in self._read:
            self._read[epoch] = load_signer(self._config.log_key_uri(epoch))
        return self._read[epoch]


@dataclass(frozen=True, slots=True)
class CityKeys:
    """Every key of a city node.

    Attributes:
        log: Sign the city's log, one key an epoch.
        answers: Signs answers, where evidence is asked for.
        cosigner: Key of the registry's receipts.
        persons: Person and name tags of the city's view.
        subjects: Tags in access logs, the same on every node.
        index_key: The key of ``persons``, which also binds page tokens.
        credentials: The node's certificate.
        authority: Signs certificates of clerks and verifiers.
        root: The national root.
    """

    log: LogSigners
    answers: Signer
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
    index_key = read_secret(config.keys_dir / INDEX_KEY_FILE, KEY_SIZE)
    credentials = load_credentials(config.credentials_dir)
    return CityKeys(
        log=LogSigners(config),
        answers=load_signer(config.answers_key_uri),
        cosigner=parse_vkey(config.city.cosigner_key),
        persons=PersonIndex(index_key),
        subjects=PersonIndex(read_secret(config.keys_dir / SUBJECT_KEY_FILE, KEY_SIZE)),
        index_key=index_key,
        credentials=credentials,
        authority=load_authority(config.authority_dir, random=random),
        root=chain_from_pem(credentials.root_pem)[0],
    )


def _problems(config: CityConfig) -> Iterator[Violation]:
    checks: tuple[tuple[str, Callable[[], object]], ...] = (
        ("city.code", lambda: _check_city(config.city.code)),
        ("city.registry_log_key", lambda: parse_vkey(config.city.registry_log_key)),
        ("city.cosigner_key", lambda: parse_vkey(config.city.cosigner_key)),
        ("database.url", lambda: parse_url(config.database_url)),
        ("access_log.url", lambda: parse_url(config.access_log_url)),
        ("keys.log", lambda: load_signer(config.log_key_uri(FIRST_EPOCH))),
        ("keys.answers", lambda: load_signer(config.answers_key_uri)),
        ("node.data_dir", lambda: _check_identity(config)),
        ("node.data_dir", lambda: load_authority(config.authority_dir, random=os.urandom)),
        ("node.data_dir", lambda: read_secret(config.keys_dir / INDEX_KEY_FILE, KEY_SIZE)),
        ("node.data_dir", lambda: read_secret(config.keys_dir / SUBJECT_KEY_FILE, KEY_SIZE)),
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
