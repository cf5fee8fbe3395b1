"""Streams of questions at a real registry: each chunk a look of its own."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing, suppress

import grpc
import pytest

from elicense import errors
from elicense.access.entry import START
from elicense.rpc.channel import secure_channel
from elicense.rpc.errors import from_rpc_error
from elicense.sql.database import Database
from elicense.v1 import verification_pb2 as pb
from elicense.v1 import verification_pb2_grpc
from elicense.v1.license_pb2 import DOCUMENT_TYPE_RESIDENT_ID, IdentityDocument
from registry.app import build
from registry.store import access_store
from tests.integration.registry.test_watch import NUMBER, OTHER, channel, credentials
from tests.integration.registry.world import SUZHOU, World
from tests.support.city import DEADLINE_S, City


@pytest.fixture
async def city(world: World) -> City:
    suzhou = await world.city(SUZHOU)
    suzhou.issue(NUMBER, claim=(await suzhou.claim(NUMBER))[0])
    await suzhou.replicate()
    return suzhou


def chunk(*numbers: str) -> pb.StreamVerifyLicensesRequest:
    queries = [
        pb.LicenseQuery(document=IdentityDocument(type=DOCUMENT_TYPE_RESIDENT_ID, number=number)) for number in numbers
    ]
    context = pb.LookContext(purpose=pb.PURPOSE_ROADSIDE_CHECK, case_number="case-1")
    return pb.StreamVerifyLicensesRequest(queries=queries, context=context)


class Stream:
    """One stream; ``ask`` sends a chunk and waits for its answer."""

    def __init__(self, opened: grpc.aio.Channel) -> None:
        self.call = verification_pb2_grpc.VerificationServiceStub(opened).StreamVerifyLicenses()

    async def ask(self, *numbers: str) -> list[int]:
        with suppress(asyncio.InvalidStateError, grpc.aio.AioRpcError):  # it may have ended; the answer says why
            async with asyncio.timeout(DEADLINE_S):
                await self.call.write(chunk(*numbers))
        return await self.answer()

    async def answer(self) -> list[int]:
        try:
            async with asyncio.timeout(DEADLINE_S):
                response = await self.call.read()
        except grpc.aio.AioRpcError as error:
            raise from_rpc_error(error) from error
        assert response is not grpc.aio.EOF
        return [verdict.outcome for verdict in response.verdicts]


@pytest.fixture
async def stream(world: World, city: City) -> AsyncIterator[Stream]:
    async with channel(world) as opened:
        asking = Stream(opened)
        yield asking
        asking.call.cancel()


async def test_each_chunk_is_one_look_that_is_recorded_before_it_is_answered(world: World, stream: Stream) -> None:
    assert await stream.ask(NUMBER, OTHER, NUMBER) == [pb.OUTCOME_VALID, pb.OUTCOME_NO_MATCH, pb.OUTCOME_VALID]
    assert await stream.ask(OTHER) == [pb.OUTCOME_NO_MATCH]
    database = Database(world.config.access_log.url)
    try:
        looks = database.read_now(lambda conn: access_store().looks.after(conn, "registry", START, 10))
    finally:
        database.close()
    assert [(look.entry.method, look.entry.outcomes) for look in looks] == [
        ("StreamVerifyLicenses", bytes([pb.OUTCOME_VALID, pb.OUTCOME_NO_MATCH, pb.OUTCOME_VALID])),
        ("StreamVerifyLicenses", bytes([pb.OUTCOME_NO_MATCH])),
    ]


async def test_a_stream_spends_the_quota_of_its_verifier_chunk_by_chunk(stream: Stream) -> None:
    # A police unit may look at one person a thousand times a day.
    assert await stream.ask(*[NUMBER] * 999) == [pb.OUTCOME_VALID] * 999
    assert await stream.ask(NUMBER) == [pb.OUTCOME_VALID]
    with pytest.raises(errors.QuotaExceeded):
        await stream.ask(NUMBER)


async def test_whoever_is_revoked_asks_nothing_more(world: World, city: City) -> None:
    held = await credentials(world, "highway")
    async with secure_channel(held, retries=False, local_pool=True) as opened:
        stream = Stream(opened)
        await stream.ask(NUMBER)
        with closing(sqlite3.connect(world.config.node.data_dir / "registry.db", timeout=10)) as database, database:
            database.execute("UPDATE certificate SET state = 2 WHERE subject = ?", (str(held.subject),))
        world.clock.advance(seconds=2)
        with pytest.raises(errors.Unauthenticated):
            await stream.ask(NUMBER)


async def test_the_end_of_the_server_ends_a_stream_that_waits(world: World, stream: Stream) -> None:
    await stream.ask(NUMBER)
    async with asyncio.timeout(DEADLINE_S):
        await world.node.stop(grace_s=10 * DEADLINE_S)
    with pytest.raises(errors.Unavailable):
        await stream.answer()
    world.node = await build(world.config, clock=world.clock)
    await world.node.start()
