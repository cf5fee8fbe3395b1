"""Every role, every method, every field: what the tables say is what a real call gets."""

from __future__ import annotations

from typing import Any

import grpc
import pytest

from elicense.errors import CallerNotAllowed, Malformed
from elicense.license.fields import EVERY_FIELD, LicenseField
from elicense.log.checkpoint import parse_checkpoint
from elicense.log.entry import leaf_hash
from elicense.log.merkle import verify_inclusion
from elicense.log.note import parse_note
from elicense.rpc.errors import from_rpc_error
from elicense.trust.roles import CITY_METHODS, REGISTRY_METHODS, VERIFIER_RULES, VERIFIERS, Purpose, Role
from elicense.v1 import verification_pb2 as pb
from tests.integration.roles.conftest import Stage, ask, context, query
from tests.support.cluster import DEADLINE_S, call, eventually
from tests.support.fields import shown_fields

pytestmark = pytest.mark.asyncio(loop_scope="package")

PATHS = [
    "registry local single",
    "registry local batch",
    "city local single",
    "city local batch",
    "city foreign single",
    "city foreign batch",
]
ASKING = sorted(VERIFIERS)
NATIONAL = [*ASKING, Role.OPERATOR, Role.AUDITOR, Role.CITY]
AT_SUZHOU = [*ASKING, Role.CLERK]

#: Streams and calls of others, whose refusal comes after the first message; the table test covers them.
OTHERS = ("/grpc.",)

CELLS = [
    *((True, role, method) for role in NATIONAL for method in REGISTRY_METHODS if not method.startswith(OTHERS)),
    *((False, role, method) for role in AT_SUZHOU for method in CITY_METHODS if not method.startswith(OTHERS)),
]


@pytest.mark.parametrize(("registry", "role", "method"), CELLS)
async def test_a_method_runs_for_the_roles_of_the_table_and_for_no_other(
    stage: Stage, registry: bool, role: Role, method: str
) -> None:
    channel = stage.channel(role, registry=registry)
    allowed = role in (REGISTRY_METHODS if registry else CITY_METHODS)[method]
    # These bytes are malformed to whoever may ask; to everybody else the role comes first.
    raw: Any = b"\xff"
    pending: Any = (
        channel.stream_unary(method)(iter([raw]), timeout=DEADLINE_S)
        if method.endswith("ImportLicenses")
        else channel.unary_unary(method)(raw, timeout=DEADLINE_S)
    )
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await pending
    assert isinstance(from_rpc_error(refused.value), Malformed if allowed else CallerNotAllowed)


@pytest.mark.parametrize("field", LicenseField)
@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("role", ASKING)
async def test_a_field_is_shown_to_the_roles_of_the_table_and_to_no_other(
    stage: Stage, role: Role, path: str, field: LicenseField
) -> None:
    verdict = await stage.verdict(role, path)
    assert verdict.outcome == pb.OUTCOME_VALID
    allowed = field in VERIFIER_RULES[role].fields
    assert (int(field) in set(map(int, verdict.fields))) is allowed
    assert (field in shown_fields(verdict.license)) is allowed


@pytest.mark.parametrize("purpose", Purpose)
@pytest.mark.parametrize("registry", [True, False])
@pytest.mark.parametrize("role", ASKING)
async def test_a_purpose_is_open_to_the_roles_of_the_table_and_to_no_other(
    stage: Stage, role: Role, registry: bool, purpose: Purpose
) -> None:
    stub = stage.verifier(role, registry=registry)
    why = pb.LookContext(purpose=int(purpose), case_number="case 1")  # type: ignore[arg-type]
    request = pb.VerifyLicenseRequest(query=query(role, stage.local), context=why)
    if purpose in VERIFIER_RULES[role].purposes:
        assert (await call(stub.VerifyLicense(request, timeout=DEADLINE_S))).verdict.outcome == pb.OUTCOME_VALID
    else:
        with pytest.raises(Malformed) as refused:
            await call(stub.VerifyLicense(request, timeout=DEADLINE_S))
        assert [v.field for v in refused.value.violations] == ["context.purpose"]


@pytest.mark.parametrize("path", ["registry local", "city local", "city foreign"])
@pytest.mark.parametrize("role", ASKING)
async def test_a_record_goes_only_to_roles_that_see_every_field(stage: Stage, role: Role, path: str) -> None:
    at, what = path.split(" ")
    asked = stage.local if what == "local" else stage.foreign
    stub = stage.verifier(role, registry=at == "registry")
    request = pb.VerifyLicenseRequest(query=query(role, asked), context=context(role), with_record=True)
    if VERIFIER_RULES[role].fields != EVERY_FIELD:
        with pytest.raises(CallerNotAllowed):
            await call(stub.VerifyLicense(request, timeout=DEADLINE_S))
        return

    async def proved() -> pb.ProvedRecord | None:
        answer = await call(stub.VerifyLicense(request, timeout=DEADLINE_S))
        return answer.record if answer.HasField("record") else None

    record = await eventually(proved)
    assert record is not None
    assert asked.holder.document.number.encode() in record.entry.record
    note = parse_note(record.proof.checkpoint)
    checkpoint = parse_checkpoint(note.text)
    assert checkpoint.origin.endswith(f"/city/{record.proof.position.city}/1")
    assert len(note.signatures) == 2  # the city's and the registry's
    verify_inclusion(
        leaf_hash=leaf_hash(record.entry.salt, record.entry.record),
        index=record.proof.position.index,
        size=checkpoint.size,
        proof=list(record.proof.hashes),
        root=checkpoint.root,
    )


