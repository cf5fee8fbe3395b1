"""Who may look, and what stays of it between two requests of one caller."""

from __future__ import annotations

import pickle

import pytest

from elicense.errors import CallerNotAllowed, Malformed
from elicense.trust.roles import VERIFIER_RULES, Role
from elicense.trust.spiffe import Caller, parse_spiffe_id
from elicense.v1 import license_pb2
from elicense.v1 import verification_pb2 as pb
from elicense.verification.look import Admission, Look, admit

INSURANCE = pb.LookContext(purpose=pb.PURPOSE_INSURANCE)


@pytest.fixture
def admission() -> Admission:
    return Admission()


def caller_of(role: Role, name: str = "x") -> Caller:
    return Caller(parse_spiffe_id(f"spiffe://elicense.test/verifier/{role}/{name}"), role, None, name.encode() * 32)


def named(name: str) -> tuple[str, pb.LicenseQuery]:
    return "query", pb.LicenseQuery(document=license_pb2.IdentityDocument(number="1"), holder_name=name)


def test_who_was_admitted_before_must_still_give_every_name(admission: Admission) -> None:
    insurer = caller_of(Role.INSURER)
    admission.admit(insurer, INSURANCE, [named("x")])
    with pytest.raises(Malformed) as refused:
        admission.admit(insurer, INSURANCE, [named("")])
    assert [violation.field for violation in refused.value.violations] == ["query.holder_name"]


def test_what_one_caller_stated_admits_no_other(admission: Admission) -> None:
    first, second = (admission.admit(caller_of(Role.INSURER, name), INSURANCE, [named("x")]) for name in ("a", "b"))
    assert (first.verifier[-1], second.verifier[-1]) == ("a", "b")
    with pytest.raises(Malformed):
        admission.admit(caller_of(Role.RENTAL), INSURANCE, [named("x")])
    with pytest.raises(CallerNotAllowed):
        admission.admit(
            Caller(parse_spiffe_id("spiffe://elicense.test/operator/a"), Role.OPERATOR, None, b""), INSURANCE, []
        )


def test_what_was_stated_before_is_no_statement_of_now(admission: Admission) -> None:
    police = caller_of(Role.POLICE)
    asked = pb.LookContext(purpose=pb.PURPOSE_ROADSIDE_CHECK, case_number="1")
    assert admission.admit(police, asked, [named("")]).case_number == "1"
    asked.case_number = "2"
    assert admission.admit(police, asked, [named("")]).case_number == "2"
    asked.case_number = ""
    for _ in range(2):
        with pytest.raises(Malformed):
            admission.admit(police, asked, [named("")])


def test_no_case_of_a_caller_stays_in_memory(admission: Admission) -> None:
    police, number = caller_of(Role.POLICE), "320500-2021-0601-0007"
    for case_number in (number, "2", number):
        asked = pb.LookContext(purpose=pb.PURPOSE_ROADSIDE_CHECK, case_number=case_number)
        assert admission.admit(police, asked, [named("")]) == admit(police, asked, [named("")])
    assert number.encode() not in pickle.dumps(admission)


def test_what_many_verifiers_of_a_city_state_is_not_kept_for_ever(admission: Admission) -> None:
    city = Caller(parse_spiffe_id("spiffe://elicense.test/city/320500"), Role.CITY, 320500, b"c" * 32)

    def look_of(verifier: int) -> Look:
        name = f"spiffe://elicense.test/city/320500/verifier/insurer/v{verifier}"
        return admission.admit(city, pb.LookContext(purpose=pb.PURPOSE_INSURANCE, on_behalf_of=name), [named("x")])

    first = look_of(0)
    assert look_of(0) is first
    for verifier in range(1, 5_000):
        look_of(verifier)
    assert look_of(0) is not first
    assert look_of(0) == first


def test_a_record_is_a_wish_of_each_request(admission: Admission) -> None:
    insurer, police = caller_of(Role.INSURER), caller_of(Role.POLICE)
    asked = pb.LookContext(purpose=pb.PURPOSE_ROADSIDE_CHECK, case_number="1")
    assert not admission.admit(police, asked, [named("")]).with_record
    assert admission.admit(police, asked, [named("")], with_record=True).with_record
    assert admission.admit(insurer, INSURANCE, [named("x")]).fields == VERIFIER_RULES[Role.INSURER].fields
    with pytest.raises(CallerNotAllowed):
        admission.admit(insurer, INSURANCE, [named("x")], with_record=True)
