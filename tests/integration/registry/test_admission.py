"""Which batches are read: one at a time of each city, and none of a city that has forked."""

from __future__ import annotations

import asyncio
import threading

import pytest

from elicense import errors
from registry.admission import MOST_WAITING, Admission, to_its_end
from tests.integration.registry.world import SUZHOU, TIANJIN, World
from tests.support.city import DEADLINE_S, City


async def city_of(world: World) -> City:
    city = await world.city(SUZHOU)
    for last in range(3):
        city.issue(f"{SUZHOU}19900101{last:04d}")
    await city.replicate()
    return city


async def test_nothing_is_read_of_a_city_that_has_forked(world: World) -> None:
    city = await city_of(world)
    city.salts[0] = bytes(32)
    with pytest.raises(errors.LogForked):
        await city.send(city.batch())
    evidence = world.database.read_now(lambda conn: list(world.store.evidence.all(conn)))
    city.salts[0] = bytes(31) + b"\1"
    # Whoever reads it finds a third history.
    with pytest.raises(errors.Quarantined):
        await city.send(city.batch())
    assert world.database.read_now(lambda conn: list(world.store.evidence.all(conn))) == evidence


async def test_a_batch_that_was_refused_by_mistake_does_not_keep_the_next_one_out(world: World) -> None:
    city = await city_of(world)
    honest = list(city.salts)
    city.salts[0] = bytes(31) + b"\1"
    request = city.batch(0, 3)
    city.salts[:] = honest
    # The head is the one that is held, so nothing is proved.
    request.checkpoint = city.note()
    with pytest.raises(errors.LogForked):
        await city.send(request)
    city.issue(f"{SUZHOU}199001020000")
    assert (await city.replicate()).next_index == 4


async def test_batches_of_one_city_take_turns_and_few_of_them_wait() -> None:
    admission, order = Admission(), list[str]()
    free = asyncio.Event()

    async def hold(name: str) -> None:
        async with admission.turn(SUZHOU):
            order.append(f"{name} begins")
            await free.wait()
            order.append(f"{name} ends")

    held = [asyncio.create_task(hold(str(number))) for number in range(MOST_WAITING)]
    await asyncio.sleep(0)
    with pytest.raises(errors.QueueFull):
        await hold("one more")
    async with admission.turn(TIANJIN):
        assert order == ["0 begins"]
    # One that is given up while it waits leaves its place.
    held[1].cancel()
    await asyncio.wait([held[1]])
    held[1] = asyncio.create_task(hold("last"))
    free.set()
    await asyncio.gather(*held)
    assert order == [f"{name} {what}" for name in ("0", "2", "3", "last") for what in ("begins", "ends")]


async def test_a_batch_that_is_given_up_while_it_is_read_keeps_its_turn_until_that_has_ended() -> None:
    admission, order = Admission(), list[str]()
    begun, end = threading.Event(), threading.Event()

    def read() -> None:
        begun.set()
        assert end.wait(DEADLINE_S)
        order.append("read")

    async def give_up() -> None:
        async with admission.turn(SUZHOU):
            await to_its_end(asyncio.to_thread(read))

    async def follow() -> None:
        async with admission.turn(SUZHOU):
            order.append("next")

    given_up = asyncio.create_task(give_up())
    assert await asyncio.to_thread(begun.wait, DEADLINE_S)
    given_up.cancel()
    following = asyncio.create_task(follow())
    # Every step that the two could take by themselves.
    for _ in range(10):
        await asyncio.sleep(0)
    assert order == []
    end.set()
    await asyncio.wait((given_up, following))
    assert given_up.cancelled()
    assert order == ["read", "next"]