async def test_a_verifier_gets_no_more_than_it_wants(stage: Stage) -> None:
    stub = stage.verifier(Role.POLICE, registry=True)
    why = context(Role.POLICE)
    why.fields.fields.extend([pb.LICENSE_FIELD_POINTS, 31])  # type: ignore[list-item]  # of a later version
    request = pb.VerifyLicenseRequest(query=query(Role.POLICE, stage.local), context=why)
    verdict = (await call(stub.VerifyLicense(request, timeout=DEADLINE_S))).verdict
    assert list(verdict.fields) == [pb.LICENSE_FIELD_POINTS]
    assert verdict.license.points == 3
    request.with_record = True
    with pytest.raises(CallerNotAllowed):
        await call(stub.VerifyLicense(request, timeout=DEADLINE_S))


async def test_a_forwarded_look_gets_what_both_sides_allow(stage: Stage) -> None:
    """Suzhou's node speaks to the registry for its rental; its own table allows less than the registry's."""
    stub = stage.verifier(Role.CITY, registry=True)
    verifier = f"{stage.national[Role.CITY].subject}/verifier/rental/s"
    for wanted, given in (
        ([LicenseField.FULL_NAME, LicenseField.ADDRESS], [LicenseField.FULL_NAME]),
        ([], []),
    ):
        why = context(Role.RENTAL)
        why.on_behalf_of = verifier
        why.fields.fields.extend(wanted)  # type: ignore[arg-type]
        request = pb.VerifyLicenseRequest(query=query(Role.RENTAL, stage.foreign), context=why)
        verdict = (await call(stub.VerifyLicense(request, timeout=DEADLINE_S))).verdict
        assert list(verdict.fields) == given
        assert shown_fields(verdict.license) == set(given)


@pytest.mark.parametrize("registry", [True, False])
@pytest.mark.parametrize("role", [role for role in ASKING if VERIFIER_RULES[role].requires_name])
async def test_nobody_can_tell_an_unknown_number_from_a_wrong_name(stage: Stage, role: Role, registry: bool) -> None:
    stub = stage.verifier(role, registry=registry)
    unknown = type(stage.local)()
    unknown.CopyFrom(stage.local)
    unknown.holder.document.number = "11010519491231002X"
    answers = [
        await ask(stub, role, unknown),
        await ask(stub, role, stage.local, name="某某某"),
        await ask(stub, role, stage.foreign, name="某某某"),
    ]
    for answer in answers:
        assert answer.outcome == pb.OUTCOME_NO_MATCH
        assert not answer.HasField("freshness")
        assert not answer.HasField("license")
        assert not answer.fields
        # The instant has a few bytes more or less by itself.
        answer.verdict_time.FromMicroseconds(1_000_000)
    assert len({answer.SerializeToString() for answer in answers}) == 1


async def test_only_a_case_of_the_police_can_be_sealed(stage: Stage) -> None:
    for role in ASKING:
        stub = stage.verifier(role, registry=True)
        for purpose in VERIFIER_RULES[role].purposes:
            why = context(role)
            why.purpose = int(purpose)  # type: ignore[assignment]
            why.sealed.delay.FromSeconds(86_400)
            request = pb.VerifyLicenseRequest(query=query(role, stage.local), context=why)
            if purpose in VERIFIER_RULES[role].sealable:
                await call(stub.VerifyLicense(request, timeout=DEADLINE_S))
                continue
            with pytest.raises(Malformed) as refused:
                await call(stub.VerifyLicense(request, timeout=DEADLINE_S))
            assert [v.reason for v in refused.value.violations] == ["SEALING_NOT_ALLOWED"]


async def test_a_look_is_sealed_for_a_bounded_time(stage: Stage) -> None:
    stub = stage.verifier(Role.POLICE, registry=True)
    for seconds in (0, 181 * 86_400):
        why = context(Role.POLICE)
        why.purpose = pb.PURPOSE_CASE_HANDLING
        why.sealed.delay.FromSeconds(seconds)
        request = pb.VerifyLicenseRequest(query=query(Role.POLICE, stage.local), context=why)
        with pytest.raises(Malformed):
            await call(stub.VerifyLicense(request, timeout=DEADLINE_S))
