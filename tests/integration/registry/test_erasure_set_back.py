"""What cities erase while the registry lacks decisions: nothing is emptied before it knows whose licence it is."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from uuid import UUID

import pytest
from sqlalchemy import update

from elicense import errors
from elicense.log.model import LogKey
from elicense.v1 import license_pb2, replication_pb2, verification_pb2
from registry.postponed_store import Postponed
from registry.store import metadata
from tests.integration.registry.test_given_back import NUMBERS, Mirror, Nation, begin, issued
from tests.integration.registry.world import CHENGDU, World, running_world
from tests.support.city import City
from tests.support.cluster import eventually
from tests.support.postgres import PostgresServer

NOT_IN_CUSTODY = replication_pb2.DISPOSITION_KIND_NOT_IN_CUSTODY
ERASED = replication_pb2.DISPOSITION_KIND_ERASED
CANCELLED = license_pb2.LICENSE_EVENT_CANCELLED


@pytest.fixture
async def nation(world: World) -> Nation:
    """A nation whose registry can be set back."""
    return await begin(world, None)


@pytest.fixture(params=["sqlite", "postgresql"])
async def either(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Nation]:
    """A nation whose registry can be set back, on each kind of store."""
    if request.param == "sqlite":
        async with running_world(tmp_path) as world:
            yield await begin(world, None)
        return
    server: PostgresServer = request.getfixturevalue("postgres")
    with server.database() as url:
        async with running_world(tmp_path, database_url=url) as world:
            yield await begin(world, server)


async def handed_over(nation: Nation) -> bytes:
    """Suzhou issues a licence, and Chengdu takes it over."""
    license_id = await issued(nation.suzhou, NUMBERS[0])
    nation.suzhou.offer(license_id, CHENGDU)
    await nation.suzhou.replicate()
    nation.chengdu.take_over(license_id, nation.suzhou)
    await nation.chengdu.replicate()
    await nation.chengdu.decided(1)
    return license_id


def held(nation: Nation, city: City) -> list[bool]:
    """Which slots of a city's log the registry holds the content of."""
    world = nation.world
    entries = world.database.read_now(lambda conn: world.store.logs.entries(conn, LogKey(city.code, 1), 0, 100))
    return [entry.record is not None for entry in entries]


def waiting(nation: Nation) -> list[Postponed]:
    return nation.world.database.read_now(lambda conn: nation.world.store.postponed.page(conn, limit=100))


async def carried_out(nation: Nation) -> None:
    """Wait until nothing is postponed any more, nor marked to be scrubbed."""

    async def done() -> bool:
        marked = nation.world.database.read_now(nation.world.store.logs.erased.unscrubbed)
        return not waiting(nation) and not marked

    await eventually(done)


async def restart(nation: Nation) -> None:
    await nation.stop()
    await nation.start()


# -- a dishonest former city -------------------------------------------------------------------------------------------


def cancels_and_erases(nation: Nation, license_id: bytes) -> None:
    nation.suzhou.change(license_id, "G", event=CANCELLED)
    nation.suzhou.erase(license_id)


def claims_to_be_told(nation: Nation, license_id: bytes) -> None:
    nation.suzhou.erase(license_id, ordered_by=CHENGDU)


def withholds_what_was_taken_over(nation: Nation, license_id: bytes) -> None:
    nation.suzhou.emptied = {1}
    nation.suzhou.erase(license_id, ordered_by=CHENGDU)


def leaves_the_offer_out(nation: Nation, license_id: bytes) -> None:
    """Its next record follows the first one, as if it had never offered the licence."""
    nation.suzhou.emptied = {1}
    nation.suzhou.change(license_id, "G", event=CANCELLED, index=0)
    nation.suzhou.erase(license_id)


@pytest.mark.parametrize(
    "attack", [cancels_and_erases, claims_to_be_told, withholds_what_was_taken_over, leaves_the_offer_out]
)
async def test_a_former_city_that_erases_before_the_hand_over_is_given_back_takes_nothing_from_the_city_that_has_it(
    nation: Nation, attack: Callable[[Nation, bytes], None]
) -> None:
    await attacked(nation, attack)


async def test_a_former_city_that_erases_too_early_takes_nothing_on_postgresql_either(
    tmp_path: Path, postgres: PostgresServer
) -> None:
    with postgres.database() as url:
        async with running_world(tmp_path, database_url=url) as world:
            await attacked(await begin(world, postgres), cancels_and_erases)


