from __future__ import annotations

import secrets
from ipaddress import ip_address

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID

from elicense.errors import Malformed
from elicense.trust.spiffe import city_id, registry_id
from elicense.trust.x509 import (
    BACKDATE_US,
    Validity,
    build_root,
    chain_from_pem,
    fingerprint,
    from_der,
    generate_key,
    key_from_pem,
    key_to_pem,
    not_after_us,
    not_before_us,
    public_key_matches,
    spiffe_id_of,
    to_der,
    to_pem,
    verify_chain,
)
from tests.support.authority import DAY_US, TRUST_DOMAIN, TestAuthority, new_authority, spiffe

NOW_US = 1_630_454_400_000_000


@pytest.fixture(scope="module")
def pki() -> TestAuthority:
    return TestAuthority(now_us=NOW_US)


def usages(certificate: x509.Certificate) -> set[x509.ObjectIdentifier]:
    return set(certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value)


def test_a_chain_leads_through_the_registry_to_the_root(pki: TestAuthority) -> None:
    chain = chain_from_pem(pki.issue("/city/320500").credentials.chain_pem)
    assert verify_chain(chain, pki.root.certificate, at_us=NOW_US) == city_id(TRUST_DOMAIN, 320500)
    assert len(chain) == 2


def test_a_clerks_chain_leads_through_the_city(pki: TestAuthority) -> None:
    clerk = pki.issue("/clerk/320500/li", authority=pki.city(320500))
    chain = chain_from_pem(clerk.credentials.chain_pem)
    assert str(verify_chain(chain, pki.root.certificate, at_us=NOW_US)) == clerk.row.subject
    assert len(chain) == 3


def test_a_chain_of_another_root_is_refused(pki: TestAuthority) -> None:
    chain = chain_from_pem(TestAuthority(now_us=NOW_US).issue("/registry").credentials.chain_pem)
    with pytest.raises(Malformed):
        verify_chain(chain, pki.root.certificate, at_us=NOW_US)


def test_a_chain_without_its_middle_is_refused(pki: TestAuthority) -> None:
    leaf, *_ = chain_from_pem(pki.issue("/registry").credentials.chain_pem)
    for broken in ((leaf,), ()):
        with pytest.raises(Malformed):
            verify_chain(broken, pki.root.certificate, at_us=NOW_US)


def test_a_city_can_not_make_authorities(pki: TestAuthority) -> None:
    below = new_authority(pki.city(320500), spiffe("/authority/city/510100"), path_length=0, validity=pki.validity)
    chain = chain_from_pem(pki.issue("/clerk/510100/x", authority=below).credentials.chain_pem)
    with pytest.raises(Malformed):
        verify_chain(chain, pki.root.certificate, at_us=NOW_US)


@pytest.mark.parametrize("at_us", [NOW_US - BACKDATE_US - 1_000_000, NOW_US + 31 * DAY_US])
def test_a_chain_holds_only_in_its_time(pki: TestAuthority, at_us: int) -> None:
    chain = chain_from_pem(pki.issue("/registry").credentials.chain_pem)
    with pytest.raises(Malformed):
        verify_chain(chain, pki.root.certificate, at_us=at_us)


def test_validity_is_what_was_asked_for(pki: TestAuthority) -> None:
    certificate = pki.issue("/registry").credentials.certificate
    assert not_before_us(certificate) == NOW_US - BACKDATE_US
    assert not_after_us(certificate) == NOW_US + 30 * DAY_US


def test_only_certificates_with_host_names_may_serve(pki: TestAuthority) -> None:
    node = pki.issue("/registry").credentials.certificate
    clerk = pki.issue("/clerk/320500/li").credentials.certificate
    assert usages(node) == {ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH}
    assert usages(clerk) == {ExtendedKeyUsageOID.CLIENT_AUTH}


def test_a_citys_authority_is_for_clients_alone(pki: TestAuthority) -> None:
    assert usages(pki.city(320500).certificate) == {ExtendedKeyUsageOID.CLIENT_AUTH}


def test_names_and_addresses_stand_in_the_certificate(pki: TestAuthority) -> None:
    certificate = pki.registry.issue_leaf(
        subject=registry_id(TRUST_DOMAIN),
        public_key=generate_key().public_key(),
        validity=pki.validity,
        dns_names=("registry.elicense.test",),
        addresses=(ip_address("192.0.2.7"), ip_address("2001:db8::7")),
    )
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["registry.elicense.test"]
    assert names.get_values_for_type(x509.IPAddress) == [ip_address("192.0.2.7"), ip_address("2001:db8::7")]
    assert spiffe_id_of(certificate) == registry_id(TRUST_DOMAIN)


