"""SPIFFE IDs: the names that certificates carry, and the callers that they make.

Paths in use, below ``spiffe://<trust domain>``::

    /registry                        the registry
    /city/320500                     a city node
    /clerk/320500/<id>               a clerk, or an issuing system, of a city
    /operator/<id>  /auditor/<id>    people at the registry
    /verifier/<role>/<org>           a verifier enrolled nationally
    /city/320500/verifier/<role>/<org>   a verifier enrolled by a city
    /enrollee/<token id>             the bearer of a join token
    /authority/national|registry|city/320500   certificate authorities; never callers
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from elicense.errors import Malformed
from elicense.trust.roles import VERIFIERS, Role

MAX_SPIFFE_ID = 200
"""Longest ID that is accepted; SPIFFE allows 2,048 bytes, nothing here needs them."""

_TRUST_DOMAIN = re.compile(r"[a-z0-9._-]{1,100}\Z")
_SEGMENT = re.compile(r"[A-Za-z0-9._-]+\Z")
_CITY = re.compile(r"[1-9][0-9]{5}\Z")
_SCHEME = "spiffe://"
_PLAIN_ROLES = {"operator": Role.OPERATOR, "auditor": Role.AUDITOR, "enrollee": Role.ENROLLEE}
_VERIFIER_WORDS = {role.value: role for role in VERIFIERS}


@dataclass(frozen=True, slots=True)
class SpiffeId:
    """A SPIFFE ID (SPIFFE-ID standard, section 2), checked on construction.

    Attributes:
        trust_domain: Trust domain, lower case.
        path: Path segments, none empty.

    Raises:
        Malformed: Trust domain or path break the standard, or the whole is too long.
    """

    trust_domain: str
    path: tuple[str, ...]

    def __post_init__(self) -> None:
        if not _TRUST_DOMAIN.match(self.trust_domain):
            raise Malformed("the trust domain of a SPIFFE ID must be lower-case letters, digits, dots, dashes")
        if not self.path or not all(_SEGMENT.match(s) and s not in (".", "..") for s in self.path):
            raise Malformed("the path of a SPIFFE ID must be segments of letters, digits, dots, dashes, underscores")
        if len(str(self)) > MAX_SPIFFE_ID:
            raise Malformed(f"a SPIFFE ID may have {MAX_SPIFFE_ID} characters at most")

    def __str__(self) -> str:
        return f"{_SCHEME}{self.trust_domain}/{'/'.join(self.path)}"


def parse_spiffe_id(text: str) -> SpiffeId:
    """Return the ID in ``text``.

    Raises:
        Malformed: It is not one, is not in the one canonical form, or is too long.
    """
    if len(text) > MAX_SPIFFE_ID or not text.startswith(_SCHEME):
        raise Malformed(f"a SPIFFE ID starts with {_SCHEME} and has {MAX_SPIFFE_ID} characters at most")
    trust_domain, _, path = text.removeprefix(_SCHEME).partition("/")
    return SpiffeId(trust_domain, tuple(path.split("/")))


@dataclass(frozen=True, slots=True)
class Identity:
    """What an ID says about its bearer.

    Attributes:
        role: The role.
        city: Division code of the city that the bearer belongs to; None for national bearers.
    """

    role: Role
    city: int | None


def _city(text: str) -> int:
    if not _CITY.match(text):
        raise Malformed("a division code has six digits and does not start with 0")
    return int(text)


def identify(spiffe_id: SpiffeId) -> Identity:
    """Return role and city of the bearer of an ID.

    Raises:
        Malformed: The path is none that a caller may carry.
    """
    match spiffe_id.path:
        case ("registry",):
            return Identity(Role.REGISTRY, None)
        case ("city", code):
            return Identity(Role.CITY, _city(code))
        case ("clerk", code, _):
            return Identity(Role.CLERK, _city(code))
        case ("verifier", word, _) if word in _VERIFIER_WORDS:
            return Identity(_VERIFIER_WORDS[word], None)
        case ("city", code, "verifier", word, _) if word in _VERIFIER_WORDS:
            return Identity(_VERIFIER_WORDS[word], _city(code))
        case (word, _) if word in _PLAIN_ROLES:
            return Identity(_PLAIN_ROLES[word], None)
    raise Malformed("this SPIFFE ID is not that of a caller; see the list of paths in elicense.trust.spiffe")


@dataclass(frozen=True, slots=True)
class Caller:
    """Who makes a call, as the table of active certificates has it.

    Attributes:
        spiffe_id: Its ID.
        role: Its role.
        city: Division code of its city; None for national callers.
        fingerprint: SHA-256 of its certificate's DER, 32 bytes.
    """

    spiffe_id: SpiffeId
    role: Role
    city: int | None
    fingerprint: bytes


@dataclass(frozen=True, slots=True)
class ActiveCertificate:
    """One row of the table of certificates that are in force.

    Attributes:
        fingerprint: SHA-256 of the DER, 32 bytes.
        subject: SPIFFE ID, as text.
        role: Role of the bearer.
        city: Division code of its city; None for national bearers.
        not_after_us: End of validity, microseconds UTC.
    """

    fingerprint: bytes
    subject: str
    role: Role
    city: int | None
    not_after_us: int


def registry_id(trust_domain: str) -> SpiffeId:
    """Return the ID of the registry."""
    return SpiffeId(trust_domain, ("registry",))


def city_id(trust_domain: str, city: int) -> SpiffeId:
    """Return the ID of a city node."""
    return SpiffeId(trust_domain, ("city", str(city)))


def authority_id(node: SpiffeId) -> SpiffeId:
    """Return the ID of the authority that a node runs for the certificates that it signs."""
    return SpiffeId(node.trust_domain, ("authority", *node.path))


def national_authority_id(trust_domain: str) -> SpiffeId:
    """Return the ID of the national root."""
    return SpiffeId(trust_domain, ("authority", "national"))


def server_name(node: SpiffeId) -> str:
    """Return the DNS name that a node's certificate carries whatever its address is.

    Clients check a server by this name (stock clients can not check a URI
    name), so that a node may be reached under any address.

    Raises:
        Malformed: The ID is not that of a node.
    """
    match node.path:
        case ("registry",):
            return f"registry.{node.trust_domain}"
        case ("city", code):
            return f"city-{_city(code)}.{node.trust_domain}"
    raise Malformed("only the registry and city nodes have a server name")


def issuing_node(authority: SpiffeId) -> SpiffeId:
    """Return the ID of the node that runs an authority; the inverse of :func:`authority_id`.

    Raises:
        Malformed: The ID is not that of a node's authority.
    """
    match authority.path:
        case ("authority", "registry"):
            return registry_id(authority.trust_domain)
        case ("authority", "city", code):
            return city_id(authority.trust_domain, _city(code))
    raise Malformed("this SPIFFE ID is not that of a node's authority")
