"""Following a licence at a real registry, over real gRPC."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, closing
from dataclasses import replace
from typing import Any

import grpc
import pytest

from elicense import errors
from elicense.cli.join import join
from elicense.clock import china_date, china_midnight
from elicense.rpc.channel import secure_channel
from elicense.rpc.errors import from_rpc_error
from elicense.trust import roles
from elicense.trust.credentials import Credentials
from elicense.trust.token import format_token
from elicense.v1 import verification_pb2 as pb
from elicense.v1 import verification_pb2_grpc
from elicense.v1.license_pb2 import DOCUMENT_TYPE_RESIDENT_ID, IdentityDocument, LicenseRecord
from registry.app import build
from tests.integration.registry.world import SUZHOU, TRUST_DOMAIN, World
from tests.support.city import DEADLINE_S, City
from tests.support.cluster import eventually

NUMBER, OTHER = "11010519491231002X", "44052418800101001X"


@pytest.fixture
async def city(world: World) -> City:
    suzhou = await world.city(SUZHOU)
    suzhou.issue(NUMBER, claim=(await suzhou.claim(NUMBER))[0])
    await suzhou.replicate()
    return suzhou


async def credentials(world: World, organization: str, role: str = "police") -> Credentials:
    token = await world.token(f"spiffe://{TRUST_DOMAIN}/verifier/{role}/{organization}")
    return await asyncio.to_thread(join, format_token(token), world.folder / f"{role}-{organization}")


@asynccontextmanager
async def channel(world: World, organization: str = "highway", role: str = "police") -> AsyncIterator[grpc.aio.Channel]:
    held = await credentials(world, organization, role)
    async with secure_channel(held, retries=False, local_pool=True) as opened:
        yield opened


class Watch:
    """One stream; ``next`` waits for what is pushed."""

    def __init__(self, opened: grpc.aio.Channel, number: str = NUMBER, **fields: Any) -> None:
        document = IdentityDocument(type=DOCUMENT_TYPE_RESIDENT_ID, number=number)
        context = pb.LookContext(purpose=pb.PURPOSE_ROADSIDE_CHECK, case_number="case-1")
        request = pb.WatchLicenseRequest(query=pb.LicenseQuery(document=document, **fields), context=context)
        self.call = verification_pb2_grpc.VerificationServiceStub(opened).WatchLicense(request)

    async def next(self) -> pb.Verdict:
        try:
            async with asyncio.timeout(3 * DEADLINE_S):
                response = await self.call.read()
        except grpc.aio.AioRpcError as error:
            raise from_rpc_error(error) from error
        assert response is not grpc.aio.EOF
        verdict: pb.Verdict = response.verdict
        return verdict


def license_of(city: City) -> bytes:
    return LicenseRecord.FromString(city.records[0]).license_id


def looks(world: World) -> list[tuple[str, bytes]]:
    with closing(sqlite3.connect(world.config.node.data_dir / "access.db")) as access:
        return access.execute("SELECT method, outcomes FROM access ORDER BY sequence").fetchall()


async def gone(world: World) -> None:
    """Wait until nobody follows anything."""

    async def nobody() -> bool:
        return world.node.watches == 0

    await eventually(nobody)


async def test_the_verdict_comes_at_once_and_again_with_each_change(world: World, city: City) -> None:
    async with channel(world) as opened:
        watch = Watch(opened)
        assert (await watch.next()).outcome == pb.OUTCOME_VALID
        for letters, outcome in ((["D"], pb.OUTCOME_INVALID), ([], pb.OUTCOME_VALID)):
            city.change(license_of(city), letters)
            await city.replicate()
            assert (await watch.next()).outcome == outcome
        assert looks(world) == [("WatchLicense", bytes([outcome])) for outcome in (1, 2, 1)]
        watch.call.cancel()
    await gone(world)


async def test_each_pushed_verdict_is_recorded_before_it_is_sent(world: World, city: City) -> None:
    async with channel(world) as opened:
        watch = Watch(opened)
        await watch.next()
        assert len(looks(world)) == 1
        city.change(license_of(city), ["D"])
        await city.replicate()
        await watch.next()
        assert len(looks(world)) == 2


async def test_a_licence_that_is_issued_while_it_is_followed_appears(world: World, city: City) -> None:
    async with channel(world) as opened:
        watch = Watch(opened, OTHER)
        assert (await watch.next()).outcome == pb.OUTCOME_NO_MATCH
        city.issue(OTHER, claim=(await city.claim(OTHER))[0])
        await city.replicate()
        assert (await watch.next()).outcome == pb.OUTCOME_VALID


async def test_a_decision_of_the_registry_is_pushed(world: World) -> None:
    city = await world.city(SUZHOU)
    async with channel(world) as opened:
        watch = Watch(opened)
        assert (await watch.next()).outcome == pb.OUTCOME_NO_MATCH
        city.issue(NUMBER)
        await city.replicate()
        seen = [await watch.next()]
        if seen[0].outcome == pb.OUTCOME_INDETERMINATE:  # the confirmation may be as fast as the first look
            assert list(seen[0].reasons) == [pb.VERDICT_REASON_PROVISIONAL]
            seen.append(await watch.next())
        assert seen[-1].outcome == pb.OUTCOME_VALID


async def test_a_city_that_falls_silent_and_comes_back_is_pushed(world: World, city: City) -> None:
    async with channel(world) as opened:
        watch = Watch(opened)
        await watch.next()
        world.clock.advance(seconds=601)
        stale = await watch.next()
        assert stale.reasons[0] == pb.VERDICT_REASON_CITY_STALE
        assert stale.last_known.outcome == pb.OUTCOME_VALID
        await city.send(city.batch(city.size))
        world.clock.advance(seconds=2)
        assert (await watch.next()).outcome == pb.OUTCOME_VALID


async def test_the_end_of_the_last_day_is_pushed_at_midnight_in_china(world: World) -> None:
    city = await world.city(SUZHOU)
    today = china_date(world.clock())
    license_id = city.issue(NUMBER, claim=(await city.claim(NUMBER))[0])
    record = LicenseRecord.FromString(city.records[0])
    last = record.license.vehicle_classes[0].until_date
    last.year, last.month, last.day = today.year, today.month, today.day
    assert record.license_id == license_id
    city.records[0] = record.SerializeToString()
    # Two minutes before midnight, so that the city is fresh on both sides of it.
    tomorrow = china_midnight(today) + 86_400 * 1_000_000
    async with channel(world) as opened:
        world.clock.offset_us += tomorrow - world.clock() - 120 * 1_000_000
        await city.replicate()
        watch = Watch(opened)
        assert (await watch.next()).outcome == pb.OUTCOME_VALID
        world.clock.advance(seconds=121)
        expired = await watch.next()
        assert list(expired.reasons) == [pb.VERDICT_REASON_NO_CLASS]


async def test_a_change_in_another_process_is_found_by_looking(world: World, city: City) -> None:
    async with channel(world) as opened:
        watch = Watch(opened)
        await watch.next()
        # What another process would have done: the rows change, and nobody here is told.
        with closing(sqlite3.connect(world.config.node.data_dir / "registry.db", timeout=10)) as database, database:
            database.execute("UPDATE license_view SET flags = 2")
            database.execute("UPDATE log_head SET size = size WHERE log = 0")
        # Any movement of any log makes the process look at whom it follows.
        await city.claim(OTHER)
        assert list((await watch.next()).reasons) == [pb.VERDICT_REASON_CONFLICT]


async def test_a_slow_watcher_gets_the_newest_verdict_and_nothing_piles_up(world: World, city: City) -> None:
    async with channel(world) as opened:
        watch, witness = Watch(opened), Watch(opened)
        await watch.next()
        await witness.next()
        for round_ in range(20):
            city.change(license_of(city), ["D"] if round_ % 2 == 0 else ["H"])
            await city.replicate()
        # The witness reads until it has seen the last state; the slow one reads only then.
        async with asyncio.timeout(DEADLINE_S):
            while not any(letter.letter == "H" for letter in (await witness.next()).letters):
                pass
        newest = await watch.next()
        while newest.outcome != pb.OUTCOME_VALID:
            newest = await watch.next()
        assert [letter.letter for letter in newest.letters] == ["H"]


async def test_a_watch_that_is_cancelled_gives_its_place_back(world: World, city: City) -> None:
    async with channel(world) as opened:
        watches = [Watch(opened) for _ in range(50)]
        for watch in watches:
            await watch.next()
        assert world.node.watches == 50
        for watch in watches:
            watch.call.cancel()
        await gone(world)


async def test_a_verifier_may_follow_as_many_as_its_role_allows(
    world: World, city: City, monkeypatch: pytest.MonkeyPatch
) -> None:
    rule = roles.VERIFIER_RULES[roles.Role.POLICE]
    limited = {**roles.VERIFIER_RULES, roles.Role.POLICE: replace(rule, watches=2)}
    monkeypatch.setattr("elicense.verification.look.VERIFIER_RULES", limited)
    async with channel(world) as opened, channel(world, "city-patrol") as other:
        first, second = Watch(opened), Watch(opened)
        await first.next()
        await second.next()
        with pytest.raises(errors.WatchesExhausted):
            await Watch(opened).next()
        await Watch(other).next()
        first.call.cancel()
        async with asyncio.timeout(DEADLINE_S):
            while True:
                try:
                    await Watch(opened).next()
                except errors.WatchesExhausted:
                    continue
                break


async def test_a_commercial_role_must_give_the_name_here_too(world: World, city: City) -> None:
    async with channel(world, "shouqi", "rental") as opened:
        with pytest.raises(errors.Malformed):
            await Watch(opened).next()


async def test_whoever_is_revoked_hears_no_more(world: World, city: City) -> None:
    held = await credentials(world, "highway")
    async with secure_channel(held, retries=False, local_pool=True) as opened:
        watch = Watch(opened)
        await watch.next()
        with closing(sqlite3.connect(world.config.node.data_dir / "registry.db", timeout=10)) as database, database:
            database.execute("UPDATE certificate SET state = 2 WHERE subject = ?", (str(held.subject),))
        world.clock.advance(seconds=2)
        city.change(license_of(city), ["D"])
        await city.replicate()
        with pytest.raises(errors.Unauthenticated):
            await watch.next()
    await gone(world)


async def test_the_end_of_the_server_ends_every_watch_at_once(world: World, city: City) -> None:
    async with channel(world) as opened:
        watch = Watch(opened)
        await watch.next()
        async with asyncio.timeout(DEADLINE_S):
            await world.node.stop(grace_s=10 * DEADLINE_S)
        with pytest.raises(errors.Unavailable):
            await watch.next()
    world.node = await build(world.config, clock=world.clock)
    await world.node.start()


async def test_two_thousand_watchers_all_hear_of_a_change(world: World, city: City) -> None:
    async with AsyncExitStack() as stack:
        # Eight verifiers, so that none looks at one person more often than its quota allows.
        channels = [await stack.enter_async_context(channel(world, f"unit-{number}")) for number in range(8)]
        watches = [Watch(opened) for opened in channels for _ in range(250)]
        first = await asyncio.gather(*(watch.next() for watch in watches))
        assert {verdict.outcome for verdict in first} == {pb.OUTCOME_VALID}
        assert world.node.watches == 2_000
        city.change(license_of(city), ["D"])
        await city.replicate()
        second = await asyncio.gather(*(watch.next() for watch in watches))
        assert {verdict.outcome for verdict in second} == {pb.OUTCOME_INVALID}
        for watch in watches:
            watch.call.cancel()
        await gone(world)
    assert len(looks(world)) == 4_000
