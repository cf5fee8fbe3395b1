"""Which names and addresses a city's server certificate may carry."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from elicense.errors import CsrInvalid
from elicense.trust.spiffe import server_name

if TYPE_CHECKING:
    from elicense.trust.csr import CertificateRequest
    from elicense.trust.spiffe import SpiffeId

_HOST = re.compile(r"(?=.{1,253}\Z)[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?(\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)*\Z")


def check_server_names(subject: SpiffeId, tls: CertificateRequest, authority: CertificateRequest) -> None:
    """Check that a city asks for nobody else's name, and for two different keys.

    Clients check servers by their logical name under the trust domain, so a city
    may carry its own there and no other.

    Raises:
        CsrInvalid: It asks for another's name, a wildcard, or uses one key for both certificates.
    """
    own = server_name(subject)
    for name in tls.dns_names:
        if not _HOST.match(name):
            raise CsrInvalid("a server name must be a plain lower-case host name, without wildcards")
        within = name == subject.trust_domain or name.endswith(f".{subject.trust_domain}")
        if within and name != own:
            raise CsrInvalid(f"the only name below {subject.trust_domain} that this city may carry is {own}")
    form = (Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    if tls.public_key.public_bytes(*form) == authority.public_key.public_bytes(*form):
        raise CsrInvalid("the server and the authority must have different keys")
