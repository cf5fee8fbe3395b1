"""How fresh answers are, by a clock that the tests set."""

from __future__ import annotations

import pytest

from elicense.clock import from_timestamp, to_timestamp
from elicense.v1 import verification_pb2 as pb
from tests.integration.registry.world import SUZHOU, TIANJIN, Verifier, World
from tests.support.city import City

NUMBER = "11010519491231002X"


@pytest.fixture
async def city(world: World) -> City:
    """Suzhou with one licence that counts."""
    suzhou = await world.city(SUZHOU)
    suzhou.issue(NUMBER, claim=(await suzhou.claim(NUMBER))[0])
    await suzhou.replicate()
    return suzhou


@pytest.fixture
async def police(world: World) -> Verifier:
    return await world.verifier()


def as_of(verdict: pb.Verdict) -> int:
    return from_timestamp(verdict.freshness.as_of_time)


async def test_an_answer_says_who_vouches_for_it_and_up_to_when(world: World, city: City, police: Verifier) -> None:
    verdict = await police.ask(NUMBER)
    assert verdict.outcome == pb.OUTCOME_VALID
    assert verdict.freshness.source == pb.SOURCE_REGISTRY
    assert (verdict.freshness.city, verdict.freshness.log_size, verdict.freshness.log_epoch) == (SUZHOU, 1, 1)
    assert as_of(verdict) <= world.clock()


async def test_a_heartbeat_makes_answers_fresh_again(world: World, city: City, police: Verifier) -> None:
    before = as_of(await police.ask(NUMBER))
    world.clock.advance(seconds=300)
    await city.send(city.batch(city.size))
    # The cached state may be a second old; the clock of the test goes on.
    world.clock.advance(seconds=1)
    assert as_of(await police.ask(NUMBER)) >= before + 300 * 1_000_000


async def test_a_fast_clock_does_not_vouch_for_what_was_recorded_while_the_call_was_under_way(
    world: World, city: City, police: Verifier
) -> None:
    left = world.clock() + 5_000_000
    ahead = {"city_time": to_timestamp(left + 300_000_000), "registry_time": to_timestamp(left)}
    call = city.batch(city.size)
    for name, time in ahead.items():
        getattr(call, name).CopyFrom(time)
    # The call is on its way for twenty seconds, in which the city may have suspended the licence.
    world.clock.advance(seconds=25)
    await city.send(call)
    world.clock.advance(seconds=1)
    assert as_of(await police.ask(NUMBER)) == left


async def test_a_city_unheard_for_too_long_is_indeterminate_with_what_was_last_known(
    world: World, city: City, police: Verifier
) -> None:
    world.clock.advance(seconds=601)
    verdict = await police.ask(NUMBER)
    assert verdict.outcome == pb.OUTCOME_INDETERMINATE
    assert pb.VERDICT_REASON_CITY_STALE in verdict.reasons
    assert verdict.last_known.outcome == pb.OUTCOME_VALID
    assert not verdict.drivable_classes
    await city.send(city.batch(city.size))
    world.clock.advance(seconds=1)
    assert (await police.ask(NUMBER)).outcome == pb.OUTCOME_VALID


async def test_a_city_with_unsent_records_is_only_as_fresh_as_the_last_record_held(
    world: World, city: City, police: Verifier
) -> None:
    written_us = world.clock()
    world.clock.advance(seconds=700)
    city.issue("44052418800101001X")
    # The city says that it has one entry more than the registry holds.
    await city.send(city.batch(1, 1))
    world.clock.advance(seconds=1)
    verdict = await police.ask(NUMBER)
    assert verdict.outcome == pb.OUTCOME_INDETERMINATE
    assert as_of(verdict) <= written_us


async def test_a_city_with_a_fast_clock_is_not_fresher_than_the_registrys_own_clock(
    world: World, city: City, police: Verifier
) -> None:
    request = city.batch(city.size)
    request.city_time.seconds += 500
    await city.send(request)
    world.clock.advance(seconds=1)
    verdict = await police.ask(NUMBER)
    assert as_of(verdict) <= world.clock()
    world.clock.advance(seconds=601)
    assert (await police.ask(NUMBER)).outcome == pb.OUTCOME_INDETERMINATE


async def test_a_stale_city_does_not_show_in_an_answer_about_nobody(world: World, city: City, police: Verifier) -> None:
    world.clock.advance(seconds=3_600)
    unknown = await police.ask("44052418800101001X")
    wrong_name = await police.ask(NUMBER, name="李四")
    for verdict in (unknown, wrong_name):
        verdict.ClearField("verdict_time")
    assert unknown == wrong_name
    assert unknown.outcome == pb.OUTCOME_NO_MATCH
    assert not unknown.HasField("freshness")


async def test_a_status_change_is_seen_with_the_batch_that_brings_it(
    world: World, city: City, police: Verifier
) -> None:
    issued = (await police.ask(NUMBER)).outcome
    license_id = _license_of(city)
    city.change(license_id, ["G"])
    await city.replicate()
    suspended = await police.ask(NUMBER)
    assert (issued, suspended.outcome) == (pb.OUTCOME_VALID, pb.OUTCOME_INVALID)
    assert pb.VERDICT_REASON_STATUS_LETTER in suspended.reasons
    assert not world.fsck().findings


async def test_one_stale_city_does_not_make_another_stale(world: World, city: City, police: Verifier) -> None:
    tianjin = await world.city(TIANJIN)
    other = "44052418800101001X"
    tianjin.issue(other, claim=(await tianjin.claim(other))[0])
    await tianjin.replicate()
    world.clock.advance(seconds=601)
    await tianjin.send(tianjin.batch(tianjin.size))
    world.clock.advance(seconds=1)
    assert (await police.ask(other)).outcome == pb.OUTCOME_VALID
    assert (await police.ask(NUMBER)).outcome == pb.OUTCOME_INDETERMINATE


def _license_of(city: City) -> bytes:
    from elicense.v1.license_pb2 import LicenseRecord

    return LicenseRecord.FromString(city.records[0]).license_id
