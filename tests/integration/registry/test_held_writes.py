"""A batch that is being taken in keeps nobody else waiting: what must come first is told by order, not by time."""

from __future__ import annotations

import asyncio
import threading

from sqlalchemy import Connection

from elicense.log.model import LogKey
from elicense.v1 import verification_pb2
from registry.admission import MOST_WAITING
from tests.integration.registry.world import SUZHOU, World

NUMBER = "320501199001011234"


async def test_a_verification_is_answered_while_a_batch_is_held_in_its_transaction(world: World) -> None:
    city = await world.city(SUZHOU)
    (claim,) = await city.claim(NUMBER)
    city.issue(NUMBER, claim=claim)
    await city.replicate()
    police = await world.verifier()
    held, release = threading.Event(), threading.Event()

    def hold(conn: Connection) -> None:
        # As a batch of another process does that is not through yet.
        world.store.logs.head(conn, LogKey(SUZHOU, 1), lock=True)
        held.set()
        release.wait()

    holding = asyncio.create_task(world.database.write(hold))
    await asyncio.to_thread(held.wait)
    batches = [asyncio.create_task(city.send(city.batch(1), keep_feed=False)) for _ in range(MOST_WAITING)]
    try:
        while world.node.running_calls < MOST_WAITING:  # counted by the server
            assert not any(batch.done() for batch in batches)
            await asyncio.sleep(0)
        # Its first look of the day: certificate, quota, licence and access log, all behind nothing.
        verdict = await police.ask(NUMBER)
        assert verdict.outcome == verification_pb2.OUTCOME_VALID
        assert not any(batch.done() for batch in batches)
    finally:
        release.set()
    await asyncio.gather(holding, *batches)
