"""Certificates: the builders and checks that the whole trust chain rests on (RFC 5280).

The chain is national root -> registry authority -> leaf, or -> city authority
-> leaf.  All keys are P-256.  Identities are SPIFFE IDs in a URI SAN; servers
carry DNS names and addresses as well, since clients check those.  Time and
randomness are arguments.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from cryptography.x509.verification import PolicyBuilder, Store, VerificationError

from elicense.errors import Malformed
from elicense.trust.spiffe import SpiffeId, national_authority_id, parse_spiffe_id

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from ipaddress import IPv4Address, IPv6Address

SERIAL_BYTES: Final = 16
"""Random bytes in a serial number; RFC 5280 4.1.2.2 allows 20 and asks for uniqueness."""

BACKDATE_US: Final = 5 * 60 * 1_000_000
"""How far before its making a certificate starts, for clocks that are a little slow: five minutes."""

ROOT_PATH_LENGTH: Final = 2
REGISTRY_PATH_LENGTH: Final = 1
CITY_PATH_LENGTH: Final = 0


UNREADABLE: Final = (
    ValueError,
    TypeError,
    UnsupportedAlgorithm,
    x509.InvalidVersion,
    x509.DuplicateExtension,
    x509.UnsupportedGeneralNameType,
)
"""What the library raises upon what it can not read; most parts it reads when they are first asked for."""


def generate_key() -> ec.EllipticCurvePrivateKey:
    """Return a new P-256 key."""
    return ec.generate_private_key(ec.SECP256R1())


def key_to_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    """Return a key as unencrypted PKCS #8 PEM."""
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def key_from_pem(pem: bytes) -> ec.EllipticCurvePrivateKey:
    """Return the P-256 key in a PEM file.

    Raises:
        Malformed: It is not an unencrypted P-256 private key.
    """
    try:
        key = serialization.load_pem_private_key(pem, password=None)
    except (ValueError, TypeError) as error:
        raise Malformed("the key file is not an unencrypted PEM private key") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP256R1):
        raise Malformed("the key file must hold a P-256 key")
    return key


def to_der(certificate: x509.Certificate) -> bytes:
    """Return the DER of a certificate."""
    return certificate.public_bytes(serialization.Encoding.DER)


def to_pem(certificates: Sequence[x509.Certificate]) -> bytes:
    """Return certificates as concatenated PEM."""
    return b"".join(c.public_bytes(serialization.Encoding.PEM) for c in certificates)


def from_der(der: bytes) -> x509.Certificate:
    """Return the certificate in ``der``.

    Raises:
        Malformed: It is not one.
    """
    try:
        return x509.load_der_x509_certificate(der)
    except UNREADABLE as error:
        raise Malformed("this is not a DER certificate") from error


def chain_from_pem(pem: bytes) -> tuple[x509.Certificate, ...]:
    """Return the certificates of a PEM file, in its order; at least one.

    Raises:
        Malformed: There is none, or one can not be read.
    """
    try:
        return tuple(x509.load_pem_x509_certificates(pem))
    except UNREADABLE as error:
        raise Malformed("the file holds no readable PEM certificate") from error


def fingerprint(certificate: x509.Certificate) -> bytes:
    """Return the SHA-256 of a certificate's DER: how the table of active ones knows it."""
    return certificate.fingerprint(hashes.SHA256())


def not_after_us(certificate: x509.Certificate) -> int:
    """Return the end of a certificate's validity in microseconds UTC."""
    return int(certificate.not_valid_after_utc.timestamp()) * 1_000_000


def not_before_us(certificate: x509.Certificate) -> int:
    """Return the start of a certificate's validity in microseconds UTC."""
    return int(certificate.not_valid_before_utc.timestamp()) * 1_000_000


def spiffe_id_of(certificate: x509.Certificate) -> SpiffeId:
    """Return the one SPIFFE ID that a certificate carries (X509-SVID, section 2).

    Raises:
        Malformed: It has no URI SAN, more than one, or one that is not a SPIFFE ID.
    """
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        uris = names.get_values_for_type(x509.UniformResourceIdentifier)
    except (x509.ExtensionNotFound, *UNREADABLE) as error:
        raise Malformed("the certificate has no readable subject alternative name") from error
    if len(uris) != 1:
        raise Malformed("the certificate must carry exactly one URI name")
    return parse_spiffe_id(uris[0])


