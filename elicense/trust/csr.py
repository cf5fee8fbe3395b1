"""Certificate requests (PKCS #10, RFC 2986): how a key that never travels gets a certificate."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from elicense.errors import CsrInvalid
from elicense.trust.x509 import UNREADABLE

if TYPE_CHECKING:
    from collections.abc import Sequence
    from ipaddress import IPv4Address, IPv6Address

MAX_NAMES: Final = 32
"""DNS names and addresses that one request may ask for."""


@dataclass(frozen=True, slots=True)
class CertificateRequest:
    """A request whose signature proves its key.

    Attributes:
        public_key: Key to certify, P-256.
        dns_names: Names asked for; whoever signs decides.
        addresses: Addresses asked for.
    """

    public_key: ec.EllipticCurvePublicKey
    dns_names: tuple[str, ...]
    addresses: tuple[IPv4Address | IPv6Address, ...]


def build_request(
    key: ec.EllipticCurvePrivateKey,
    *,
    dns_names: Sequence[str] = (),
    addresses: Sequence[IPv4Address | IPv6Address] = (),
) -> bytes:
    """Return the DER of a request for ``key``; its subject stays empty, since the token names it."""
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    names = [*(x509.DNSName(name) for name in dns_names), *(x509.IPAddress(address) for address in addresses)]
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.DER)


def parse_request(der: bytes) -> CertificateRequest:
    """Return what a request asks for.

    Raises:
        CsrInvalid: It can not be read, its key is not P-256, its signature is wrong, or it asks for too many names.
    """
    try:
        request = x509.load_der_x509_csr(der)
        public_key = request.public_key()
        signed = request.is_signature_valid
        names = _names(request)
    except (*UNREADABLE, InvalidSignature) as error:
        raise CsrInvalid("the certificate request can not be read") from error
    if not isinstance(public_key, ec.EllipticCurvePublicKey) or not isinstance(public_key.curve, ec.SECP256R1):
        raise CsrInvalid("the certificate request must be for a P-256 key")
    if not signed:
        raise CsrInvalid("the certificate request is not signed by its own key")
    if names is None:
        return CertificateRequest(public_key, (), ())
    dns_names = tuple(names.get_values_for_type(x509.DNSName))
    # Networks are for name constraints (RFC 5280 4.2.1.10) and have no place in a request.
    addresses = tuple(a for a in names.get_values_for_type(x509.IPAddress) if not hasattr(a, "network_address"))
    if len(dns_names) + len(addresses) > MAX_NAMES:
        raise CsrInvalid(f"a certificate request may ask for {MAX_NAMES} names and addresses at most")
    return CertificateRequest(public_key, dns_names, addresses)


def _names(request: x509.CertificateSigningRequest) -> x509.SubjectAlternativeName | None:
    try:
        return request.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return None
