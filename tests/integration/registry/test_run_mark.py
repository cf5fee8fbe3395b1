"""The mark that stops every process of one start: what only lacks decisions is compared anew, anything worse stays."""

from __future__ import annotations

import pytest

from elicense import errors
from elicense.clock import utc_micros
from elicense.workers.place import STOP_MARK, Duty, Place
from elicense.workers.stop_mark import StopMark
from registry.app import build
from tests.integration.registry.test_given_back import NUMBERS, Nation, begin, is_serving, issued
from tests.integration.registry.test_stop_mark import swap
from tests.integration.registry.world import World
from tests.support.cluster import eventually

LACKING = errors.LogBehind("the database lacks decisions")


@pytest.fixture
async def nation(world: World) -> Nation:
    return await begin(world, None)


def mark_of(nation: Nation) -> StopMark:
    return StopMark(nation.world.folder / "processes" / STOP_MARK, utc_micros)


async def serve(nation: Nation, duty: Duty = Duty.EQUAL, *, marked: errors.Error | None = None) -> StopMark:
    """Start one of several processes in the place of the lone one; return the mark of their start."""
    world, mark = nation.world, mark_of(nation)
    await world.node.stop(grace_s=0)
    folder = mark.path.parent
    folder.mkdir(exist_ok=True)
    if marked is not None:
        mark.set(marked)
    place = Place(duty=duty, number=1, count=1, run="one", folder=folder)
    world.node = await build(world.config, clock=world.clock, place=place)
    await world.node.start()
    for city in nation.cities:
        await city.close()
    return mark


async def gone(mark: StopMark) -> None:
    async def is_gone() -> bool:
        return mark.read() is None

    await eventually(is_gone)


async def decides(nation: Nation, number: str) -> None:
    await eventually(lambda: is_serving(nation))
    (claim,) = await nation.tianjin.claim(number)
    assert claim.HasField("grant")


async def test_a_process_that_ended_before_it_took_its_mark_away_stops_nobody_whose_log_is_whole(
    nation: Nation,
) -> None:
    await issued(nation.suzhou, NUMBERS[0])
    await gone(await serve(nation, marked=LACKING))
    await decides(nation, NUMBERS[1])


async def test_a_mark_that_is_left_while_a_process_decides_stops_it_no_longer_than_it_takes_to_compare(
    nation: Nation,
) -> None:
    mark = await serve(nation)
    await decides(nation, NUMBERS[0])
    mark.set(LACKING)
    await gone(mark)
    await decides(nation, NUMBERS[1])


async def test_a_registry_that_lacks_decisions_leaves_its_mark_again_whoever_took_it_away(nation: Nation) -> None:
    await nation.tianjin.claim(NUMBERS[0])
    held = await nation.mirror()
    await nation.set_back()
    mark = await serve(nation)
    assert isinstance(mark.read(), errors.LogBehind)
    mark.clear()

    async def is_back() -> bool:
        return isinstance(mark.read(), errors.LogBehind)

    await eventually(is_back)
    with pytest.raises(errors.LogBehind):
        await nation.tianjin.claim(NUMBERS[1])
    assert await nation.give(held) == len(held.entries)
    await gone(mark)
    await decides(nation, NUMBERS[1])


async def test_a_registry_that_gets_its_decisions_back_keeps_the_mark_of_two_histories(nation: Nation) -> None:
    await nation.tianjin.claim(NUMBERS[0])
    held = await nation.mirror()
    await nation.set_back()
    mark = await serve(nation)
    mark.set(errors.LogForked("the registry signed another history"))
    assert await nation.give(held) == len(held.entries)
    assert isinstance(mark.read(), errors.LogForked)
    with pytest.raises(errors.LogBehind):
        await nation.tianjin.claim(NUMBERS[1])


async def test_a_mark_of_missing_decisions_hides_no_damage(nation: Nation) -> None:
    await nation.tianjin.claim(NUMBERS[0])
    nation.world.database.write_now(lambda conn: swap(conn, b"?"))
    StopMark(nation.world.config.stop_mark_path, utc_micros).set(errors.StoreCorrupt("its database reported damage"))
    mark = await serve(nation, marked=LACKING)
    assert isinstance(mark.read(), errors.StoreCorrupt)


async def test_a_process_that_only_verifies_stops_no_other_for_what_that_one_compares_itself(nation: Nation) -> None:
    await nation.tianjin.claim(NUMBERS[0])
    await nation.set_back()
    mark = await serve(nation, Duty.VERIFIER)
    assert not await is_serving(nation)
    assert mark.read() is None
