"""The verifier's SDK against a node with real TLS."""

from __future__ import annotations

import asyncio
from datetime import UTC, date, datetime
from pathlib import Path

import pytest

from elicense import errors
from elicense.client import (
    Client,
    LetterStanding,
    Outcome,
    Purpose,
    Question,
    Source,
    Verdict,
    VerdictReason,
    connect,
    connect_async,
)
from elicense.clock import to_timestamp
from elicense.trust.credentials import save_credentials
from elicense.v1 import license_pb2
from elicense.v1 import verification_pb2 as pb
from tests.integration.client.conftest import VALID_NUMBER, Node
from tests.support.authority import TestAuthority

POLICE = "/verifier/police/highway"
RENTAL = "/verifier/rental/wheels"
NOON_US = 1_622_520_000_000_000
NOON = datetime(2021, 6, 1, 4, tzinfo=UTC)


async def ask(client: Client, number: str = VALID_NUMBER) -> Verdict:
    """The sync client, away from the event loop that the server runs on."""
    return await asyncio.to_thread(client.verify, number, purpose=Purpose.ROADSIDE_CHECK, case_number="R-17")


async def test_three_lines_connect_verify_and_read_the_verdict(node: Node, tmp_path: Path) -> None:
    save_credentials(tmp_path / "police", node.credentials(POLICE))

    with connect(tmp_path / "police") as client:
        verdict = await ask(client)

    assert verdict.valid
    assert node.service.asked[0].document.number == VALID_NUMBER
    assert node.service.asked[0].document.type == license_pb2.DOCUMENT_TYPE_RESIDENT_ID


async def test_every_part_of_a_verdict_arrives(node: Node) -> None:
    node.service.verdict = pb.Verdict(
        outcome=pb.OUTCOME_INDETERMINATE,
        reasons=[pb.VERDICT_REASON_CITY_STALE],
        drivable_classes=["C1", "C2"],
        letters=[
            pb.LetterStanding(letter="D", name="暂扣", meaning="Suspended.", forbids_driving=True, until="2021-12-01")
        ],
        summary="The city has not been heard.",
        freshness=pb.Freshness(
            source=pb.SOURCE_REGISTRY, as_of_time=to_timestamp(NOON_US), log_size=7, city=320500, log_epoch=2
        ),
        last_known=pb.LastKnown(outcome=pb.OUTCOME_VALID, as_of_time=to_timestamp(NOON_US)),
        verdict_time=to_timestamp(NOON_US),
    )
    async with connect_async(node.credentials(POLICE)) as client:
        verdict = await client.verify(VALID_NUMBER, purpose=Purpose.ROADSIDE_CHECK, case_number="R-17")

    assert verdict.outcome is Outcome.INDETERMINATE
    assert verdict.reasons == (VerdictReason.CITY_STALE,)
    assert verdict.drivable_classes == ("C1", "C2")
    assert not verdict.may_drive("C1")
    assert verdict.letters == (LetterStanding("D", "暂扣", "Suspended.", True, date(2021, 12, 1)),)
    assert verdict.summary == "The city has not been heard."
    assert verdict.freshness is not None
    assert verdict.freshness.source is Source.REGISTRY
    assert (verdict.freshness.as_of, verdict.freshness.city) == (NOON, 320500)
    assert (verdict.freshness.log_size, verdict.freshness.log_epoch) == (7, 2)
    assert verdict.last_known is not None
    assert (verdict.last_known.outcome, verdict.last_known.as_of) == (Outcome.VALID, NOON)
    assert verdict.given_at == NOON


async def test_a_verdict_without_a_match_has_no_freshness(node: Node) -> None:
    node.service.verdict = pb.Verdict(outcome=pb.OUTCOME_NO_MATCH)
    with connect(node.credentials(POLICE)) as client:
        verdict = await ask(client)
    assert (verdict.outcome, verdict.freshness, verdict.last_known) == (Outcome.NO_MATCH, None, None)


@pytest.mark.parametrize("outcome", [0, 99])
async def test_an_outcome_that_this_version_does_not_know_is_indeterminate(node: Node, outcome: int) -> None:
    node.service.verdict = pb.Verdict(outcome=outcome, reasons=[99])  # type: ignore[arg-type, list-item]
    with connect(node.credentials(POLICE)) as client:
        verdict = await ask(client)
    assert verdict.outcome is Outcome.INDETERMINATE
    assert verdict.reasons == (99,)


