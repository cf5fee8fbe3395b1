"""Who gets a person: every case of a claim, and licences that were issued without one."""

from __future__ import annotations

import uuid

import pytest

from elicense.clock import from_timestamp
from elicense.log import pace
from elicense.log.entry import leaf_hash
from elicense.log.model import LogKey
from elicense.log.request_queue import ENTRIES_PER_COMMIT
from elicense.v1 import log_pb2, replication_pb2, verification_pb2
from elicense.v1.license_pb2 import DOCUMENT_TYPE_RESIDENT_ID
from registry.claims import CLAIMS_PER_ENTRY
from tests.integration.registry.world import CHENGDU, SUZHOU, TIANJIN, World
from tests.support.city import City

NUMBER = "11010519491231002X"
LEASE_S = 15 * 60
#: Beyond the end of a lease, and of what a city's clock may be off.
LAPSED_S = LEASE_S + 10 * 60 + 60


def _numbers(count: int) -> list[str]:
    return [f"110105194912{position:06d}" for position in range(count)]


async def heartbeat(city: City) -> None:
    await city.send(city.batch(city.size))


async def test_a_grant_cites_an_entry_of_the_registrys_own_log(world: World) -> None:
    city = await world.city(SUZHOU)
    license_id, request_id = uuid.uuid4().bytes, uuid.uuid4().bytes
    (result,) = await city.claim(NUMBER, license_ids=[license_id], request_ids=[request_id])
    assert result.license_id == license_id
    entry = world.database.read_now(
        lambda conn: world.store.logs.entries(conn, LogKey(0, 1), result.grant.registry_index, 1)
    )[0]
    assert entry.record is not None
    assert entry.salt is not None
    assert leaf_hash(entry.salt, entry.record) == result.grant.entry_hash
    granted = log_pb2.RegistryRecord.FromString(entry.record)
    assert granted.claims_granted.city == SUZHOU
    assert granted.actor == str(city.credentials.subject)
    assert [(claim.license_id, claim.request_id) for claim in granted.claims_granted.claims] == [
        (license_id, request_id)
    ]
    assert NUMBER.encode() not in entry.record
    assert from_timestamp(granted.claims_granted.lease_end_time) == from_timestamp(result.grant.lease_end_time)


async def test_claims_of_an_import_are_answered_in_order_and_the_same_person_gets_one_license(world: World) -> None:
    city = await world.city(SUZHOU)
    numbers = [NUMBER, *_numbers(CLAIMS_PER_ENTRY), NUMBER]
    ids = [uuid.uuid4().bytes for _ in numbers]
    results = await city.claim(*numbers, license_ids=ids, bulk=True)
    assert [result.license_id for result in results] == [*ids[:-1], ids[0]]
    assert len({result.grant.registry_index for result in results}) == 2


