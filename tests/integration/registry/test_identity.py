"""A changed identity number at the registry: what a city must have been granted, and what meets under one person."""

from __future__ import annotations

import pytest

from elicense.v1 import replication_pb2, verification_pb2
from tests.integration.registry.world import SUZHOU, TIANJIN, World
from tests.support.city import City

OLD = "11010519491231002X"
NEW = "110101199003074514"
CONFLICT = replication_pb2.DISPOSITION_KIND_CONFLICT
VALID = verification_pb2.OUTCOME_VALID


async def licensed(city: City, number: str = OLD) -> bytes:
    license_id = city.issue(number, claim=(await city.claim(number))[0])
    await city.replicate()
    return license_id


async def test_a_number_that_was_not_granted_leads_nowhere(world: World) -> None:
    suzhou, tianjin = await world.city(SUZHOU), await world.city(TIANJIN)
    police = await world.verifier()
    license_id = await licensed(suzhou)
    other = await licensed(tianjin, NEW)
    assert other != license_id
    suzhou.renumber(license_id, NEW)
    await suzhou.replicate()
    assert (await police.ask(NEW)).freshness.city == TIANJIN
    assert (await police.ask(OLD)).freshness.city == SUZHOU
    assert world.fsck().findings == ()


@pytest.mark.parametrize("number", [OLD, NEW])
async def test_a_license_issued_without_a_grant_under_either_number_is_in_conflict(world: World, number: str) -> None:
    suzhou, tianjin = await world.city(SUZHOU), await world.city(TIANJIN)
    police = await world.verifier()
    license_id = await licensed(suzhou)
    await suzhou.claim(NEW)
    suzhou.renumber(license_id, NEW)
    await suzhou.replicate()
    tianjin.issue(number)
    await tianjin.replicate()
    assert [word.kind for word in await tianjin.decided(1)] == [CONFLICT]
    for asked in (OLD, NEW):
        verdict = await police.ask(asked)
        assert (verdict.outcome, verdict.freshness.city) == (VALID, SUZHOU)
    await world.restart()
    assert world.fsck().findings == ()


async def test_a_license_that_came_in_under_the_new_number_before_the_change_meets_the_one_there_is(
    world: World,
) -> None:
    suzhou, tianjin = await world.city(SUZHOU), await world.city(TIANJIN)
    police = await world.verifier()
    license_id = await licensed(suzhou)
    await suzhou.claim(NEW)
    # While Suzhou may still use its grant, Tianjin's license waits.
    waiting = tianjin.issue(NEW)
    await tianjin.replicate()
    suzhou.renumber(license_id, NEW)
    await suzhou.replicate()
    # Its later records find it where it has moved.
    tianjin.change(waiting, ["H"])
    await tianjin.replicate()
    assert [word.kind for word in await tianjin.decided(1)] == [CONFLICT]
    for asked in (OLD, NEW):
        assert (await police.ask(asked)).freshness.city == SUZHOU
    await world.restart()
    assert world.fsck().findings == ()


async def test_a_lost_or_false_link_is_found(world: World) -> None:
    suzhou = await world.city(SUZHOU)
    license_id = await licensed(suzhou)
    await suzhou.claim(NEW)
    suzhou.renumber(license_id, NEW)
    await suzhou.replicate()
    assert world.fsck().findings == ()
    world.database.write_now(lambda conn: conn.exec_driver_sql("DELETE FROM person_link"))
    assert [finding.what for finding in world.fsck().findings] == ["1 links between documents are missing"]
