"""Questions about past moments, and answers as evidence, at a real registry."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import grpc
import pytest
from click.testing import CliRunner

from elicense import errors
from elicense.cli.evidence_files import keep
from elicense.cli.main import main as elicense
from elicense.clock import SECOND_US, from_timestamp, to_timestamp
from elicense.license.verdict import Outcome
from elicense.rpc.errors import from_rpc_error
from elicense.v1 import verification_pb2 as pb
from elicense.v1 import verification_pb2_grpc
from elicense.v1.license_pb2 import DOCUMENT_TYPE_RESIDENT_ID, IdentityDocument, LicenseRecord
from elicense.verification.evidence import answers_verifier_key, open_evidence, opens
from registry.cli import main as registry_command
from tests.integration.registry.world import SUZHOU, TIANJIN, TRUST_DOMAIN, Verifier, World
from tests.support.city import DEADLINE_S, City

NUMBER, OTHER = "11010519491231002X", "44052418800101001X"
REGISTRY = f"spiffe://{TRUST_DOMAIN}/registry"


@pytest.fixture
async def city(world: World) -> City:
    suzhou = await world.city(SUZHOU)
    suzhou.issue(NUMBER, claim=(await suzhou.claim(NUMBER))[0])
    await suzhou.replicate()
    return suzhou


@pytest.fixture
async def police(world: World) -> Verifier:
    return await world.verifier()


def query(number: str = NUMBER, name: str = "") -> pb.LicenseQuery:
    document = IdentityDocument(type=DOCUMENT_TYPE_RESIDENT_ID, number=number)
    return pb.LicenseQuery(document=document, holder_name=name)


def context() -> pb.LookContext:
    return pb.LookContext(purpose=pb.PURPOSE_ROADSIDE_CHECK, case_number="case-1")


async def ask(
    verifier: Verifier, number: str = NUMBER, *, name: str = "", at: int, known: int | None = None, sign: bool = False
) -> pb.VerifyLicenseResponse:
    moments: dict[str, Any] = {"at_time": to_timestamp(at)}
    if known is not None:
        moments["as_known_time"] = to_timestamp(known)
    request = pb.VerifyLicenseRequest(query=query(number, name), context=context(), sign=sign, **moments)
    try:
        answer: pb.VerifyLicenseResponse = await verification_pb2_grpc.VerificationServiceStub(
            verifier.channel
        ).VerifyLicense(request, timeout=DEADLINE_S)
    except grpc.aio.AioRpcError as error:
        raise from_rpc_error(error) from error
    return answer


async def test_a_suspension_does_not_reach_back(world: World, city: City, police: Verifier) -> None:
    issued = world.clock()
    world.clock.advance(seconds=60)
    city.change(city_license(city), ["D"])
    await city.replicate()
    suspended = world.clock()
    world.clock.advance(seconds=60)
    await city.send(city.batch(city.size))
    world.clock.advance(seconds=1)
    assert (await police.ask(NUMBER)).outcome == pb.OUTCOME_INVALID
    assert (await ask(police, at=issued)).verdict.outcome == pb.OUTCOME_VALID
    assert (await ask(police, at=suspended)).verdict.outcome == pb.OUTCOME_INVALID


async def test_a_record_that_arrived_late_was_not_known_before(world: World, city: City, police: Verifier) -> None:
    world.clock.advance(seconds=60)
    city.change(city_license(city), ["D"])
    written = world.clock()
    world.clock.advance(seconds=60)
    before_arrival = world.clock()
    await city.replicate()
    world.clock.advance(seconds=1)
    assert (await ask(police, at=written)).verdict.outcome == pb.OUTCOME_INVALID
    assert (await ask(police, at=written, known=before_arrival)).verdict.outcome == pb.OUTCOME_VALID
    assert (await ask(police, at=written, known=world.clock())).verdict.outcome == pb.OUTCOME_INVALID


async def test_a_moment_that_the_city_has_not_reported_on_is_not_valid(
    world: World, city: City, police: Verifier
) -> None:
    issued = from_timestamp(LicenseRecord.FromString(city.records[0]).record_time)
    world.clock.advance(seconds=120)
    verdict = (await ask(police, at=world.clock())).verdict
    assert verdict.outcome == pb.OUTCOME_INDETERMINATE
    assert list(verdict.reasons) == [pb.VERDICT_REASON_CITY_STALE]
    assert verdict.last_known.outcome == pb.OUTCOME_VALID
    # The present question is within its ten minutes all the same.
    assert (await police.ask(NUMBER)).outcome == pb.OUTCOME_VALID
    assert (await ask(police, at=issued - SECOND_US)).verdict.outcome == pb.OUTCOME_INVALID  # not issued yet


async def test_a_provisional_licence_was_valid_from_its_confirmation_on(world: World, police: Verifier) -> None:
    city = await world.city(SUZHOU)
    city.issue(NUMBER)
    issued = world.clock()
    # One minute on, as the registry sees it when it decides.
    world.clock.advance(seconds=60)
    await city.replicate()
    await city.decided(1)
    world.clock.advance(seconds=60)
    await city.send(city.batch(city.size))
    decided = world.clock()
    world.clock.advance(seconds=1)
    verdict = (await ask(police, at=issued)).verdict
    assert list(verdict.reasons) == [pb.VERDICT_REASON_PROVISIONAL]
    assert (await ask(police, at=decided - 30 * SECOND_US)).verdict.outcome == pb.OUTCOME_VALID
    assert not world.fsck().findings


async def test_unknown_and_mismatching_get_one_answer_about_the_past(
    world: World, city: City, police: Verifier
) -> None:
    answers = [
        (await ask(police, number, name=name, at=world.clock() - SECOND_US)).verdict
        for number, name in ((OTHER, "王芳"), (NUMBER, "王芳"))
    ]
    for answer in answers:
        assert answer.outcome == pb.OUTCOME_NO_MATCH
        for field in ("verdict_time", "at_time"):
            answer.ClearField(field)
    assert answers[0] == answers[1]
    assert not answers[0].HasField("freshness")


async def test_a_batch_is_about_one_moment(world: World, city: City, police: Verifier) -> None:
    moment = world.clock()
    world.clock.advance(seconds=60)
    city.change(city_license(city), ["D"])
    await city.replicate()
    world.clock.advance(seconds=1)
    request = pb.BatchVerifyLicensesRequest(
        queries=[query(), query(OTHER)], context=context(), at_time=to_timestamp(moment), sign=True
    )
    stub = verification_pb2_grpc.VerificationServiceStub(police.channel)
    answer = await stub.BatchVerifyLicenses(request, timeout=DEADLINE_S)
    assert [verdict.outcome for verdict in answer.verdicts] == [pb.OUTCOME_VALID, pb.OUTCOME_NO_MATCH]
    key = answers_verifier_key(REGISTRY, world.keys.answers.public_key())
    stated = [open_evidence(evidence.statement, [key]) for evidence in answer.evidence]
    assert [statement.outcome for statement in stated] == [Outcome.VALID, Outcome.NO_MATCH]
    assert stated[1].place is None


async def test_the_fields_of_a_past_moment_are_those_of_then(world: World, city: City, police: Verifier) -> None:
    before = world.clock()
    world.clock.advance(seconds=60)
    city.change(city_license(city), ["H"])
    await city.replicate()
    world.clock.advance(seconds=60)
    reported = world.clock()
    await city.send(city.batch(city.size))
    world.clock.advance(seconds=1)
    then = (await ask(police, at=before)).verdict
    since = (await ask(police, at=reported)).verdict
    assert then.license.holder.full_name == since.license.holder.full_name == "张伟"
    assert [letter.letter for letter in then.license.status_letters] == []
    assert [letter.letter for letter in since.license.status_letters] == ["H"]


async def test_the_future_is_refused(world: World, city: City, police: Verifier) -> None:
    with pytest.raises(errors.Malformed) as refusal:
        await ask(police, at=world.clock() + 3_600 * SECOND_US)
    assert [violation.field for violation in refusal.value.violations] == ["at_time"]


async def test_a_look_into_the_past_is_recorded_like_any_other(world: World, city: City, police: Verifier) -> None:
    await ask(police, at=world.clock() - SECOND_US)
    with closing(sqlite3.connect(world.config.node.data_dir / "access.db")) as access:
        assert access.execute("SELECT method FROM access").fetchall() == [("VerifyLicense",)]


async def test_evidence_is_checked_offline_and_a_hidden_revision_proves_the_registry_wrong(
    world: World, city: City, police: Verifier, tmp_path: Path
) -> None:
    world.clock.advance(seconds=1)
    answer = await ask(police, at=world.clock() - SECOND_US, sign=True)
    key = answers_verifier_key(REGISTRY, world.keys.answers.public_key())
    statement = open_evidence(answer.evidence.statement, [key])
    assert opens(statement, answer.evidence.opening, DOCUMENT_TYPE_RESIDENT_ID, NUMBER, "")

    # The registry signs, from a view that was set back, what its own log refutes.
    columns = "idx, revision, event, entry_hash, standing"
    path = world.config.node.data_dir / "registry.db"
    with closing(sqlite3.connect(path)) as database:
        before = database.execute(f"SELECT {columns} FROM license_view").fetchone()
    city.change(city_license(city), ["D"])
    await city.replicate()
    with closing(sqlite3.connect(path)) as database, database:
        database.execute(f"UPDATE license_view SET ({columns}) = (?, ?, ?, ?, ?)", before)
    world.clock.advance(seconds=1)
    request = pb.VerifyLicenseRequest(query=query(), context=context(), sign=True)
    stub = verification_pb2_grpc.VerificationServiceStub(police.channel)
    lie = await stub.VerifyLicense(request, timeout=DEADLINE_S)
    assert lie.verdict.outcome == pb.OUTCOME_VALID

    runner, config = CliRunner(), str(world.config.node.data_dir / "config.toml")
    (tmp_path / "keys").write_text(runner.invoke(registry_command, ["keys", "--config", config]).output)
    proof = str(tmp_path / "proof.json")
    written = runner.invoke(registry_command, ["prove", str(SUZHOU), "1", "--out", proof, "--config", config])
    assert written.exit_code == 0, written.output
    honest, false = tmp_path / "honest", tmp_path / "false"
    keep(honest, answer.evidence.statement, answer.evidence.opening)
    keep(false, lie.evidence.statement, lie.evidence.opening)
    words = ["log", "verify", "--key", str(tmp_path / "keys"), "--number", NUMBER]
    checked = runner.invoke(elicense, [*words, str(honest)])
    assert checked.exit_code == 0, checked.output
    assert "it answers the number and name given" in checked.output
    assert runner.invoke(elicense, [*words, str(honest), "--against", proof]).exit_code == 0
    proven = runner.invoke(elicense, [*words, str(false), "--against", proof])
    assert proven.exit_code == 3, proven.output
    assert "CONTRADICTED: a later revision" in proven.output
    assert runner.invoke(elicense, [*words[:-1], OTHER, str(honest)]).exit_code == 1


async def test_fsck_finds_a_ruling_that_the_log_does_not_hold(world: World) -> None:
    city = await world.city(TIANJIN)
    city.issue(NUMBER)
    await city.replicate()
    await city.decided(1)
    path = world.config.node.data_dir / "registry.db"
    with closing(sqlite3.connect(path)) as database, database:
        database.execute("UPDATE license_ruling SET decided_us = decided_us - 1")
    assert any("ruling" in finding.what for finding in world.fsck().findings)


def city_license(city: City) -> bytes:
    return LicenseRecord.FromString(city.records[0]).license_id
