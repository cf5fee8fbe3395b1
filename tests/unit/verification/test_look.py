"""Who may look, and what stays of it between two requests of one caller."""

from __future__ import annotations

import pytest

from elicense.errors import CallerNotAllowed, Malformed
from elicense.trust.roles import VERIFIER_RULES, Role
from elicense.trust.spiffe import Caller, parse_spiffe_id
from elicense.v1 import license_pb2
from elicense.v1 import verification_pb2 as pb
from elicense.verification.look import admit

INSURANCE = pb.LookContext(purpose=pb.PURPOSE_INSURANCE)


def caller_of(role: Role, name: str = "x") -> Caller:
    return Caller(parse_spiffe_id(f"spiffe://elicense.test/verifier/{role}/{name}"), role, None, name.encode() * 32)


def named(name: str) -> tuple[str, pb.LicenseQuery]:
    return "query", pb.LicenseQuery(document=license_pb2.IdentityDocument(number="1"), holder_name=name)


def test_who_was_admitted_before_must_still_give_every_name() -> None:
    insurer = caller_of(Role.INSURER)
    admit(insurer, INSURANCE, [named("x")])
    with pytest.raises(Malformed) as refused:
        admit(insurer, INSURANCE, [named("")])
    assert [violation.field for violation in refused.value.violations] == ["query.holder_name"]


def test_what_one_caller_stated_admits_no_other() -> None:
    first, second = (admit(caller_of(Role.INSURER, name), INSURANCE, [named("x")]) for name in ("a", "b"))
    assert (first.verifier[-1], second.verifier[-1]) == ("a", "b")
    with pytest.raises(Malformed):
        admit(caller_of(Role.RENTAL), INSURANCE, [named("x")])
    with pytest.raises(CallerNotAllowed):
        admit(Caller(parse_spiffe_id("spiffe://elicense.test/operator/a"), Role.OPERATOR, None, b""), INSURANCE, [])


def test_what_was_stated_before_is_no_statement_of_now() -> None:
    police = caller_of(Role.POLICE)
    asked = pb.LookContext(purpose=pb.PURPOSE_ROADSIDE_CHECK, case_number="1")
    assert admit(police, asked, [named("")]).case_number == "1"
    asked.case_number = "2"
    assert admit(police, asked, [named("")]).case_number == "2"
    asked.case_number = ""
    for _ in range(2):
        with pytest.raises(Malformed):
            admit(police, asked, [named("")])


def test_a_record_is_a_wish_of_each_request() -> None:
    insurer, police = caller_of(Role.INSURER), caller_of(Role.POLICE)
    asked = pb.LookContext(purpose=pb.PURPOSE_ROADSIDE_CHECK, case_number="1")
    assert not admit(police, asked, [named("")]).with_record
    assert admit(police, asked, [named("")], with_record=True).with_record
    assert admit(insurer, INSURANCE, [named("x")]).fields == VERIFIER_RULES[Role.INSURER].fields
    with pytest.raises(CallerNotAllowed):
        admit(insurer, INSURANCE, [named("x")], with_record=True)