def public_key_matches(certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> bool:
    """Whether a certificate is for that key; one whose key can not be read is not."""
    encoding, form = serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    try:
        certified = certificate.public_key().public_bytes(encoding, form)
    except UNREADABLE:
        return False
    return certified == key.public_key().public_bytes(encoding, form)


def verify_chain(chain: Sequence[x509.Certificate], root: x509.Certificate, *, at_us: int) -> SpiffeId:
    """Return the SPIFFE ID of a chain's leaf, once the chain leads to ``root`` at that instant.

    Args:
        chain: Leaf first, then its issuers without the root.
        root: The only anchor of trust.
        at_us: Instant at which every certificate must hold, microseconds UTC.

    Raises:
        Malformed: The chain is empty, broken, not in force, or names nobody.
    """
    if not chain:
        raise Malformed("a certificate chain holds at least one certificate")
    verifier = (
        PolicyBuilder()
        .store(Store([root]))
        .time(_time(at_us))
        .max_chain_depth(ROOT_PATH_LENGTH)
        .build_client_verifier()
    )
    try:
        verifier.verify(chain[0], list(chain[1:]))
    except (VerificationError, *UNREADABLE) as error:
        raise Malformed("the certificate chain does not lead to the root, or is not in force") from error
    return spiffe_id_of(chain[0])


@dataclass(frozen=True, slots=True)
class Validity:
    """From when until when a certificate holds, microseconds UTC; certificates count whole seconds."""

    not_before_us: int
    not_after_us: int

    @classmethod
    def starting(cls, now_us: int, lifetime_us: int) -> Validity:
        """Return a validity that begins a little before now and lasts ``lifetime_us`` from now."""
        return cls(now_us - BACKDATE_US, now_us + lifetime_us)


@dataclass(frozen=True, slots=True)
class Authority:
    """A certificate authority that can sign.

    Attributes:
        certificate: Its certificate.
        key: Its private key.
        issuers: Certificates above it, nearest first, without the root.
        random: Gives that many random bytes, for serial numbers.
    """

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey = field(repr=False)
    issuers: tuple[x509.Certificate, ...]
    random: Callable[[int], bytes] = field(repr=False)

    @property
    def is_root(self) -> bool:
        """Whether this is the root, which chains leave out."""
        return self.certificate.issuer == self.certificate.subject

    @property
    def spiffe_id(self) -> SpiffeId:
        """Its own ID."""
        return spiffe_id_of(self.certificate)

    def chain_of(self, issued: x509.Certificate) -> tuple[x509.Certificate, ...]:
        """Return ``issued``, which this authority signed, with its issuers up to but without the root."""
        return (issued,) if self.is_root else (issued, self.certificate, *self.issuers)

    def issue_authority(
        self, *, subject: SpiffeId, public_key: ec.EllipticCurvePublicKey, validity: Validity, path_length: int
    ) -> x509.Certificate:
        """Return the certificate of an authority below this one.

        An authority that may have none below itself signs client certificates
        alone: its extended key usage keeps a city from signing a server
        certificate in the registry's name.
        """
        builder = _builder(subject, self.certificate.subject, public_key, validity, self.random)
        builder = _as_authority(builder, subject, path_length)
        if path_length == CITY_PATH_LENGTH:
            builder = builder.add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False)
        return self._sign(builder)

    def issue_leaf(
        self,
        *,
        subject: SpiffeId,
        public_key: ec.EllipticCurvePublicKey,
        validity: Validity,
        dns_names: Sequence[str] = (),
        addresses: Sequence[IPv4Address | IPv6Address] = (),
    ) -> x509.Certificate:
        """Return a TLS certificate; it may serve as well as call when it has DNS names or addresses."""
        names: list[x509.GeneralName] = [x509.UniformResourceIdentifier(str(subject))]
        names += [x509.DNSName(name) for name in dns_names]
        names += [x509.IPAddress(address) for address in addresses]
        usages = [ExtendedKeyUsageOID.CLIENT_AUTH]
        if dns_names or addresses:
            usages.append(ExtendedKeyUsageOID.SERVER_AUTH)
        builder = (
            _builder(subject, self.certificate.subject, public_key, validity, self.random)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_key_usage(digital_signature=True), critical=True)
            .add_extension(x509.ExtendedKeyUsage(usages), critical=False)
            .add_extension(x509.SubjectAlternativeName(names), critical=False)
        )
        return self._sign(builder)

    def _sign(self, builder: x509.CertificateBuilder) -> x509.Certificate:
        own_id = x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key())
        return builder.add_extension(own_id, critical=False).sign(self.key, hashes.SHA256())


def build_root(
    *, trust_domain: str, key: ec.EllipticCurvePrivateKey, validity: Validity, random: Callable[[int], bytes]
) -> Authority:
    """Return a new national root."""
    subject = national_authority_id(trust_domain)
    builder = _builder(subject, _name(subject), key.public_key(), validity, random)
    certificate = _as_authority(builder, subject, ROOT_PATH_LENGTH).sign(key, hashes.SHA256())
    return Authority(certificate=certificate, key=key, issuers=(), random=random)


def _name(subject: SpiffeId) -> x509.Name:
    # The common name is for people and for chain building; nobody is identified
    # by it.  It may have 64 characters (RFC 5280, ub-common-name), a path more.
    return x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, subject.trust_domain[:64]),
            x509.NameAttribute(NameOID.COMMON_NAME, "/".join(subject.path)[:64]),
        ]
    )


def _time(at_us: int) -> datetime:
    return datetime.fromtimestamp(at_us // 1_000_000, tz=UTC)


def _builder(
    subject: SpiffeId,
    issuer: x509.Name,
    public_key: ec.EllipticCurvePublicKey,
    validity: Validity,
    random: Callable[[int], bytes],
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(_name(subject))
        .issuer_name(issuer)
        .public_key(public_key)
        # The low bit keeps the serial number positive and not zero.
        .serial_number(int.from_bytes(random(SERIAL_BYTES), "big") >> 1 | 1)
        .not_valid_before(_time(validity.not_before_us))
        .not_valid_after(_time(validity.not_after_us))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
    )


def _as_authority(builder: x509.CertificateBuilder, subject: SpiffeId, path_length: int) -> x509.CertificateBuilder:
    return (
        builder.add_extension(x509.BasicConstraints(ca=True, path_length=path_length), critical=True)
        .add_extension(_key_usage(key_cert_sign=True, crl_sign=True), critical=True)
        .add_extension(
            x509.SubjectAlternativeName([x509.UniformResourceIdentifier(str(subject))]),
            critical=False,
        )
    )


def _key_usage(
    *, digital_signature: bool = False, key_cert_sign: bool = False, crl_sign: bool = False
) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=digital_signature,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=key_cert_sign,
        crl_sign=crl_sign,
        encipher_only=False,
        decipher_only=False,
    )