def test_serial_numbers_come_from_the_given_randomness() -> None:
    def make(seed: int) -> x509.Certificate:
        validity = Validity.starting(NOW_US, DAY_US)
        key = generate_key()
        return build_root(
            trust_domain="a.test", key=key, validity=validity, random=lambda n: bytes([seed] * n)
        ).certificate

    assert make(7).serial_number == make(7).serial_number != make(9).serial_number
    assert make(0).serial_number > 0
    assert make(255).serial_number.bit_length() <= 159


def test_certificates_and_keys_survive_their_files(pki: TestAuthority) -> None:
    issued = pki.issue("/registry")
    certificate = issued.credentials.certificate
    key = key_from_pem(issued.credentials.key_pem)
    assert from_der(to_der(certificate)) == certificate
    assert chain_from_pem(to_pem([certificate, pki.root.certificate])) == (certificate, pki.root.certificate)
    assert key_from_pem(key_to_pem(key)).private_numbers() == key.private_numbers()
    assert public_key_matches(certificate, key)
    assert not public_key_matches(certificate, generate_key())
    assert fingerprint(certificate) == issued.row.fingerprint


def test_what_is_no_certificate_or_key_is_refused() -> None:
    for attempt in (
        lambda: from_der(b"no"),
        lambda: chain_from_pem(b"no"),
        lambda: key_from_pem(b"no"),
        lambda: key_from_pem(key_to_pem(ec.generate_private_key(ec.SECP384R1()))),
    ):
        with pytest.raises(Malformed):
            attempt()


def test_a_certificate_with_two_uris_names_nobody(pki: TestAuthority) -> None:
    key = generate_key()
    names = [x509.UniformResourceIdentifier(f"spiffe://{TRUST_DOMAIN}/{p}") for p in ("registry", "operator/x")]
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([]))
        .issuer_name(pki.root.certificate.subject)
        .public_key(key.public_key())
        .serial_number(int.from_bytes(secrets.token_bytes(8), "big") + 1)
        .not_valid_before(pki.root.certificate.not_valid_before_utc)
        .not_valid_after(pki.root.certificate.not_valid_after_utc)
    )
    from cryptography.hazmat.primitives import hashes

    for names_used in (names, [x509.DNSName("a.test")]):
        certificate = builder.add_extension(x509.SubjectAlternativeName(names_used), critical=False).sign(
            pki.root.key, hashes.SHA256()
        )
        with pytest.raises(Malformed):
            spiffe_id_of(certificate)
    with pytest.raises(Malformed):
        spiffe_id_of(builder.sign(pki.root.key, hashes.SHA256()))


def test_an_authority_does_not_print_its_key(pki: TestAuthority) -> None:
    assert "key" not in repr(pki.root)


@pytest.mark.parametrize(
    ("part", "damaged"),
    [
        pytest.param(b"\xa0\x03\x02\x01\x02", b"\xa0\x03\x02\x01\x07", id="a version that there is not"),
        pytest.param(b"\x86\x22spiffe", b"\xa3\x22spiffe", id="a kind of name that nobody reads"),
    ],
)
def test_a_certificate_that_can_be_read_in_part_alone_is_refused_as_malformed(
    pki: TestAuthority, part: bytes, damaged: bytes
) -> None:
    key, name = generate_key(), spiffe("/city/320500")
    whole = to_der(pki.registry.issue_leaf(subject=name, public_key=key.public_key(), validity=pki.validity))
    assert part in whole

    def read() -> None:
        leaf = from_der(whole.replace(part, damaged))
        spiffe_id_of(leaf)
        verify_chain([leaf, pki.registry.certificate], pki.root.certificate, at_us=NOW_US)

    with pytest.raises(Malformed):
        read()


def test_a_certificate_on_a_curve_that_is_not_known_is_for_no_key(pki: TestAuthority) -> None:
    key, name = generate_key(), spiffe("/city/320500")
    whole = to_der(pki.registry.issue_leaf(subject=name, public_key=key.public_key(), validity=pki.validity))
    curve = bytes.fromhex("2a8648ce3d030107")
    assert public_key_matches(from_der(whole), key)
    assert not public_key_matches(from_der(whole.replace(curve, curve[:-1] + b"\x63")), key)
