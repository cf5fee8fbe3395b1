from __future__ import annotations

import pytest
from google.protobuf.descriptor import FileDescriptor
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2

from elicense.trust.roles import (
    CITY_METHODS,
    EVERY_ROLE,
    REGISTRY_METHODS,
    VERIFIER_RULES,
    VERIFIERS,
    Policy,
    Purpose,
    Role,
    city_policy,
    registry_policy,
)
from elicense.v1 import (
    access_pb2,
    conflict_pb2,
    custody_pb2,
    enrollment_pb2,
    issuance_pb2,
    oversight_pb2,
    recovery_pb2,
    replication_pb2,
    transfer_pb2,
    transparency_pb2,
    verification_pb2,
)

COMMON = (health_pb2, reflection_pb2, enrollment_pb2, verification_pb2, transparency_pb2)
COMMERCIAL = (Role.RENTAL, Role.INSURER, Role.RECRUITER)


def methods(*files: FileDescriptor) -> set[str]:
    return {
        f"/{service.full_name}/{method.name}"
        for file in files
        for service in file.services_by_name.values()
        for method in service.methods
    }


def test_the_registry_table_lists_every_method_that_the_registry_has() -> None:
    own = (*COMMON, access_pb2, conflict_pb2, custody_pb2, oversight_pb2, recovery_pb2, replication_pb2)
    assert set(REGISTRY_METHODS) == methods(*(m.DESCRIPTOR for m in own))


def test_the_city_table_lists_every_method_that_a_city_node_has() -> None:
    listed = methods(*(m.DESCRIPTOR for m in (*COMMON, issuance_pb2, conflict_pb2, transfer_pb2)))
    # Deciding conflicts is the registry's.
    assert set(CITY_METHODS) == {name for name in listed if "ConflictRulingService" not in name}


@pytest.mark.parametrize("table", [REGISTRY_METHODS, CITY_METHODS])
def test_only_health_is_open_to_every_role(table: dict[str, frozenset[Role]]) -> None:
    assert all(roles for roles in table.values())
    assert {name.split("/")[1] for name, roles in table.items() if roles == EVERY_ROLE} == {"grpc.health.v1.Health"}


def test_an_enrollee_may_enrol_and_ask_for_health_and_nothing_else() -> None:
    for table in (REGISTRY_METHODS, CITY_METHODS):
        open_to = {name.split("/")[1] for name, roles in table.items() if Role.ENROLLEE in roles}
        assert open_to == {"grpc.health.v1.Health", "elicense.v1.EnrollmentService"}


def test_the_registry_itself_asks_no_city() -> None:
    assert {n.split("/")[1] for n, roles in CITY_METHODS.items() if Role.REGISTRY in roles} == {"grpc.health.v1.Health"}


@pytest.mark.parametrize(
    ("policy", "role", "city", "admitted"),
    [
        (city_policy(320500), Role.CLERK, 320500, True),
        (city_policy(320500), Role.CLERK, 510100, False),
        (city_policy(320500), Role.POLICE, 320500, True),
        (city_policy(320500), Role.POLICE, 510100, False),
        (city_policy(320500), Role.POLICE, None, False),
        (city_policy(320500), Role.CITY, 320500, True),
        (city_policy(320500), Role.CITY, 510100, False),
        (city_policy(320500), Role.ENROLLEE, None, True),
        (city_policy(320500), Role.OPERATOR, None, True),
        (registry_policy(), Role.CITY, 320500, True),
        (registry_policy(), Role.POLICE, None, True),
        (registry_policy(), Role.POLICE, 320500, False),
        (registry_policy(), Role.CLERK, 320500, False),
        (registry_policy(), Role.OPERATOR, None, True),
    ],
)
def test_a_node_serves_its_own(policy: Policy, role: Role, city: int | None, admitted: bool) -> None:
    assert policy.admits_city(role, city) is admitted


def test_purposes_have_the_numbers_of_the_proto() -> None:
    values = verification_pb2.Purpose.items()
    assert {name.removeprefix("PURPOSE_"): number for name, number in values if number} == {
        p.name: p.value for p in Purpose
    }


def test_every_verifier_role_has_a_rule_and_every_purpose_somebody() -> None:
    assert set(VERIFIER_RULES) == VERIFIERS
    assert {p for rule in VERIFIER_RULES.values() for p in rule.purposes} == set(Purpose)


def test_commercial_verifiers_must_name_the_holder_and_police_a_case() -> None:
    assert all(VERIFIER_RULES[role].requires_name for role in COMMERCIAL)
    assert VERIFIER_RULES[Role.POLICE].requires_case_number
    assert not VERIFIER_RULES[Role.POLICE].requires_name