async def test_while_somebody_claims_a_person_batches_are_wanted_small(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    # However long a slow machine takes from the claim to the next batch.
    monkeypatch.setattr(pace, "URGENT_S", 3_600.0)
    city = await world.city(SUZHOU)
    city.issue(NUMBER)
    assert not (await city.replicate()).entries_wanted
    await city.claim(*_numbers(2), bulk=True)
    assert not (await city.replicate()).entries_wanted
    await city.claim(*_numbers(3))
    assert 0 < (await city.replicate()).entries_wanted < ENTRIES_PER_COMMIT


async def test_a_repeated_claim_gets_the_live_grant_with_its_license(world: World) -> None:
    city = await world.city(SUZHOU)
    (first,) = await city.claim(NUMBER)
    for _ in range(2):
        # Another request, with another licence in mind, after a lost answer.
        assert await city.claim(NUMBER) == [first]


async def test_a_grant_that_is_nearly_over_is_renewed_for_the_same_license(world: World) -> None:
    city = await world.city(SUZHOU)
    (first,) = await city.claim(NUMBER)
    for wait_s in (LEASE_S - 60, LAPSED_S):
        world.clock.advance(seconds=wait_s)
        (renewed,) = await city.claim(NUMBER)
        assert renewed.license_id == first.license_id
        assert renewed.grant.registry_index > first.grant.registry_index
        assert from_timestamp(renewed.grant.lease_end_time) > world.clock()


async def test_a_person_leased_to_one_city_is_refused_to_another(world: World) -> None:
    suzhou, tianjin = await world.city(SUZHOU), await world.city(TIANJIN)
    await suzhou.claim(NUMBER)
    (refused,) = await tianjin.claim(NUMBER)
    assert refused.WhichOneof("result") == "held_by_city"
    assert refused.held_by_city == SUZHOU


async def test_a_person_with_a_license_is_refused_to_every_city_its_own_included(world: World) -> None:
    suzhou, tianjin = await world.city(SUZHOU), await world.city(TIANJIN)
    suzhou.issue(NUMBER, claim=(await suzhou.claim(NUMBER))[0])
    await suzhou.replicate()
    for city in (suzhou, tianjin):
        (refused,) = await city.claim(NUMBER)
        assert refused.held_by_city == SUZHOU


async def test_each_person_of_a_claim_is_granted_or_refused_alone_and_in_order(world: World) -> None:
    suzhou, tianjin = await world.city(SUZHOU), await world.city(TIANJIN)
    numbers = [f"11010519900101{number:04d}" for number in range(600)]
    await tianjin.claim(numbers[5], numbers[300])
    results = await suzhou.claim(*numbers)
    refused = [position for position, result in enumerate(results) if result.held_by_city]
    assert refused == [5, 300]
    granted = [result for result in results if result.HasField("grant")]
    # 598 grants, at most 256 in one entry.
    assert len({result.grant.registry_index for result in granted}) == 3
    assert len({result.license_id for result in granted}) == 598


async def test_the_same_person_twice_in_one_claim_gets_one_grant(world: World) -> None:
    city = await world.city(SUZHOU)
    first, second = await city.claim(NUMBER, NUMBER)
    assert first == second


async def test_an_unused_lease_lapses_only_once_the_registry_has_heard_the_city_beyond_it(world: World) -> None:
    suzhou, tianjin = await world.city(SUZHOU), await world.city(TIANJIN)
    await suzhou.claim(NUMBER)
    world.clock.advance(seconds=LAPSED_S)
    # Time alone proves nothing: Suzhou may have used the lease and be cut off.
    (refused,) = await tianjin.claim(NUMBER)
    assert refused.held_by_city == SUZHOU
    # Nor does a heartbeat that says that there is more to come.
    await suzhou.send(suzhou.batch(0, 0, tip_size=1))
    (refused,) = await tianjin.claim(NUMBER)
    assert refused.held_by_city == SUZHOU
    await heartbeat(suzhou)
    (granted,) = await tianjin.claim(NUMBER)
    assert granted.HasField("grant")
    (refused,) = await suzhou.claim(NUMBER)
    assert refused.held_by_city == TIANJIN


async def test_a_lease_that_was_used_does_not_lapse(world: World) -> None:
    suzhou, tianjin = await world.city(SUZHOU), await world.city(TIANJIN)
    suzhou.issue(NUMBER, claim=(await suzhou.claim(NUMBER))[0])
    await suzhou.replicate()
    world.clock.advance(seconds=LAPSED_S)
    await heartbeat(suzhou)
    (refused,) = await tianjin.claim(NUMBER)
    assert refused.held_by_city == SUZHOU


async def test_a_provisional_license_of_a_free_person_is_confirmed_and_then_valid(world: World) -> None:
    city = await world.city(SUZHOU)
    license_id = city.issue(NUMBER)
    await city.replicate()
    (noted,) = await city.decided(1)
    assert (noted.kind, noted.index, noted.license_id) == (
        replication_pb2.DISPOSITION_KIND_CONFIRMED,
        0,
        license_id,
    )
    verifier = await world.verifier()
    assert (await verifier.ask(NUMBER)).outcome == verification_pb2.OUTCOME_VALID
    (refused,) = await (await world.city(TIANJIN)).claim(NUMBER)
    assert refused.held_by_city == SUZHOU
    assert not world.fsck().findings


async def test_a_provisional_license_of_a_person_held_elsewhere_is_a_conflict(world: World) -> None:
    suzhou, tianjin = await world.city(SUZHOU), await world.city(TIANJIN)
    tianjin.issue(NUMBER, claim=(await tianjin.claim(NUMBER))[0])
    await tianjin.replicate()
    license_id = suzhou.issue(NUMBER)
    await suzhou.replicate()
    (noted,) = await suzhou.decided(1)
    assert (noted.kind, noted.license_id) == (replication_pb2.DISPOSITION_KIND_CONFLICT, license_id)
    # The licence that came first still counts.
    verdict = await (await world.verifier()).ask(NUMBER)
    assert (verdict.outcome, verdict.freshness.city) == (verification_pb2.OUTCOME_VALID, TIANJIN)
    assert not world.fsck().findings


async def test_of_two_provisional_licenses_of_one_person_one_counts(world: World) -> None:
    cities = [await world.city(code) for code in (SUZHOU, TIANJIN, CHENGDU)]
    for city in cities:
        city.issue(NUMBER)
        await city.replicate()
    kinds = sorted([(await city.decided(1))[0].kind for city in cities])
    assert kinds == [
        replication_pb2.DISPOSITION_KIND_CONFIRMED,
        replication_pb2.DISPOSITION_KIND_CONFLICT,
        replication_pb2.DISPOSITION_KIND_CONFLICT,
    ]
    assert not world.fsck().findings


async def test_a_provisional_license_waits_while_another_city_may_still_use_its_lease(world: World) -> None:
    suzhou, tianjin = await world.city(SUZHOU), await world.city(TIANJIN)
    await tianjin.claim(NUMBER)
    suzhou.issue(NUMBER)
    await suzhou.replicate()
    await heartbeat(suzhou)
    verdict = await (await world.verifier()).ask(NUMBER)
    assert verdict.outcome == verification_pb2.OUTCOME_INDETERMINATE
    assert verification_pb2.VERDICT_REASON_PROVISIONAL in verdict.reasons
    assert not world.fsck().findings
    world.clock.advance(seconds=LAPSED_S)
    await heartbeat(tianjin)
    await world.restart()  # at start everything that waits is looked at
    (noted,) = await suzhou.decided(1)
    assert noted.kind == replication_pb2.DISPOSITION_KIND_CONFIRMED
    assert not world.fsck().findings


async def test_a_status_change_of_a_provisional_license_does_not_make_it_count(world: World) -> None:
    suzhou, tianjin = await world.city(SUZHOU), await world.city(TIANJIN)
    await tianjin.claim(NUMBER)
    license_id = suzhou.issue(NUMBER)
    await suzhou.replicate()
    suzhou.change(license_id)
    await suzhou.replicate()
    verdict = await (await world.verifier()).ask(NUMBER)
    assert verification_pb2.VERDICT_REASON_PROVISIONAL in verdict.reasons
    assert not world.fsck().findings


async def test_a_granted_license_that_arrives_late_beats_a_provisional_one_that_came_first(world: World) -> None:
    suzhou, tianjin, chengdu = [await world.city(code) for code in (SUZHOU, TIANJIN, CHENGDU)]
    # Issued within the lease, then cut off.
    lawful = suzhou.issue(NUMBER, claim=(await suzhou.claim(NUMBER))[0])
    late = suzhou.batch(0)
    provisional = tianjin.issue(NUMBER)
    await tianjin.replicate()
    world.clock.advance(seconds=LAPSED_S)
    late.city_time.CopyFrom(suzhou.batch(0).city_time)
    await suzhou.send(late)
    await heartbeat(suzhou)
    (refused,) = await chengdu.claim(NUMBER)
    assert refused.held_by_city == SUZHOU
    (noted,) = await tianjin.decided(1)
    assert (noted.kind, noted.license_id) == (replication_pb2.DISPOSITION_KIND_CONFLICT, provisional)
    # The license that counts is contested, and nothing worse.
    (asked,) = await suzhou.decided(1)
    assert (asked.kind, asked.license_id) == (replication_pb2.DISPOSITION_KIND_CONTESTED, lawful)
    key = world.keys.persons.person_key(DOCUMENT_TYPE_RESIDENT_ID, NUMBER)
    held = world.database.read_now(lambda conn: world.store.claims.of(conn, [key]))[key]
    assert (held.city, held.license_id) == (SUZHOU, lawful)
    assert not world.fsck().findings
