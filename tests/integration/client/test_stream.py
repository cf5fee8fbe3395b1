"""Asking about any number of licences over one stream."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import aclosing

import pytest

from elicense import errors
from elicense.client import Purpose, Question, connect, connect_async
from elicense.client.stream import AHEAD
from tests.integration.client.conftest import Node

POLICE, RENTAL = "/verifier/police/highway", "/verifier/rental/cars"
PURPOSE = Purpose.ROADSIDE_CHECK


def questions(count: int) -> list[Question]:
    return [Question(f"X{number:08}") for number in range(count)]


def numbers(node: Node) -> list[str]:
    return [query.document.number for query in node.service.asked]


@pytest.mark.parametrize("count", [0, 1, 1_000, 5_001])
async def test_every_question_is_answered_once_and_in_order(node: Node, count: int) -> None:
    asked = questions(count)
    async with connect_async(node.credentials(POLICE)) as client:
        verdicts = [each async for each in client.verify_many(asked, purpose=PURPOSE, case_number="R-17")]
    assert len(verdicts) == count
    assert numbers(node) == [question.number for question in asked]
    assert node.service.streams == min(count, 1)


async def test_the_sync_client_streams_too(node: Node) -> None:
    with connect(node.credentials(POLICE)) as client:
        verdicts = await asyncio.to_thread(
            lambda: list(client.verify_many(questions(2_500), purpose=PURPOSE, case_number="R-17"))
        )
    assert len(verdicts) == 2_500
    assert node.service.batches == [1_000, 1_000, 500]


async def test_questions_are_taken_only_as_answers_are(node: Node) -> None:
    taken = 0

    def endless() -> Iterator[Question]:
        nonlocal taken
        while True:
            taken += 1
            yield Question(f"X{taken:08}")

    async with connect_async(node.credentials(POLICE)) as client:
        stream = client.verify_many(endless(), purpose=PURPOSE, case_number="R-17")
        async with aclosing(stream):
            await anext(stream)
            assert taken <= (AHEAD + 1) * 1_000


async def test_a_stream_that_a_server_ends_goes_on_with_what_was_not_answered(node: Node) -> None:
    node.service.chunks_a_stream = 2
    asked = questions(5_000)
    async with connect_async(node.credentials(POLICE)) as client:
        verdicts = [each async for each in client.verify_many(asked, purpose=PURPOSE, case_number="R-17")]
    assert len(verdicts) == 5_000
    assert numbers(node) == [question.number for question in asked]
    assert node.service.streams == 3
    with connect(node.credentials(POLICE)) as sync_client:
        again = await asyncio.to_thread(
            lambda: list(sync_client.verify_many(asked, purpose=PURPOSE, case_number="R-17"))
        )
    assert len(again) == 5_000


async def test_a_chunk_that_the_role_may_not_ask_ends_the_stream_with_its_fault(node: Node) -> None:
    async with connect_async(node.credentials(RENTAL)) as client:
        with pytest.raises(errors.Malformed) as caught:
            await anext(client.verify_many(questions(1), purpose=PURPOSE))
    assert "context.purpose" in {violation.field for violation in caught.value.violations}
