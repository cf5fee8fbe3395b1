"""A changed identity number at the registry: what a city must have been granted, and what meets under one person."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from functools import partial

import pytest

from elicense.errors import Aborted
from elicense.license.identity_change import MAX_EARLIER_DOCUMENTS
from elicense.v1 import license_pb2, replication_pb2, verification_pb2
from registry.handovers import Refusal
from tests.integration.registry.test_conflicts import WITHDRAW, open_dispute
from tests.integration.registry.world import CHENGDU, SUZHOU, TIANJIN, World, stand_and_wait
from tests.support.city import City
from tests.support.cluster import eventually

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
    suzhou.renumber(license_id, NEW, (await suzhou.claim(NEW))[0])
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
    (grant,) = await suzhou.claim(NEW)
    # While Suzhou may still use its grant, Tianjin's license waits.
    waiting = tianjin.issue(NEW)
    await tianjin.replicate()
    suzhou.renumber(license_id, NEW, grant)
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
    suzhou.renumber(license_id, NEW, (await suzhou.claim(NEW))[0])
    await suzhou.replicate()
    assert world.fsck().findings == ()
    world.database.write_now(lambda conn: conn.exec_driver_sql("DELETE FROM person_link"))
    assert [finding.what for finding in world.fsck().findings] == ["1 links between documents are missing"]


async def test_a_grant_that_was_used_for_another_license_links_nothing(world: World) -> None:
    suzhou = await world.city(SUZHOU)
    police = await world.verifier()
    license_id = await licensed(suzhou)
    (grant,) = await suzhou.claim(NEW)
    other = suzhou.issue(NEW, claim=grant)
    suzhou.renumber(license_id, NEW, grant)
    await suzhou.replicate()
    for asked in (OLD, NEW):
        assert (await police.ask(asked)).outcome == VALID
    assert await held_under(world, NEW) == {other}
    assert world.fsck().findings == ()


async def test_a_grant_that_comes_later_links_nothing_that_was_refused_before(world: World) -> None:
    suzhou = await world.city(SUZHOU)
    license_id = await licensed(suzhou)
    suzhou.renumber(license_id, NEW)
    await suzhou.replicate()
    (grant,) = await suzhou.claim(NEW)
    suzhou.change(license_id, ["H"])
    await suzhou.replicate()
    other = suzhou.issue(NEW, claim=grant)
    await suzhou.replicate()
    assert await held_under(world, NEW) == {other}
    assert world.fsck().findings == ()


@pytest.mark.parametrize("taken", [False, True])
async def test_a_number_whose_grant_was_lost_leads_to_the_driver_unless_somebody_else_has_it(
    world: World, taken: bool
) -> None:
    suzhou, tianjin = await world.city(SUZHOU), await world.city(TIANJIN)
    police = await world.verifier()
    license_id = await licensed(suzhou)
    if taken:
        await licensed(tianjin, NEW)
    lost = replication_pb2.ClaimResult()
    lost.grant.registry_epoch, lost.grant.registry_index = 1, 1_000
    suzhou.renumber(license_id, NEW, lost)
    await suzhou.replicate()
    assert (await police.ask(NEW)).freshness.city == (TIANJIN if taken else SUZHOU)
    assert (await police.ask(OLD)).freshness.city == SUZHOU
    assert world.fsck().findings == ()


async def test_what_follows_a_change_in_one_batch_is_of_the_same_person(world: World) -> None:
    suzhou = await world.city(SUZHOU)
    police = await world.verifier()
    license_id = await licensed(suzhou)
    (grant,) = await suzhou.claim(NEW)
    suzhou.renumber(license_id, NEW, grant)
    suzhou.change(license_id, ["G"], event=license_pb2.LICENSE_EVENT_CANCELLED)
    again = suzhou.issue(NEW, claim=grant, license_id=b"the next license")
    await suzhou.replicate()
    assert [word.kind for word in await suzhou.decided(1)] == [replication_pb2.DISPOSITION_KIND_CONFIRMED]
    for asked in (OLD, NEW):
        assert (await police.ask(asked)).outcome == VALID
        assert await held_under(world, asked) == {license_id, again}
    assert world.fsck().findings == ()


async def test_a_record_with_too_many_earlier_documents_has_no_effect(world: World) -> None:
    suzhou = await world.city(SUZHOU)
    license_id = await licensed(suzhou)
    message = license_pb2.LicenseRecord.FromString(suzhou.records[-1])
    message.earlier_documents.extend([message.license.holder.document] * (MAX_EARLIER_DOCUMENTS + 1))
    suzhou.append(message.SerializeToString())
    await suzhou.replicate()
    assert [word.kind for word in await suzhou.decided(1)] == [replication_pb2.DISPOSITION_KIND_UNREADABLE]
    assert await held_under(world, OLD) == {license_id}
    assert world.fsck().findings == ()


async def test_a_conflict_under_the_new_number_is_decided_for_the_person_under_both(world: World) -> None:
    dispute = await open_dispute(world)
    suzhou, tianjin = dispute.suzhou, dispute.tianjin
    await dispute.say(tianjin, WITHDRAW)
    suzhou.renumber(dispute.held, NEW, (await suzhou.claim(NEW))[0])
    await suzhou.replicate()
    dispute.waiting = tianjin.issue(NEW)
    await tianjin.replicate()
    await tianjin.decided(3)
    await dispute.say(suzhou, WITHDRAW)
    await suzhou.decided(4)
    await suzhou.send(suzhou.batch(suzhou.size))
    await tianjin.decided(4)
    for asked in (OLD, NEW):
        verdict = await dispute.police.ask(asked)
        assert (verdict.outcome, verdict.freshness.city) == (VALID, TIANJIN)
    dispute.check()


async def test_what_was_decided_and_offered_under_the_new_number_follows_the_person(world: World) -> None:
    suzhou, tianjin = await world.city(SUZHOU), await world.city(TIANJIN)
    chengdu = await world.city(CHENGDU)
    license_id = await licensed(suzhou)
    # Confirmed, contested, settled, offered and ended: whatever the registry may have kept of a person.
    ended = tianjin.issue(NEW)
    await tianjin.replicate()
    await tianjin.decided(1)
    lost = chengdu.issue(NEW)
    await chengdu.replicate()
    await chengdu.decided(1)
    chengdu.change(lost, ["G"], event=license_pb2.LICENSE_EVENT_CANCELLED)
    await chengdu.replicate()
    tianjin.offer(ended, CHENGDU)
    tianjin.change(ended, ["G"], event=license_pb2.LICENSE_EVENT_CANCELLED, offered_to_city=CHENGDU)
    await tianjin.replicate()
    suzhou.renumber(license_id, NEW, (await suzhou.claim(NEW))[0])
    await suzhou.replicate()
    old = world.keys.persons.person_key(license_pb2.DOCUMENT_TYPE_RESIDENT_ID, OLD)
    store, read = world.store, world.database.read_now
    assert {ruling.person_key for ruling in read(store.rulings.all)} == {old}
    assert {conflict.person_key for conflict in read(store.conflicts.all)} == {old}
    assert {offer.person_key for offer in read(lambda conn: store.transfers.offers_of(conn, [ended]))} == {old}
    assert world.fsck().findings == ()


async def test_a_take_over_that_waits_under_the_new_number_follows_the_person(world: World) -> None:
    suzhou, tianjin = await world.city(SUZHOU), await world.city(TIANJIN)
    chengdu = await world.city(CHENGDU)
    license_id = await licensed(suzhou)
    (grant,) = await suzhou.claim(NEW)
    # Tianjin's license waits for the grant's end, and Chengdu's take-over for what Tianjin has not sent.
    waiting = tianjin.issue(NEW)
    await tianjin.replicate()
    tianjin.offer(waiting, CHENGDU)
    chengdu.take_over(waiting, tianjin)
    await chengdu.replicate()
    suzhou.renumber(license_id, NEW, grant)
    await suzhou.replicate()
    old = world.keys.persons.person_key(license_pb2.DOCUMENT_TYPE_RESIDENT_ID, OLD)
    (arrival,) = world.database.read_now(lambda conn: world.store.transfers.arrivals(conn, limit=10))
    assert arrival.person_key == old
    assert world.fsck().findings == ()
    await tianjin.replicate()
    (word,) = await chengdu.decided(1)
    assert word.detail == Refusal.DOUBTFUL.value
    assert world.fsck().findings == ()


@pytest.mark.parametrize("first", [SUZHOU, TIANJIN])
async def test_on_postgres_a_revision_that_comes_together_with_the_link_is_kept(
    world_on_postgres: World, first: int
) -> None:
    world = world_on_postgres
    suzhou, tianjin = await world.city(SUZHOU), await world.city(TIANJIN)
    license_id = await licensed(suzhou)
    (grant,) = await suzhou.claim(NEW)
    waiting = tianjin.issue(NEW)
    await tianjin.replicate()
    suzhou.renumber(license_id, NEW, grant)
    tianjin.change(waiting, ["H"])
    key = world.keys.persons.person_key(license_pb2.DOCUMENT_TYPE_RESIDENT_ID, NEW)
    engine = world.database._writing
    sending = []
    with engine.connect() as holder:
        # Both batches run into the claim of the person, one behind the other, and go on as this is let go.
        world.store.claims.of(holder, [key], lock=True)
        for count, city in enumerate(sorted((suzhou, tianjin), key=lambda city: city.code != first), 1):
            sending.append(asyncio.create_task(city.replicate()))
            await eventually(partial(stand_and_wait, world, count))
        holder.rollback()
    with suppress(Aborted):
        await asyncio.gather(*sending)
    await asyncio.gather(*sending, return_exceptions=True)
    for city in (suzhou, tianjin):
        await city.replicate()
    assert [word.kind for word in await tianjin.decided(1)] == [CONFLICT]
    assert await held_under(world, OLD) == await held_under(world, NEW) == {license_id, waiting}
    assert world.fsck().findings == ()


async def held_under(world: World, number: str) -> set[bytes]:
    """Every licence that a number leads to."""
    key = world.keys.persons.person_key(license_pb2.DOCUMENT_TYPE_RESIDENT_ID, number)
    rows = await world.database.read(lambda conn: world.store.view.by_document(conn, [key]))
    return {row.license_id for row in rows.get(key, [])}
