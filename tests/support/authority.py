"""A small certificate world for tests: a national root, the registry's authority, and one a city on demand."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING

from elicense.clock import SECOND_US, utc_micros
from elicense.trust.credentials import Credentials, make_credentials, save_credentials
from elicense.trust.spiffe import (
    ActiveCertificate,
    SpiffeId,
    authority_id,
    city_id,
    identify,
    parse_spiffe_id,
    registry_id,
    server_name,
)
from elicense.trust.x509 import (
    CITY_PATH_LENGTH,
    REGISTRY_PATH_LENGTH,
    Authority,
    Validity,
    build_root,
    fingerprint,
    generate_key,
    not_after_us,
)

if TYPE_CHECKING:
    from pathlib import Path

TRUST_DOMAIN = "elicense.test"
DAY_US = 86_400 * SECOND_US


def spiffe(path: str) -> SpiffeId:
    """``/clerk/320500/li`` in the tests' trust domain."""
    return parse_spiffe_id(f"spiffe://{TRUST_DOMAIN}{path}")


def new_authority(issuer: Authority, subject: SpiffeId, *, path_length: int, validity: Validity) -> Authority:
    key = generate_key()
    certificate = issuer.issue_authority(
        subject=subject, public_key=key.public_key(), validity=validity, path_length=path_length
    )
    return Authority(
        certificate=certificate, key=key, issuers=issuer.chain_of(certificate)[1:], random=secrets.token_bytes
    )


@dataclass(frozen=True, slots=True)
class Issued:
    """Credentials and the table row that makes them active."""

    credentials: Credentials
    row: ActiveCertificate

    def save(self, folder: Path) -> Path:
        save_credentials(folder, self.credentials)
        return folder


class TestAuthority:
    """Issues credentials that a node with this root accepts."""

    __test__ = False

    def __init__(self, *, now_us: int | None = None, lifetime_us: int = 30 * DAY_US) -> None:
        self.validity = Validity.starting(utc_micros() if now_us is None else now_us, lifetime_us)
        self.root = build_root(
            trust_domain=TRUST_DOMAIN, key=generate_key(), validity=self.validity, random=secrets.token_bytes
        )
        self.registry = new_authority(
            self.root,
            authority_id(registry_id(TRUST_DOMAIN)),
            path_length=REGISTRY_PATH_LENGTH,
            validity=self.validity,
        )
        self._cities: dict[int, Authority] = {}

    def city(self, code: int) -> Authority:
        """The certificate authority of a city."""
        if code not in self._cities:
            self._cities[code] = new_authority(
                self.registry,
                authority_id(city_id(TRUST_DOMAIN, code)),
                path_length=CITY_PATH_LENGTH,
                validity=self.validity,
            )
        return self._cities[code]

    def issue(
        self,
        path: str,
        *,
        address: str = "",
        node: SpiffeId | None = None,
        authority: Authority | None = None,
        validity: Validity | None = None,
        dns_names: tuple[str, ...] | None = None,
    ) -> Issued:
        """Credentials for ``path``; nodes get their server name, callers of ``node`` the name to check."""
        subject = spiffe(path)
        identity = identify(subject)
        if dns_names is None:
            dns_names = (server_name(subject), "localhost") if identity.role in ("registry", "city") else ()
        signer = authority or self.registry
        key = generate_key()
        certificate = signer.issue_leaf(
            subject=subject,
            public_key=key.public_key(),
            validity=validity or self.validity,
            dns_names=dns_names,
        )
        credentials = make_credentials(
            key=key,
            chain=signer.chain_of(certificate),
            root=self.root.certificate,
            address=address,
            server_name=server_name(node) if node is not None else "",
        )
        row = ActiveCertificate(
            fingerprint=fingerprint(certificate),
            subject=str(subject),
            role=identity.role,
            city=identity.city,
            not_after_us=not_after_us(certificate),
        )
        return Issued(credentials, row)
