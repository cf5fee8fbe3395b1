"""Bars from applying anew at the registry: found wherever they were recorded, whoever asks, and over when they are."""

from __future__ import annotations

from datetime import timedelta

import pytest
from sqlalchemy import text

from elicense.clock import china_date
from elicense.license.civil_date import date_to_message
from elicense.v1 import license_pb2, replication_pb2, verification_pb2
from tests.integration.registry.world import SUZHOU, TIANJIN, World
from tests.support.city import City

NUMBER = "11010519491231002X"
DAY_S = 86_400
VOID = replication_pb2.DISPOSITION_KIND_VOID


async def revoke(world: World, city: City, *, days: int | None) -> bytes:
    """Have a person licensed and revoked by ``city``, barred for so many days from today, or for life."""
    license_id = city.issue(NUMBER, claim=(await city.claim(NUMBER))[0])
    until = None if days is None else china_date(world.clock()) + timedelta(days=days)
    city.change(license_id, ["F"], ban_until=until)
    await city.replicate()
    return license_id


@pytest.mark.parametrize("days", [3, None])
async def test_a_barred_person_is_refused_to_every_city_with_the_day_and_who_recorded_it(
    world: World, days: int | None
) -> None:
    suzhou, tianjin = await world.city(SUZHOU), await world.city(TIANJIN)
    await revoke(world, suzhou, days=days)
    for city in (tianjin, suzhou):
        (refused,) = await city.claim(NUMBER)
        assert refused.barred.city == SUZHOU
        assert refused.barred.HasField("until_date") is (days is not None)
        if days is not None:
            assert refused.barred.until_date == date_to_message(china_date(world.clock()) + timedelta(days=days))
    await world.restart()
    (refused,) = await tianjin.claim(NUMBER)
    assert refused.HasField("barred")
    assert world.fsck().findings == ()


async def test_once_the_bar_is_over_any_city_may_issue_and_the_old_license_stands_in_nobodys_way(world: World) -> None:
    suzhou, tianjin = await world.city(SUZHOU), await world.city(TIANJIN)
    police = await world.verifier()
    await revoke(world, suzhou, days=3)
    assert (await police.ask(NUMBER)).outcome == verification_pb2.OUTCOME_INVALID
    world.clock.advance(seconds=4 * DAY_S)
    (granted,) = await tianjin.claim(NUMBER)
    anew = tianjin.issue(NUMBER, claim=granted)
    await tianjin.replicate()
    await suzhou.replicate()
    assert not tianjin.feed
    verdict = await police.ask(NUMBER)
    assert (verdict.outcome, verdict.freshness.city) == (verification_pb2.OUTCOME_VALID, TIANJIN)
    # The old licence's later records change nothing of that.
    (held,) = await suzhou.claim(NUMBER)
    assert held.held_by_city == TIANJIN
    row = world.database.read_now(lambda conn: world.store.view.by_license(conn, anew))
    assert row is not None
    assert row.flags == 0
    assert world.fsck().findings == ()


async def test_a_correction_that_takes_a_wrong_revocation_back_takes_its_bar_back(world: World) -> None:
    suzhou, tianjin = await world.city(SUZHOU), await world.city(TIANJIN)
    police = await world.verifier()
    license_id = await revoke(world, suzhou, days=None)
    suzhou.change(license_id, [], event=license_pb2.LICENSE_EVENT_CORRECTED)
    await suzhou.replicate()
    (refused,) = await tianjin.claim(NUMBER)
    assert refused.held_by_city == SUZHOU
    assert (await police.ask(NUMBER)).outcome == verification_pb2.OUTCOME_VALID
    assert world.fsck().findings == ()


async def test_a_license_issued_without_the_registry_to_a_barred_person_is_void_and_never_valid(world: World) -> None:
    suzhou, tianjin = await world.city(SUZHOU), await world.city(TIANJIN)
    police = await world.verifier()
    await revoke(world, suzhou, days=3)
    void = tianjin.issue(NUMBER)
    await tianjin.replicate()
    (word,) = await tianjin.decided(1)
    assert (word.kind, word.license_id) == (VOID, void)
    assert f"city {SUZHOU}" in word.detail
    verdict = await police.ask(NUMBER)
    assert verdict.outcome == verification_pb2.OUTCOME_INVALID
    # Not even once the bar is over: it was void from the start, and the person is free.
    world.clock.advance(seconds=4 * DAY_S)
    await tianjin.replicate()
    assert (await police.ask(NUMBER)).outcome != verification_pb2.OUTCOME_VALID
    (granted,) = await tianjin.claim(NUMBER)
    assert granted.HasField("grant")
    assert world.fsck().findings == ()
    await world.restart()
    assert world.fsck().findings == ()


async def test_a_license_issued_without_the_registry_once_the_bar_is_over_is_confirmed(world: World) -> None:
    suzhou, tianjin = await world.city(SUZHOU), await world.city(TIANJIN)
    police = await world.verifier()
    await revoke(world, suzhou, days=3)
    world.clock.advance(seconds=4 * DAY_S)
    tianjin.issue(NUMBER)
    await tianjin.replicate()
    (word,) = await tianjin.decided(1)
    assert word.kind == replication_pb2.DISPOSITION_KIND_CONFIRMED
    assert (await police.ask(NUMBER)).outcome == verification_pb2.OUTCOME_VALID
    assert world.fsck().findings == ()


async def test_the_own_city_can_not_write_past_the_bar(world: World) -> None:
    suzhou = await world.city(SUZHOU)
    police = await world.verifier()
    await revoke(world, suzhou, days=3)
    suzhou.issue(NUMBER)
    await suzhou.replicate()
    (word,) = await suzhou.decided(1)
    assert word.kind == VOID
    assert (await police.ask(NUMBER)).outcome == verification_pb2.OUTCOME_INVALID
    assert world.fsck().findings == ()


@pytest.mark.parametrize("change", ["DELETE FROM person_ban", "UPDATE person_ban SET until_day = 1"])
async def test_fsck_notices_a_bar_that_is_not_what_the_logs_say(world: World, change: str) -> None:
    suzhou = await world.city(SUZHOU)
    await revoke(world, suzhou, days=3)
    world.database.write_now(lambda conn: conn.execute(text(change)))
    assert [finding.what for finding in world.fsck().findings] == ["the bar from applying anew differs from the logs"]
