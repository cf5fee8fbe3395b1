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
CONFIRMED = replication_pb2.DISPOSITION_KIND_CONFIRMED
CONFLICT = replication_pb2.DISPOSITION_KIND_CONFLICT
CONTESTED = replication_pb2.DISPOSITION_KIND_CONTESTED
CORRECTED = license_pb2.LICENSE_EVENT_CORRECTED


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
    await suzhou.replicate()
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
    await suzhou.replicate()
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
    await suzhou.replicate()
    tianjin.issue(NUMBER)
    await tianjin.replicate()
    (word,) = await tianjin.decided(1)
    assert word.kind == CONFIRMED
    assert (await police.ask(NUMBER)).outcome == verification_pb2.OUTCOME_VALID
    assert world.fsck().findings == ()


async def test_a_license_issued_against_a_bar_is_void_also_when_it_arrives_after_the_bar(world: World) -> None:
    suzhou, tianjin = await world.city(SUZHOU), await world.city(TIANJIN)
    police = await world.verifier()
    await revoke(world, suzhou, days=3)
    tianjin.issue(NUMBER)
    world.clock.advance(seconds=4 * DAY_S)
    await suzhou.replicate()
    await tianjin.replicate()
    assert [word.kind for word in await tianjin.decided(1)] == [VOID]
    assert (await police.ask(NUMBER)).outcome == verification_pb2.OUTCOME_INVALID
    # What is issued now counts.
    anew = tianjin.issue(NUMBER)
    await tianjin.replicate()
    assert [word.kind for word in await tianjin.decided(2)] == [VOID, CONFIRMED]
    assert counting(world) == [anew]
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


def counting(world: World) -> list[bytes]:
    """The licences that count, by the view itself."""
    rows = world.database.read_now(lambda conn: list(world.store.view.all_rows(conn)))
    return [row.license_id for row in rows if not row.flags]


async def licensed_anew(world: World, revoking: City, licensing: City) -> tuple[bytes, bytes]:
    """Have a person licensed by one city once a bar of another is over; return the old and the new licence."""
    old = await revoke(world, revoking, days=3)
    world.clock.advance(seconds=4 * DAY_S)
    await revoking.replicate()
    anew = licensing.issue(NUMBER, claim=(await licensing.claim(NUMBER))[0])
    await licensing.replicate()
    assert counting(world) == [anew]
    return old, anew


@pytest.mark.parametrize("letters", [[], ["F"]], ids=["taken back", "barred for longer"])
async def test_a_revocation_that_is_changed_after_its_bar_never_gives_a_person_two_licenses(
    world: World, letters: list[str]
) -> None:
    suzhou, tianjin = await world.city(SUZHOU), await world.city(TIANJIN)
    police = await world.verifier()
    old, anew = await licensed_anew(world, suzhou, tianjin)
    suzhou.change(old, letters, event=CORRECTED)
    await suzhou.replicate()
    assert counting(world) == [anew]
    assert world.fsck().findings == ()
    # It is kept: both cities are asked about it.
    assert [word.kind for word in await suzhou.decided(1)] == [CONFLICT]
    assert [word.kind for word in await tianjin.decided(1)] == [CONTESTED]
    assert counting(world) == [anew]
    # Whatever comes after it changes nothing of that, and what befalls the new licence is seen.
    suzhou.change(old, [], event=CORRECTED)
    await suzhou.replicate()
    tianjin.change(anew, ["D"])
    await tianjin.replicate()
    assert (await police.ask(NUMBER)).outcome != verification_pb2.OUTCOME_VALID
    assert counting(world) == [anew]
    assert world.fsck().findings == ()
    await world.restart()
    assert world.fsck().findings == ()


async def test_a_revocation_taken_back_after_its_bar_counts_at_once_while_nobody_else_has_the_person(
    world: World,
) -> None:
    suzhou, tianjin = await world.city(SUZHOU), await world.city(TIANJIN)
    old = await revoke(world, suzhou, days=3)
    world.clock.advance(seconds=4 * DAY_S)
    suzhou.change(old, [], event=CORRECTED)
    await suzhou.replicate()
    assert counting(world) == [old]
    (refused,) = await tianjin.claim(NUMBER)
    assert refused.held_by_city == SUZHOU
    assert world.fsck().findings == ()


