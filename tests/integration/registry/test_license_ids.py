"""A licence id is each city's own choice: one that takes another city's reads, ends and erases nothing of it."""

from __future__ import annotations

from dataclasses import dataclass

import grpc
import pytest

from elicense import errors
from elicense.log.model import LogKey
from elicense.rpc.channel import secure_channel
from elicense.rpc.errors import from_rpc_error
from elicense.v1 import custody_pb2, custody_pb2_grpc, license_pb2, log_pb2, verification_pb2
from tests.integration.registry.test_conflicts import NUMBER as DISPUTED
from tests.integration.registry.test_conflicts import WITHDRAW, Dispute, dispute
from tests.integration.registry.test_past import ask
from tests.integration.registry.world import CHENGDU, SUZHOU, TIANJIN, Verifier, World
from tests.support.city import DEADLINE_S, City

__all__ = ["dispute"]

HOLDER = "11010519491231002X"
OTHER = "110101199003074514"
NOBODY = "44052418800101001X"


@dataclass
class Twins:
    """A licence of one city, and one of another city for another person that has the same id."""

    world: World
    honest: City
    greedy: City
    police: Verifier
    license_id: bytes

    async def read(self, reader: City, city: int) -> license_pb2.LicenseRecord:
        """Read the first record of the licence in a city's log, as another city."""
        where = log_pb2.LogPosition(city=city, epoch=1, index=0)
        request = custody_pb2.GetHistoryRecordRequest(license_id=self.license_id, position=where)
        async with secure_channel(reader.credentials, retries=False, local_pool=True) as channel:
            stub = custody_pb2_grpc.CustodyServiceStub(channel)
            try:
                found = await stub.GetHistoryRecord(request, timeout=DEADLINE_S)
            except grpc.aio.AioRpcError as error:
                raise from_rpc_error(error) from error
        return license_pb2.LicenseRecord.FromString(found.entry.record)


@pytest.fixture(params=[(SUZHOU, TIANJIN), (TIANJIN, SUZHOU)], ids=["smaller code", "larger code"])
async def twins(world: World, request: pytest.FixtureRequest) -> Twins:
    honest, greedy = [await world.city(code) for code in request.param]
    license_id = honest.issue(HOLDER, claim=(await honest.claim(HOLDER))[0])
    await honest.replicate()
    greedy.issue(OTHER, claim=(await greedy.claim(OTHER))[0], license_id=license_id)
    await greedy.replicate()
    return Twins(world, honest, greedy, await world.verifier(), license_id)


async def test_a_city_reads_no_record_of_another_city_by_taking_its_license_id(twins: Twins) -> None:
    for reader, other in ((twins.greedy, twins.honest), (twins.honest, twins.greedy)):
        own = await twins.read(reader, reader.code)
        assert own.city == reader.code
        with pytest.raises(errors.LicenseNotFound):
            await twins.read(reader, other.code)


async def test_a_city_that_erases_its_license_leaves_another_citys_of_the_same_id(twins: Twins) -> None:
    world, honest, greedy = twins.world, twins.honest, twins.greedy
    greedy.change(twins.license_id, ["G"], event=license_pb2.LICENSE_EVENT_CANCELLED)
    erased = greedy.erase(twins.license_id)
    await greedy.replicate()
    (left,) = world.database.read_now(world.store.view.all_rows)
    assert left.city == honest.code
    history = world.database.read_now(lambda conn: world.store.view.history(conn, [twins.license_id]))
    assert [revision.city for revision in history[twins.license_id]] == [honest.code]
    held = world.database.read_now(
        lambda conn: world.store.logs.entries(conn, LogKey(greedy.code, 1), 0, 10, max_bytes=10**6)
    )
    assert [entry.record is None for entry in held] == [True, True, False]
    assert erased == 2
    assert (await twins.police.ask(HOLDER)).outcome == verification_pb2.OUTCOME_VALID
    assert (await twins.police.ask(OTHER)).outcome == verification_pb2.OUTCOME_NO_MATCH
    honest.change(twins.license_id, ["F"])
    await honest.replicate()
    assert (await twins.police.ask(HOLDER)).outcome == verification_pb2.OUTCOME_INVALID
    assert world.fsck().findings == ()


async def test_the_past_of_a_license_is_not_that_of_another_citys_with_the_same_id(twins: Twins) -> None:
    world, honest, greedy = twins.world, twins.honest, twins.greedy
    honest.change(twins.license_id, ["D"])
    await honest.replicate()
    world.clock.advance(seconds=5)
    # The other licence has moved on since, and carries no letter.
    for _ in range(3):
        greedy.change(twins.license_id, [])
    await greedy.replicate()
    moment = world.clock()
    world.clock.advance(seconds=60)
    for city in (honest, greedy):
        await city.send(city.batch(city.size))
    outcomes = [(await ask(twins.police, number, at=moment)).verdict.outcome for number in (HOLDER, OTHER)]
    assert outcomes == [verification_pb2.OUTCOME_INVALID, verification_pb2.OUTCOME_VALID]