async def attacked(nation: Nation, attack: Callable[[Nation, bytes], None]) -> None:
    license_id = await handed_over(nation)
    mirror = await nation.mirror()
    await nation.set_back()
    attack(nation, license_id)
    with pytest.raises(errors.DataLoss):
        await nation.tianjin.claim(NUMBERS[30])
    # The grant is back, the hand-over is not: the licence is Suzhou's, as far as the registry knows.
    assert await nation.give(mirror) == 1
    police = await nation.world.verifier()
    await nation.send_again(nation.suzhou)
    withheld = [index not in nation.suzhou.emptied for index in range(nation.suzhou.size)]
    assert held(nation, nation.suzhou) == withheld
    assert [each.license_id for each in waiting(nation)] == [license_id]
    assert (await police.ask(NUMBERS[0])).outcome != verification_pb2.OUTCOME_VALID
    assert not nation.world.fsck().findings
    await restart(nation)
    await nation.send_again(nation.chengdu)
    assert await nation.give(mirror) == len(mirror.entries)
    await carried_out(nation)
    assert held(nation, nation.suzhou) == withheld
    assert held(nation, nation.chengdu) == [True]
    assert (await police.ask(NUMBERS[0])).outcome == verification_pb2.OUTCOME_VALID
    await police.channel.close()
    nation.chengdu.change(license_id, "D")
    await nation.chengdu.replicate()
    await nation.suzhou.send(nation.suzhou.batch(nation.suzhou.size))
    last = nation.suzhou.size - 1
    told = {(word.kind, word.index) for word in nation.suzhou.feed}
    assert (ERASED, last) not in told
    await nation.tianjin.claim(NUMBERS[30])
    assert not nation.world.fsck().findings
    # It is the new city's to erase, and goes wherever it was.
    nation.chengdu.change(license_id, "G", event=CANCELLED)
    nation.chengdu.erase(license_id)
    await nation.chengdu.replicate()
    await carried_out(nation)
    assert not any(held(nation, nation.suzhou)[:2] + held(nation, nation.chengdu)[:-1])
    assert not nation.world.fsck().findings


async def test_a_registry_that_signed_two_histories_empties_nothing_until_an_operator_lets_it_go_on(
    nation: Nation,
) -> None:
    nation.keep_anchor()
    license_id = await handed_over(nation)
    mirror = await nation.mirror()
    await nation.set_back()
    await nation.sign_anew()
    with pytest.raises(errors.LogForked):
        await nation.give(mirror)
    cancels_and_erases(nation, license_id)
    await nation.send_again(nation.suzhou)
    for _ in range(2):
        assert all(held(nation, nation.suzhou))
        assert [each.license_id for each in waiting(nation)] == [license_id]
        await restart(nation)
    await nation.allow_signing()
    await carried_out(nation)
    assert not any(held(nation, nation.suzhou)[:-1])
    assert not nation.world.fsck().findings


# -- honest cities -----------------------------------------------------------------------------------------------------


async def given_back(nation: Nation, mirror: Mirror, *cities: City) -> None:
    """Cities send again and the decisions come back, the registry ending in between."""
    size = await nation.give(mirror)
    for city in cities:
        await nation.send_again(city)
        size = await nation.give(mirror, size)
        if size < len(mirror.entries):
            await restart(nation)
    assert size == len(mirror.entries)


async def test_what_its_city_erases_while_decisions_are_missing_is_gone_once_they_are_back(either: Nation) -> None:
    nation = either
    license_id = await issued(nation.suzhou, NUMBERS[0])
    await issued(nation.tianjin, NUMBERS[1])
    mirror = await nation.mirror()
    await nation.set_back()
    with pytest.raises(errors.DataLoss):
        await nation.chengdu.claim(NUMBERS[30])
    nation.suzhou.change(license_id, "G", event=CANCELLED)
    await nation.send_again(nation.suzhou)
    nation.suzhou.erase(license_id)
    await nation.suzhou.replicate()
    assert held(nation, nation.suzhou) == [True] * 3
    assert not nation.world.fsck().findings
    await restart(nation)
    assert held(nation, nation.suzhou) == [True] * 3
    await given_back(nation, mirror, nation.suzhou, nation.tianjin, nation.chengdu)
    await carried_out(nation)
    assert held(nation, nation.suzhou) == [False, False, True]
    await nation.suzhou.send(nation.suzhou.batch(nation.suzhou.size))
    assert (ERASED, 2) in {(word.kind, word.index) for word in nation.suzhou.feed}
    (claim,) = await nation.chengdu.claim(NUMBERS[0])
    assert claim.HasField("grant")
    assert not nation.world.fsck().findings


