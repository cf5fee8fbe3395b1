from __future__ import annotations

from ipaddress import ip_address

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given
from hypothesis import strategies as st

from elicense.errors import CsrInvalid
from elicense.trust.csr import MAX_NAMES, build_request, parse_request
from elicense.trust.hostnames import check_server_names
from elicense.trust.spiffe import city_id
from elicense.trust.x509 import generate_key
from tests.support.authority import TRUST_DOMAIN

SUZHOU = city_id(TRUST_DOMAIN, 320500)


def test_a_request_survives_its_der() -> None:
    key = generate_key()
    der = build_request(key, dns_names=("a.example",), addresses=(ip_address("192.0.2.1"), ip_address("::1")))
    parsed = parse_request(der)
    assert parsed.public_key.public_numbers() == key.public_key().public_numbers()
    assert parsed.dns_names == ("a.example",)
    assert parsed.addresses == (ip_address("192.0.2.1"), ip_address("::1"))


def test_a_request_without_names_asks_for_none() -> None:
    parsed = parse_request(build_request(generate_key()))
    assert (parsed.dns_names, parsed.addresses) == ((), ())


def test_a_request_signed_by_another_key_is_refused() -> None:
    der = bytearray(build_request(generate_key()))
    der[-1] ^= 1
    with pytest.raises(CsrInvalid):
        parse_request(bytes(der))


def test_a_request_for_another_kind_of_key_is_refused() -> None:
    key = ec.generate_private_key(ec.SECP384R1())
    der = (
        x509.CertificateSigningRequestBuilder()
        .subject_name(x509.Name([]))
        .sign(key, hashes.SHA384())
        .public_bytes(serialization.Encoding.DER)
    )
    with pytest.raises(CsrInvalid, match="P-256"):
        parse_request(der)


def test_a_request_for_too_many_names_is_refused() -> None:
    der = build_request(generate_key(), dns_names=[f"h{i}.example" for i in range(MAX_NAMES + 1)])
    with pytest.raises(CsrInvalid):
        parse_request(der)


@given(st.binary(max_size=100))
def test_parsing_lets_only_its_own_error_out(noise: bytes) -> None:
    with pytest.raises(CsrInvalid):
        parse_request(noise)


@pytest.mark.parametrize("name", ["node.suzhou.example", "city-320500.elicense.test", "localhost"])
def test_a_city_may_carry_its_own_names(name: str) -> None:
    tls = parse_request(build_request(generate_key(), dns_names=(name,)))
    check_server_names(SUZHOU, tls, parse_request(build_request(generate_key())))


@pytest.mark.parametrize(
    "name",
    [
        "registry.elicense.test",
        "city-510100.elicense.test",
        "elicense.test",
        "*.example",
        "a..example",
        "Registry.Elicense.Test",
        "registry.elicense.test.",
        "-a.example",
        "",
    ],
)
def test_a_city_may_not_carry_the_name_of_another(name: str) -> None:
    tls = parse_request(build_request(generate_key(), dns_names=(name,)))
    with pytest.raises(CsrInvalid):
        check_server_names(SUZHOU, tls, parse_request(build_request(generate_key())))


def test_server_and_authority_need_different_keys() -> None:
    key = generate_key()
    with pytest.raises(CsrInvalid, match="different keys"):
        check_server_names(SUZHOU, parse_request(build_request(key)), parse_request(build_request(key)))


@pytest.mark.parametrize(
    ("part", "damaged"),
    [
        pytest.param(b"\x02\x01\x00", b"\x02\x01\x07", id="a version that there is not"),
        pytest.param(b"\x82\x09a.example", b"\xa3\x09a.example", id="a kind of name that nobody reads"),
    ],
)
def test_a_request_that_can_be_read_in_part_alone_is_refused(part: bytes, damaged: bytes) -> None:
    whole = build_request(generate_key(), dns_names=("a.example",))
    assert part in whole
    with pytest.raises(CsrInvalid):
        parse_request(whole.replace(part, damaged, 1))
