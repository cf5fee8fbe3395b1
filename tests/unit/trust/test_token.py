from __future__ import annotations

from base64 import urlsafe_b64decode, urlsafe_b64encode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from elicense.errors import Malformed
from elicense.trust.spiffe import city_id, registry_id
from elicense.trust.token import PREFIX, JoinToken, enrollee_id, format_token, make_token, parse_token, token_id_of
from elicense.trust.x509 import key_to_pem, spiffe_id_of, verify_chain
from elicense.v1 import enrollment_pb2
from tests.support.authority import TRUST_DOMAIN, TestAuthority, spiffe

TOKEN_ID = bytes(range(16))


@pytest.fixture(scope="module")
def pki() -> TestAuthority:
    return TestAuthority()


@pytest.fixture(scope="module")
def token(pki: TestAuthority) -> JoinToken:
    return make_token(
        authority=pki.registry,
        root=pki.root.certificate,
        address="registry.test:7443",
        subject=city_id(TRUST_DOMAIN, 320500),
        token_id=TOKEN_ID,
        validity=pki.validity,
    )


def change(text: str, **fields: object) -> str:
    body = text.removeprefix(PREFIX)
    message = enrollment_pb2.JoinToken.FromString(urlsafe_b64decode(body + "=" * (-len(body) % 4)))
    for name, value in fields.items():
        if isinstance(value, list):
            del getattr(message, name)[:]
            getattr(message, name).extend(value)
        else:
            setattr(message, name, value)
    return PREFIX + urlsafe_b64encode(message.SerializeToString()).decode().rstrip("=")


def test_a_token_survives_being_one_line_of_text(token: JoinToken) -> None:
    text = format_token(token)
    parsed = parse_token(f"  {text}\n")
    assert "\n" not in text
    assert text.startswith("EL1.")
    assert format_token(parsed) == text
    assert (parsed.address, parsed.subject, parsed.token_id) == (token.address, token.subject, TOKEN_ID)
    assert key_to_pem(parsed.key) == key_to_pem(token.key)


def test_a_token_knows_the_node_and_gives_credentials_for_it(pki: TestAuthority, token: JoinToken) -> None:
    credentials = token.credentials()
    assert token.node == registry_id(TRUST_DOMAIN)
    assert credentials.address == "registry.test:7443"
    assert credentials.server_name == "registry.elicense.test"
    assert str(verify_chain(token.chain, pki.root.certificate, at_us=token.expires_us - 10**6)) == str(
        enrollee_id(TRUST_DOMAIN, TOKEN_ID)
    )


def test_a_citys_token_leads_to_the_city(pki: TestAuthority) -> None:
    token = make_token(
        authority=pki.city(320500),
        root=pki.root.certificate,
        address="city.test:7443",
        subject=spiffe("/clerk/320500/li"),
        token_id=TOKEN_ID,
        validity=pki.validity,
    )
    assert parse_token(format_token(token)).credentials().server_name == "city-320500.elicense.test"


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: "",
        lambda text: text.removeprefix(PREFIX),
        lambda text: "EL2." + text.removeprefix(PREFIX),
        lambda text: text[:-5],
        lambda text: text + "A",
        lambda text: text.replace("A", "!", 1),
        lambda text: text + "=",
        lambda text: PREFIX + "A" * 20_000,
        lambda text: change(text, private_key=bytes(32)),
        lambda text: change(text, private_key=b"\xff" * 32),
        lambda text: change(text, private_key=b"\x01" * 31),
        lambda text: change(text, private_key=bytes(31) + b"\x02"),
        lambda text: change(text, certificate_chain=[]),
        lambda text: change(text, certificate_chain=[b"x", b"y"]),
        lambda text: change(text, root_certificate=b""),
        lambda text: change(text, subject="spiffe://elicense.test/authority/national"),
        lambda text: change(text, subject=""),
        lambda text: change(text, address=""),
    ],
)
def test_a_damaged_token_is_refused(token: JoinToken, damage: object) -> None:
    with pytest.raises(Malformed):
        parse_token(damage(format_token(token)))  # type: ignore[operator]


@given(st.binary(max_size=200))
def test_parsing_lets_only_its_own_error_out(noise: bytes) -> None:
    with pytest.raises(Malformed):
        parse_token(PREFIX + urlsafe_b64encode(noise).decode().rstrip("="))


def test_a_certificate_that_is_no_enrollees_makes_no_token(pki: TestAuthority) -> None:
    with pytest.raises(Malformed):
        token_id_of(spiffe("/operator/wang"))
    for text in ("00", "zz" * 16, "AA" * 16):
        with pytest.raises(Malformed):
            token_id_of(spiffe(f"/enrollee/{text}"))


def test_a_token_does_not_print_its_key(token: JoinToken) -> None:
    assert "Private" not in repr(token)
    assert spiffe_id_of(token.chain[0]).path == ("enrollee", TOKEN_ID.hex())