async def test_a_verdict_refuses_to_be_a_truth_value(node: Node) -> None:
    with connect(node.credentials(POLICE)) as client:
        verdict = await ask(client)
    with pytest.raises(TypeError, match=r"verdict\.valid"):
        bool(verdict)


async def test_a_batch_keeps_its_order_and_is_cut_into_calls_of_a_thousand(node: Node) -> None:
    questions = [Question(f"X{number:08}", name="张三") for number in range(2_001)]

    async with connect_async(node.credentials(POLICE)) as client:
        verdicts = await client.verify_batch(questions, purpose=Purpose.ROADSIDE_CHECK, case_number="R-17")

    assert len(verdicts) == 2_001
    assert node.service.batches == [1_000, 1_000, 1]
    assert [query.document.number for query in node.service.asked] == [question.number for question in questions]


async def test_the_sync_client_asks_in_batches_too(node: Node) -> None:
    with connect(node.credentials(POLICE)) as client:
        verdicts = await asyncio.to_thread(
            client.verify_batch, [Question(VALID_NUMBER)] * 3, purpose=Purpose.ROADSIDE_CHECK, case_number="R-17"
        )
    assert [verdict.valid for verdict in verdicts] == [True, True, True]


async def test_an_empty_batch_asks_nothing(node: Node) -> None:
    async with connect_async(node.credentials(POLICE)) as client:
        assert await client.verify_batch([], purpose=Purpose.ROADSIDE_CHECK) == []
    assert node.service.batches == []


async def test_missing_fields_come_back_by_name(node: Node) -> None:
    async with connect_async(node.credentials(RENTAL)) as client:
        with pytest.raises(errors.Malformed) as caught:
            await client.verify(VALID_NUMBER, purpose=Purpose.ROADSIDE_CHECK)
    assert {violation.field for violation in caught.value.violations} == {"context.purpose", "query.holder_name"}


@pytest.mark.parametrize(
    "error",
    [
        errors.StoreFull("the access log is full"),
        errors.StoreCorrupt("a page can not be read"),
        errors.CallerNotAllowed("not for this role"),
    ],
)
async def test_an_error_is_of_the_class_that_the_server_raised(node: Node, error: errors.Error) -> None:
    node.service.error = error
    async with connect_async(node.credentials(POLICE)) as client:
        with pytest.raises(type(error), match=error.message):
            await client.verify(VALID_NUMBER, purpose=Purpose.ROADSIDE_CHECK, case_number="R-17")
        with pytest.raises(type(error), match=error.message):
            await client.verify_batch([Question(VALID_NUMBER)], purpose=Purpose.ROADSIDE_CHECK, case_number="R-17")
    with connect(node.credentials(POLICE)) as sync_client:
        with pytest.raises(type(error), match=error.message):
            await ask(sync_client)
        with pytest.raises(type(error), match=error.message):
            await asyncio.to_thread(
                sync_client.verify_batch, [Question(VALID_NUMBER)], purpose=Purpose.ROADSIDE_CHECK, case_number="R-17"
            )


async def test_a_certificate_that_is_not_active_gets_no_answer(node: Node) -> None:
    with connect(node.credentials(POLICE, active=False)) as client, pytest.raises(errors.Unauthenticated):
        await ask(client)


async def test_a_certificate_of_another_root_does_not_get_in(node: Node) -> None:
    stranger = Node(TestAuthority(), node.service)
    stranger.address = node.address
    with connect(stranger.credentials(POLICE)) as client, pytest.raises(errors.PeerUnreachable):
        await ask(client)


async def test_a_node_that_is_away_is_named_so(node: Node) -> None:
    with connect(node.credentials(POLICE), address="127.0.0.1:1") as client, pytest.raises(errors.PeerUnreachable):
        await ask(client)


async def test_a_folder_without_credentials_is_refused_at_once(tmp_path: Path) -> None:
    with pytest.raises(errors.NotFound):
        connect(tmp_path)


def test_a_question_does_not_show_whom_it_is_about() -> None:
    assert "张三" not in repr(Question(VALID_NUMBER, name="张三"))
    assert VALID_NUMBER not in repr(Question(VALID_NUMBER, name="张三"))
