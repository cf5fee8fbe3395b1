from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from elicense.errors import Malformed
from elicense.trust.roles import Role
from elicense.trust.spiffe import (
    MAX_SPIFFE_ID,
    Identity,
    authority_id,
    city_id,
    identify,
    issuing_node,
    parse_spiffe_id,
    registry_id,
    server_name,
)

TD = "elicense.test"


@pytest.mark.parametrize(
    ("path", "role", "city"),
    [
        ("/registry", Role.REGISTRY, None),
        ("/city/320500", Role.CITY, 320500),
        ("/clerk/320500/li-4", Role.CLERK, 320500),
        ("/operator/wang", Role.OPERATOR, None),
        ("/auditor/zhao", Role.AUDITOR, None),
        ("/verifier/police/suzhou", Role.POLICE, None),
        ("/verifier/traffic-window/w7", Role.TRAFFIC_WINDOW, None),
        ("/verifier/rental/acme", Role.RENTAL, None),
        ("/verifier/insurer/acme", Role.INSURER, None),
        ("/verifier/recruiter/acme", Role.RECRUITER, None),
        ("/verifier/holder/h1", Role.HOLDER, None),
        ("/city/320500/verifier/rental/acme", Role.RENTAL, 320500),
        ("/enrollee/00ff", Role.ENROLLEE, None),
    ],
)
def test_every_path_names_a_role_and_a_city(path: str, role: Role, city: int | None) -> None:
    spiffe_id = parse_spiffe_id(f"spiffe://{TD}{path}")
    assert identify(spiffe_id) == Identity(role, city)
    assert str(spiffe_id) == f"spiffe://{TD}{path}"


@pytest.mark.parametrize(
    "path",
    [
        "/registry/x",
        "/city/32050",
        "/city/020500",
        "/city/320500/clerk/li",
        "/clerk/320500",
        "/clerk/suzhou/li",
        "/verifier/registry/x",
        "/verifier/clerk/x",
        "/verifier/police",
        "/city/320500/verifier/police",
        "/authority/national",
        "/authority/city/320500",
        "/root",
    ],
)
def test_any_other_path_is_no_caller(path: str) -> None:
    with pytest.raises(Malformed):
        identify(parse_spiffe_id(f"spiffe://{TD}{path}"))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "spiffe://",
        f"spiffe://{TD}",
        f"spiffe://{TD}/",
        f"spiffe://{TD}/registry/",
        f"spiffe://{TD}//registry",
        f"spiffe://{TD}/./registry",
        f"spiffe://{TD}/../registry",
        f"spiffe://{TD}/registry?x=1",
        f"spiffe://{TD}/registry#x",
        f"spiffe://{TD}:443/registry",
        f"spiffe://user@{TD}/registry",
        f"spiffe://{TD.upper()}/registry",
        f"SPIFFE://{TD}/registry",
        f"https://{TD}/registry",
        f"spiffe://{TD}/regi%73try",
        f"spiffe://{TD}/registry\n",
        f"spiffe://{TD}/城市/320500",
        f"spiffe://{TD}/city/３２０５００",
        f"spiffe://{TD}/operator/" + "a" * MAX_SPIFFE_ID,
    ],
)
def test_an_id_has_one_canonical_form(text: str) -> None:
    with pytest.raises(Malformed):
        identify(parse_spiffe_id(text))


@given(st.text(max_size=60))
def test_parsing_lets_only_its_own_error_out(text: str) -> None:
    for candidate in (text, f"spiffe://{text}", f"spiffe://{TD}/{text}"):
        try:
            parsed = parse_spiffe_id(candidate)
        except Malformed:
            continue
        assert str(parsed) == candidate


def test_nodes_have_server_names_and_authorities() -> None:
    for node, name in ((registry_id(TD), f"registry.{TD}"), (city_id(TD, 320500), f"city-320500.{TD}")):
        assert server_name(node) == name
        assert issuing_node(authority_id(node)) == node


def test_people_have_no_server_name() -> None:
    with pytest.raises(Malformed):
        server_name(parse_spiffe_id(f"spiffe://{TD}/operator/wang"))
    with pytest.raises(Malformed):
        issuing_node(parse_spiffe_id(f"spiffe://{TD}/authority/national"))