async def test_a_ruling_against_a_license_leaves_the_past_of_anothers_with_the_same_id_certain(world: World) -> None:
    suzhou, tianjin = await world.city(SUZHOU), await world.city(TIANJIN)
    police = await world.verifier()
    license_id = suzhou.issue(HOLDER, claim=(await suzhou.claim(HOLDER))[0])
    suzhou.issue(OTHER, claim=(await suzhou.claim(OTHER))[0])
    await suzhou.replicate()
    world.clock.advance(seconds=60)
    # Issued without a grant to whom Suzhou has, under the id of another driver's license.
    tianjin.issue(OTHER, license_id=license_id)
    await tianjin.replicate()
    await tianjin.decided(1)
    world.clock.advance(seconds=60)
    moment = world.clock()
    world.clock.advance(seconds=1)
    for city in (suzhou, tianjin):
        await city.send(city.batch(city.size))
    for number in (HOLDER, OTHER):
        assert (await ask(police, number, at=moment)).verdict.outcome == verification_pb2.OUTCOME_VALID
    assert world.fsck().findings == ()


async def test_a_license_that_was_ruled_on_is_erased_with_the_rulings_on_it(world: World) -> None:
    tianjin = await world.city(TIANJIN)
    license_id = tianjin.issue(OTHER)
    await tianjin.replicate()
    await tianjin.decided(1)
    assert world.database.read_now(world.store.rulings.all)
    tianjin.change(license_id, ["G"], event=license_pb2.LICENSE_EVENT_CANCELLED)
    tianjin.erase(license_id)
    await tianjin.replicate()
    assert world.database.read_now(world.store.rulings.all) == []
    assert world.fsck().findings == ()


async def test_two_cities_offer_licenses_of_one_id_to_a_third_and_each_ends_its_own(twins: Twins) -> None:
    world, honest, greedy = twins.world, twins.honest, twins.greedy
    chengdu = await world.city(CHENGDU)
    for city in (honest, greedy):
        city.offer(twins.license_id, CHENGDU)
        await city.replicate()
    offers = world.database.read_now(lambda conn: world.store.transfers.offers_of(conn, [twins.license_id]))
    assert {offer.from_city for offer in offers} == {SUZHOU, TIANJIN}
    greedy.offer(twins.license_id, 0)
    await greedy.replicate()
    (offer,) = world.database.read_now(lambda conn: world.store.transfers.offers_of(conn, [twins.license_id]))
    assert offer.from_city == honest.code
    assert world.fsck().findings == ()
    greedy.offer(twins.license_id, CHENGDU)
    await greedy.replicate()
    chengdu.take_over(twins.license_id, honest)
    await chengdu.replicate()
    await chengdu.decided(1)
    (offer,) = world.database.read_now(lambda conn: world.store.transfers.offers_of(conn, [twins.license_id]))
    assert offer.from_city == greedy.code
    rows = world.database.read_now(world.store.view.all_rows)
    assert {row.city for row in rows} == {CHENGDU, greedy.code}
    assert (await twins.police.ask(HOLDER)).outcome == verification_pb2.OUTCOME_VALID
    assert world.fsck().findings == ()


async def test_a_city_reads_nothing_of_the_other_side_of_a_conflict_by_taking_its_license_id(dispute: Dispute) -> None:
    tianjin, suzhou = dispute.tianjin, dispute.suzhou
    tianjin.issue(OTHER, claim=(await tianjin.claim(OTHER))[0], license_id=dispute.held)
    await tianjin.replicate()
    for city in (tianjin, suzhou):
        shown = await dispute.read(city.credentials)
        for side in (shown.counting, shown.waiting):
            given = side.entry.record
            assert (DISPUTED.encode() in given) is (side.city == city.code)
            assert not given or license_pb2.LicenseRecord.FromString(given).city == city.code


async def test_a_license_that_takes_the_id_of_one_in_conflict_keeps_nobody_from_settling_that(
    dispute: Dispute,
) -> None:
    tianjin, suzhou = dispute.tianjin, dispute.suzhou
    chengdu = await dispute.world.city(CHENGDU)
    suzhou.issue(OTHER, claim=(await suzhou.claim(OTHER))[0])
    await suzhou.replicate()
    chengdu.issue(OTHER, license_id=dispute.waiting)
    await chengdu.replicate()
    # Decided behind it, so that it would have been ruled on by now.
    chengdu.issue(NOBODY)
    await chengdu.replicate()
    await chengdu.decided(1)
    assert (await dispute.police.ask(OTHER)).outcome == verification_pb2.OUTCOME_VALID
    await dispute.say(suzhou, WITHDRAW)
    await suzhou.decided(2)
    await suzhou.replicate()
    await tianjin.decided(2)
    assert dispute.valid() == [dispute.waiting]
    dispute.check()
