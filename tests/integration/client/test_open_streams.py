"""Streams that callers forget: each ends by itself, and one caller holds only so many."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager, suppress
from functools import cached_property
from pathlib import Path
from typing import Any

import grpc
import pytest

from elicense import errors
from elicense.client import Verdict, connect_async
from elicense.rpc.channel import secure_channel
from elicense.rpc.errors import from_rpc_error
from elicense.rpc.streams import OpenStreams
from elicense.trust.credentials import Credentials
from elicense.v1 import verification_pb2 as pb
from elicense.v1 import verification_pb2_grpc
from elicense.v1.license_pb2 import DOCUMENT_TYPE_RESIDENT_ID, IdentityDocument
from tests.integration.client.conftest import VALID_NUMBER, running_node
from tests.integration.client.test_stream import PURPOSE, numbers, questions
from tests.support.cluster import DEADLINE_S, eventually

POLICE, OTHERS = "/verifier/police/highway", "/verifier/police/city"
SHORT_S = 0.1


class SoonTiredStreams(OpenStreams):
    """Let a stream lie still for a moment only, once its first answer is out: until then a slow machine may be at work.

    The first one that is opened decides for all.
    """

    async def write(self, writing: Coroutine[Any, Any, None]) -> None:
        await super().write(writing)
        self._idle_s = SHORT_S


def chunk(count: int = 1) -> pb.StreamVerifyLicensesRequest:
    document = IdentityDocument(type=DOCUMENT_TYPE_RESIDENT_ID, number=VALID_NUMBER)
    context = pb.LookContext(purpose=pb.PURPOSE_ROADSIDE_CHECK, case_number="R-17")
    return pb.StreamVerifyLicensesRequest(queries=[pb.LicenseQuery(document=document)] * count, context=context)


class Stream:
    """One stream of a caller, opened when it is first used."""

    def __init__(self, stub: verification_pb2_grpc.VerificationServiceStub) -> None:
        self._stub = stub

    @cached_property
    def call(self) -> Any:
        return self._stub.StreamVerifyLicenses()

    async def ask(self) -> int:
        """Send a chunk and return the outcome."""
        with suppress(asyncio.InvalidStateError, grpc.aio.AioRpcError):  # it may have ended; the read says why
            await self.call.write(chunk())
        return await self.read()

    async def read(self) -> int:
        try:
            async with asyncio.timeout(DEADLINE_S):
                answer = await self.call.read()
        except grpc.aio.AioRpcError as error:
            raise from_rpc_error(error) from error
        assert answer is not grpc.aio.EOF
        outcome: int = answer.verdicts[0].outcome
        return outcome


@asynccontextmanager
async def streams(credentials: Credentials, count: int) -> AsyncIterator[list[Stream]]:
    async with secure_channel(credentials, retries=False, local_pool=True) as channel:
        stub = verification_pb2_grpc.VerificationServiceStub(channel)
        yield [Stream(stub) for _ in range(count)]


async def test_a_stream_on_which_nothing_is_asked_ends(tmp_path: Path) -> None:
    async with (
        running_node(tmp_path, SoonTiredStreams()) as node,
        streams(node.credentials(POLICE), 1) as (stream,),
    ):
        assert await stream.ask() == pb.OUTCOME_VALID
        with pytest.raises(errors.StreamIdle):
            await stream.read()


async def test_a_stream_whose_answers_nobody_reads_ends(tmp_path: Path) -> None:
    async with running_node(tmp_path, SoonTiredStreams()) as node:
        node.service.verdict = pb.Verdict(outcome=pb.OUTCOME_VALID, summary="long" * 100)
        async with streams(node.credentials(POLICE), 1) as (stream,):
            # Far more answers than fit on the way; the caller goes on sending and never reads.
            sending = asyncio.create_task(_send(stream, 200))

            async def ended() -> bool:
                return bool(node.service.streams_ended)

            await eventually(ended)
            assert len(node.service.batches) < 200
            sending.cancel()


async def _send(stream: Stream, chunks: int) -> None:
    for _ in range(chunks):
        await stream.call.write(chunk(1_000))


async def test_a_client_that_takes_its_time_over_an_answer_loses_nothing(tmp_path: Path) -> None:
    asked = questions(5_000)
    async with running_node(tmp_path, SoonTiredStreams()) as node:

        async def ended() -> bool:
            return bool(node.service.streams_ended)

        async with connect_async(node.credentials(POLICE)) as client:
            verdicts: list[Verdict] = []
            async for verdict in client.verify_many(asked, purpose=PURPOSE, case_number="R-17"):
                if not verdicts:
                    await eventually(ended)
                verdicts.append(verdict)
        assert len(verdicts) == len(asked)
        assert set(numbers(node)) == {question.number for question in asked}
        assert node.service.streams > 1


async def test_one_caller_holds_only_so_many_streams_and_takes_none_from_others(tmp_path: Path) -> None:
    async with (
        running_node(tmp_path, OpenStreams(per_caller=2)) as node,
        streams(node.credentials(POLICE), 3) as (first, second, third),
    ):
        await first.ask()
        await second.ask()
        with pytest.raises(errors.StreamsExhausted):
            await third.ask()
        async with streams(node.credentials(OTHERS), 1) as (other,):
            assert await other.ask() == pb.OUTCOME_VALID
        first.call.cancel()

        async def is_free() -> bool:
            async with streams(node.credentials(POLICE), 1) as (again,):
                try:
                    return await again.ask() == pb.OUTCOME_VALID
                except errors.StreamsExhausted:
                    return False

        await eventually(is_free)
        assert await second.ask() == pb.OUTCOME_VALID