@pytest.mark.parametrize("obeyed", [True, False], ids=["the old city has obeyed", "the old city has not heard of it"])
@pytest.mark.parametrize("order", ["old first", "new first"])
async def test_a_license_that_was_erased_everywhere_is_erased_again(nation: Nation, obeyed: bool, order: str) -> None:
    license_id = await handed_over(nation)
    nation.chengdu.change(license_id, "G", event=CANCELLED)
    nation.chengdu.erase(license_id)
    await nation.chengdu.replicate()
    nation.chengdu.emptied = {0, 1}
    if obeyed:
        nation.suzhou.erase(license_id, ordered_by=CHENGDU)
        await nation.suzhou.replicate()
        nation.suzhou.emptied = {0, 1}
    # The person is free by then, the first lease long over: what is decided upon that comes back too.
    nation.world.clock.advance(seconds=3_600)
    for city in nation.cities:
        await city.send(city.batch(city.size))
    again = await issued(nation.tianjin, NUMBERS[0])
    mirror = await nation.mirror()
    await nation.set_back()
    cities = [nation.suzhou, nation.chengdu]
    await given_back(nation, mirror, *(cities if order == "old first" else cities[::-1]), nation.tianjin)
    await carried_out(nation)
    assert held(nation, nation.suzhou) == [False, False, True][: nation.suzhou.size]
    assert held(nation, nation.chengdu) == [False, False, True]
    rows = nation.world.database.read_now(lambda conn: list(nation.world.store.view.all_rows(conn)))
    assert [row.license_id for row in rows] == [again]
    if not obeyed:
        words = [(word.kind, word.other_city) for word in await nation.suzhou.decided(1)]
        assert (ERASED, CHENGDU) in words
    assert not nation.world.fsck().findings


async def test_a_license_whose_erasure_is_lost_on_both_sides_is_not_valid_and_can_be_erased_anew(
    nation: Nation,
) -> None:
    """The registry, set back, gets its take-over emptied; the city is set back before it has sent what erased it."""
    license_id = await handed_over(nation)
    nation.chengdu.change(license_id, "G", event=CANCELLED)
    await nation.chengdu.replicate()
    nation.chengdu.emptied = {0, 1}
    mirror = await nation.mirror()
    await nation.set_back()
    await given_back(nation, mirror, nation.suzhou, nation.chengdu, nation.tianjin)
    for city in nation.cities:
        await city.send(city.batch(city.size))
    police = await nation.world.verifier()
    assert (await police.ask(NUMBERS[0])).outcome == verification_pb2.OUTCOME_INVALID
    nation.chengdu.erase(license_id)
    await nation.chengdu.replicate()
    assert held(nation, nation.suzhou) == [False, False]
    assert held(nation, nation.chengdu) == [False, False, True]
    assert (await police.ask(NUMBERS[0])).outcome == verification_pb2.OUTCOME_NO_MATCH
    assert not nation.world.fsck().findings


async def test_a_grant_comes_back_behind_a_license_that_was_erased_while_its_grant_still_ran(
    nation: Nation,
) -> None:
    """Its slots come back empty, so no record uses the first grant up or ends it: the ERASED entry does."""
    license_id = await issued(nation.suzhou, NUMBERS[0])
    nation.suzhou.change(license_id, "G", event=CANCELLED)
    nation.suzhou.erase(license_id)
    await nation.suzhou.replicate()
    nation.suzhou.emptied = {0, 1}
    again = await issued(nation.tianjin, NUMBERS[0])
    mirror = await nation.mirror()
    await nation.set_back()
    await given_back(nation, mirror, nation.tianjin, nation.suzhou)
    await carried_out(nation)
    rows = nation.world.database.read_now(lambda conn: list(nation.world.store.view.all_rows(conn)))
    assert [row.license_id for row in rows] == [again]
    assert not nation.world.fsck().findings


async def test_a_postponed_erasure_that_no_entry_states_is_found(nation: Nation) -> None:
    license_id = await issued(nation.suzhou, NUMBERS[0])
    nation.suzhou.change(license_id, "G", event=CANCELLED)
    nation.suzhou.erase(license_id)
    await nation.tianjin.claim(NUMBERS[1])
    await nation.set_back()
    await nation.send_again(nation.suzhou)
    assert not nation.world.fsck().findings
    table = metadata.tables["postponed_erasure"]
    for changed in ({"license_id": UUID(int=1).bytes}, {"license_id": license_id, "idx": 1}):
        await asyncio.to_thread(
            nation.world.database.write_now, lambda conn, changed=changed: conn.execute(update(table).values(changed))
        )
        assert [f.what for f in nation.world.fsck().findings if "waits for its turn" in f.what]