async def test_a_revocation_taken_back_waits_while_another_city_may_use_its_lease(world: World) -> None:
    suzhou, tianjin = await world.city(SUZHOU), await world.city(TIANJIN)
    old = await revoke(world, suzhou, days=3)
    world.clock.advance(seconds=4 * DAY_S)
    await suzhou.replicate()
    (granted,) = await tianjin.claim(NUMBER)
    suzhou.change(old, [], event=CORRECTED)
    await suzhou.replicate()
    assert counting(world) == []
    assert world.fsck().findings == ()
    anew = tianjin.issue(NUMBER, claim=granted)
    await tianjin.replicate()
    assert [word.kind for word in await suzhou.decided(1)] == [CONFLICT]
    assert counting(world) == [anew]
    assert world.fsck().findings == ()


async def test_a_revocation_taken_back_is_confirmed_once_the_next_license_is_cancelled(world: World) -> None:
    suzhou, tianjin = await world.city(SUZHOU), await world.city(TIANJIN)
    old, anew = await licensed_anew(world, suzhou, tianjin)
    tianjin.change(anew, ["G"], event=license_pb2.LICENSE_EVENT_CANCELLED)
    await tianjin.replicate()
    suzhou.change(old, [], event=CORRECTED)
    await suzhou.replicate()
    assert [word.kind for word in await suzhou.decided(1)] == [CONFIRMED]
    assert counting(world) == [old]
    assert world.fsck().findings == ()


async def test_a_license_that_is_issued_revoked_and_restored_in_one_batch_counts(world: World) -> None:
    suzhou = await world.city(SUZHOU)
    license_id = suzhou.issue(NUMBER, claim=(await suzhou.claim(NUMBER))[0])
    suzhou.change(license_id, ["F"])
    suzhou.change(license_id, [], event=CORRECTED)
    await suzhou.replicate()
    assert counting(world) == [license_id]
    assert world.fsck().findings == ()


async def test_nobody_gets_the_person_before_all_is_held_that_the_revoking_city_wrote_while_the_bar_ran(
    world: World,
) -> None:
    suzhou, tianjin = await world.city(SUZHOU), await world.city(TIANJIN)
    old = await revoke(world, suzhou, days=3)
    world.clock.advance(seconds=2 * DAY_S)
    # Cut off, Suzhou takes the revocation back in time: for its own verifiers the licence counts.
    suzhou.change(old, [], event=CORRECTED)
    world.clock.advance(seconds=2 * DAY_S)
    (refused,) = await tianjin.claim(NUMBER)
    assert refused.held_by_city == SUZHOU
    tianjin.issue(NUMBER)
    await tianjin.replicate()
    assert counting(world) == []
    assert world.fsck().findings == ()
    await suzhou.replicate()
    assert counting(world) == [old]
    assert [word.kind for word in await tianjin.decided(1)] == [CONFLICT]
    assert counting(world) == [old]
    assert world.fsck().findings == ()


async def test_a_license_issued_without_the_registry_waits_until_the_revoking_city_was_heard_of(world: World) -> None:
    suzhou, tianjin = await world.city(SUZHOU), await world.city(TIANJIN)
    await revoke(world, suzhou, days=3)
    world.clock.advance(seconds=4 * DAY_S)
    anew = tianjin.issue(NUMBER)
    await tianjin.replicate()
    assert counting(world) == []
    await suzhou.replicate()
    assert [word.kind for word in await tianjin.decided(1)] == [CONFIRMED]
    assert counting(world) == [anew]
    assert world.fsck().findings == ()


@pytest.mark.parametrize("field", ["start_date", "end_date"])
async def test_a_bar_lasts_until_its_letter_has_ended_the_license_for_good(world: World, field: str) -> None:
    suzhou, tianjin = await world.city(SUZHOU), await world.city(TIANJIN)
    license_id = suzhou.issue(NUMBER, claim=(await suzhou.claim(NUMBER))[0])
    suzhou.change(license_id, ["F"], ban_until=china_date(world.clock()))
    record = license_pb2.LicenseRecord.FromString(suzhou.records[-1])
    later = date_to_message(china_date(world.clock()) + timedelta(days=30))
    getattr(record.license.status_letters[0], field).CopyFrom(later)
    suzhou.records[-1] = record.SerializeToString()
    world.clock.advance(seconds=2 * DAY_S)
    await suzhou.replicate()
    (refused,) = await tianjin.claim(NUMBER)
    assert refused.HasField("barred")
