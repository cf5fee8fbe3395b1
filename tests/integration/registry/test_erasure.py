"""What a city has erased is gone at the registry too, from whatever it stands in."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest

from elicense import errors
from elicense.log import scrubber
from elicense.log.entry import leaf_hash
from elicense.log.model import LogKey, StoredEntry
from elicense.sql.database import Database
from elicense.sql.scrub import scrub
from elicense.v1 import license_pb2, replication_pb2, verification_pb2
from registry import strays
from registry.store import metadata
from tests.integration.registry.world import CHENGDU, SUZHOU, TIANJIN, World, running_world
from tests.support.city import City
from tests.support.cluster import eventually
from tests.support.postgres import PostgresServer
from tests.support.remains import confirmed, opened, stored

NUMBER: Final = "11010519491231002X"
OTHER: Final = "110101199003074514"
STRANGER: Final = "44052418800101001X"
UNREADABLE: Final = replication_pb2.DISPOSITION_KIND_UNREADABLE
NOT_IN_CUSTODY: Final = replication_pb2.DISPOSITION_KIND_NOT_IN_CUSTODY
ACCEPTED: Final = replication_pb2.DISPOSITION_KIND_TRANSFER_ACCEPTED
REFUSED: Final = replication_pb2.DISPOSITION_KIND_TRANSFER_REFUSED
AWAY: Final = replication_pb2.DISPOSITION_KIND_TRANSFERRED_AWAY
ERASED: Final = replication_pb2.DISPOSITION_KIND_ERASED

#: Runs a registry until it would scrub what a city has erased, and is killed there.
KILLED_SCRUB: Final = """
import asyncio, os, signal, sys
from pathlib import Path
import elicense.log.scrubber, registry.app
from registry.config import load

elicense.log.scrubber.scrub = lambda *_: os.kill(os.getpid(), signal.SIGKILL)

async def main():
    config = load(Path(sys.argv[1]))
    node = config.node.model_copy(update={"listen": sys.argv[2]})
    running = await registry.app.build(config.model_copy(update={"node": node}))
    await running.start()
    print("ready", flush=True)
    await asyncio.Event().wait()

asyncio.run(main())
"""


def found(world: World, wanted: list[bytes]) -> int:
    """How many of these bytes stand in the files of the database, which nobody uses meanwhile."""
    # A process that closes any handle of a file gives up the locks of all that it has on it.
    world.database.close()
    folder = world.folder / "registry"
    contents = [path.read_bytes() for path in folder.iterdir() if path.name.startswith("registry.db")]
    world.database = Database(world.config.database.url)
    return sum(any(each in content for content in contents) for each in wanted)


async def scrubbed(world: World) -> None:
    """Wait until nothing is marked any more."""

    async def nothing_left() -> bool:
        return not world.database.read_now(world.store.logs.erased.unscrubbed)

    await eventually(nothing_left)


async def cancelled(world: World, city: City) -> bytes:
    """A licence of a city that was cancelled, and that the registry holds."""
    license_id = city.issue(NUMBER, claim=(await city.claim(NUMBER))[0])
    city.change(license_id, ["G"], event=license_pb2.LICENSE_EVENT_CANCELLED)
    await city.replicate()
    return license_id


async def test_a_scrub_that_was_killed_is_done_at_the_next_start(world: World) -> None:
    """Nobody knows any more what is to be found, but that there is something stands in the commit that erased."""
    suzhou = await world.city(SUZHOU)
    license_id = await cancelled(world, suzhou)
    secrets = suzhou.salts[:2] + [record[:64] for record in suzhou.records[:2]]
    address = world.node.address
    await world.node.stop(grace_s=0)
    assert found(world, secrets) == len(secrets)
    command = [sys.executable, "-c", KILLED_SCRUB, str(world.folder / "registry" / "config.toml"), address]
    process = await asyncio.create_subprocess_exec(*command, stdout=subprocess.PIPE)
    assert process.stdout is not None
    while (line := await process.stdout.readline()) != b"ready\n":
        assert line, "it has ended before it was ready"
    await suzhou.close()
    suzhou.erase(license_id)
    with contextlib.suppress(errors.Unavailable):  # it is killed before it has answered, or right after
        await suzhou.replicate()
    assert await process.wait() == -signal.SIGKILL
    assert found(world, suzhou.salts[:2])
    marked = world.database.read_now(world.store.logs.erased.unscrubbed)
    assert marked == [(LogKey(SUZHOU, 1), 0), (LogKey(SUZHOU, 1), 1)]
    await world.start_again()
    await suzhou.replicate()
    await scrubbed(world)
    assert found(world, secrets) == 0
    held = world.database.read_now(lambda conn: world.store.logs.entries(conn, LogKey(SUZHOU, 1), 0, 10))
    assert [entry.record is None for entry in held] == [True, True, False]
    assert world.fsck().findings == ()


async def test_nothing_is_left_to_scrub_once_an_erasure_is_over(world: World) -> None:
    suzhou = await world.city(SUZHOU)
    license_id = await cancelled(world, suzhou)
    suzhou.erase(license_id)
    await suzhou.replicate()
    await scrubbed(world)
    assert found(world, suzhou.salts[:2]) == 0


@pytest.mark.parametrize("repeats", [1, 2])
async def test_a_slot_is_marked_once_however_often_it_is_emptied(world: World, repeats: int) -> None:
    suzhou = await world.city(SUZHOU)
    await cancelled(world, suzhou)
    store = world.store.logs.erased
    place = (LogKey(SUZHOU, 1), 0)
    emptied = [world.database.write_now(lambda conn: store.erase(conn, [place])) for _ in range(repeats)]
    assert [len(each) for each in emptied] == [1, 0][:repeats]
    assert world.database.read_now(store.unscrubbed) == [place]
    world.database.write_now(lambda conn: store.scrubbed(conn, [place]))
    assert world.database.read_now(store.unscrubbed) == []


@pytest.fixture
def passes(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Whether each pass over the files knew what to search for, the pause between two of them longer than any test."""
    made: list[bool] = []

    def watched(url: str, traces: Sequence[bytes] | None, hints: Sequence[bytes]) -> bool:
        made.append(traces is not None)
        return scrub(url, traces, hints)

    monkeypatch.setattr(scrubber, "PAUSE_S", 3_600.0)
    monkeypatch.setattr(scrubber, "LONGEST_PAUSE_S", 3_600.0)
    monkeypatch.setattr(scrubber, "scrub", watched)
    return made


@pytest.mark.parametrize(("count", "known"), [(8, True), (50, False)])
async def test_many_erasures_in_a_row_cost_two_passes_over_the_files(
    world: World, passes: list[bool], count: int, known: bool
) -> None:
    suzhou = await world.city(SUZHOU)
    numbers = [f"11010519900101{number:04d}" for number in range(count)]
    claims = await suzhou.claim(*numbers)
    licenses = [suzhou.issue(number, claim=claim) for number, claim in zip(numbers, claims, strict=True)]
    for license_id in licenses:
        suzhou.change(license_id, ["G"], event=license_pb2.LICENSE_EVENT_CANCELLED)
    await suzhou.replicate()
    suzhou.erase(licenses[0])
    await suzhou.replicate()

    async def first_pass() -> bool:
        return not world.database.read_now(world.store.logs.erased.unscrubbed)

    await eventually(first_pass)
    for license_id in licenses[1:]:
        suzhou.erase(license_id)
        await suzhou.replicate()
    assert len(world.database.read_now(world.store.logs.erased.unscrubbed)) == 2 * (count - 1)
    await world.restart()
    # So many traces cost more to search for than to write the database anew.
    assert passes == [True, known]
    assert world.database.read_now(world.store.logs.erased.unscrubbed) == []
    assert found(world, suzhou.salts[: 2 * count]) == 0
    assert world.fsck().findings == ()


async def test_what_a_decision_has_emptied_is_searched_for(world: World, passes: list[bool]) -> None:
    suzhou, chengdu = [await world.city(code) for code in (SUZHOU, CHENGDU)]
    license_id = suzhou.issue(NUMBER, claim=(await suzhou.claim(NUMBER))[0])
    suzhou.offer(license_id, CHENGDU)
    await suzhou.replicate()
    # It came before the decision that makes the licence its own, as at a registry that was set back.
    chengdu.take_over(license_id, suzhou)
    chengdu.erase(license_id)
    suzhou.offer(license_id, 0)
    chengdu.emptied = set()
    suzhou.change(license_id, ["G"], event=license_pb2.LICENSE_EVENT_CANCELLED)
    suzhou.erase(license_id)
    await suzhou.replicate()
    await chengdu.replicate()
    await chengdu.decided(2)
    await world.restart()
    assert passes
    assert all(passes)
    assert world.database.read_now(world.store.logs.erased.unscrubbed) == []
    assert found(world, suzhou.salts[:4] + chengdu.salts[:1]) == 0


# -- licences that moved -----------------------------------------------------------------------------------------------


@pytest.fixture(params=["sqlite", "postgresql"])
async def either(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[World]:
    """A registry on each kind of store."""
    if request.param == "sqlite":
        async with running_world(tmp_path) as running:
            yield running
        return
    server: PostgresServer = request.getfixturevalue("postgres")
    with server.database() as url:
        async with running_world(tmp_path, database_url=url) as running:
            yield running


@dataclass
class Moved:
    """A licence that Suzhou issued and Chengdu took over."""

    world: World
    suzhou: City
    chengdu: City
    license_id: bytes

    def empty(self, city: City) -> list[bool]:
        """Which slots of a city's log are empty at the registry."""
        held = self.world.database.read_now(
            lambda conn: self.world.store.logs.entries(conn, LogKey(city.code, 1), 0, 100)
        )
        return [entry.record is None and entry.salt is None for entry in held]

    async def cancel(self) -> None:
        self.chengdu.change(self.license_id, ["G"], event=license_pb2.LICENSE_EVENT_CANCELLED)
        await self.chengdu.replicate()

    async def erase(self) -> int:
        index = self.chengdu.erase(self.license_id)
        await self.chengdu.replicate()
        return index

    async def words(self, city: City) -> list[tuple[int, int, int]]:
        """Kind, index and other city of each word that a city was told."""
        await city.send(city.batch(city.size))
        return [(word.kind, word.index, word.other_city) for word in city.feed]

    def left(self, *cities: City) -> tuple[int, list[str]]:
        """What somebody with the true records makes of all that the registry stores."""
        remains = stored(self.world.config.database.url, metadata)
        records = [
            StoredEntry(index, record, salt, leaf_hash(salt, record))
            for city in cities
            for index, (record, salt) in enumerate(zip(city.records, city.salts, strict=True))
            if license_pb2.LicenseRecord.FromString(record).HasField("license")
        ]
        return opened(remains, records), confirmed(remains, records)


async def moved(world: World) -> Moved:
    suzhou, chengdu = [await world.city(code) for code in (SUZHOU, CHENGDU)]
    license_id = suzhou.issue(NUMBER, claim=(await suzhou.claim(NUMBER))[0])
    suzhou.offer(license_id, CHENGDU)
    await suzhou.replicate()
    chengdu.take_over(license_id, suzhou)
    await chengdu.replicate()
    await chengdu.decided(1)
    await suzhou.decided(1)
    return Moved(world, suzhou, chengdu, license_id)


async def test_the_city_in_custody_has_a_license_erased_out_of_every_log(either: World) -> None:
    made = await moved(either)
    police = await either.verifier()
    await made.cancel()
    there = made.left(made.suzhou, made.chengdu)
    assert there[0] == 4
    assert {"name", "number", "record", "salt"} <= set(there[1])
    index = await made.erase()
    assert (made.empty(made.suzhou), made.empty(made.chengdu)) == ([True, True], [True, True, False])
    assert await made.words(made.suzhou) == [(AWAY, 1, CHENGDU), (ERASED, 1, CHENGDU)]
    assert await made.words(made.chengdu) == [(ACCEPTED, 0, SUZHOU), (ERASED, index, 0)]
    assert (await police.ask(NUMBER)).outcome == verification_pb2.OUTCOME_NO_MATCH
    assert made.left(made.suzhou, made.chengdu) == (0, [])
    # The city that had it obeys, in its own log, and is told nothing more.
    made.suzhou.erase(made.license_id, ordered_by=CHENGDU)
    await made.suzhou.replicate()
    assert len(await made.words(made.suzhou)) == 2
    assert (await made.suzhou.claim(NUMBER))[0].HasField("grant")
    assert either.fsck().findings == ()


async def test_a_city_that_gave_a_license_away_erases_nothing_of_it(world: World) -> None:
    made = await moved(world)
    refused = made.suzhou.erase(made.license_id)
    await made.suzhou.replicate()
    assert await made.words(made.suzhou) == [(AWAY, 1, CHENGDU), (NOT_IN_CUSTODY, refused, 0)]
    # Nor by claiming that it was told to.
    made.suzhou.erase(made.license_id, ordered_by=CHENGDU, index=1)
    await made.suzhou.replicate()
    assert not any(made.empty(made.suzhou) + made.empty(made.chengdu))
    assert world.fsck().findings == ()


def counted(world: World, what: str) -> float:
    """How many erasures were counted that rest on nothing that the registry has seen."""
    family = next(each for each in world.node.metrics.collect() if each.name == f"elicense_erasures_{what}")
    return sum(sample.value for sample in family.samples if sample.name.endswith("_total"))


async def test_a_license_in_force_is_not_erased_by_citing_a_city_that_has_ordered_nothing(either: World) -> None:
    suzhou, chengdu = [await either.city(code) for code in (SUZHOU, CHENGDU)]
    license_id = suzhou.issue(NUMBER, claim=(await suzhou.claim(NUMBER))[0])
    await suzhou.replicate()
    made = Moved(either, suzhou, chengdu, license_id)
    cited = [suzhou.erase(license_id, ordered_by=code, index=0) for code in (CHENGDU, SUZHOU)]
    await suzhou.replicate()
    assert made.empty(suzhou) == [False] * 3
    assert [(kind, index) for kind, index, _ in await made.words(suzhou)] == [(UNREADABLE, index) for index in cited]
    assert counted(either, "unfounded") == 2
    police = await either.verifier()
    assert (await police.ask(NUMBER)).outcome == verification_pb2.OUTCOME_VALID
    assert either.fsck().findings == ()


async def test_a_license_that_a_city_erased_without_showing_what_ended_it_is_counted(world: World) -> None:
    """So it comes from a city whose registry was set back; any other lies about a licence that may be in force."""
    suzhou = await world.city(SUZHOU)
    license_id = suzhou.issue(NUMBER, claim=(await suzhou.claim(NUMBER))[0])
    await suzhou.replicate()
    assert counted(world, "by_word") == 0
    suzhou.change(license_id, ["G"], event=license_pb2.LICENSE_EVENT_CANCELLED)
    suzhou.emptied = {1}
    world.has_held(suzhou)
    suzhou.erase(license_id)
    await suzhou.replicate()
    assert counted(world, "by_word") == 1
    shown = await cancelled(world, suzhou)
    suzhou.erase(shown)
    await suzhou.replicate()
    assert counted(world, "by_word") == 1


async def test_a_license_is_erased_upon_an_order_that_arrives_later(either: World) -> None:
    """As at a registry that was set back to before a hand-over whose decision is lost: both cities sent empty slots."""
    suzhou, chengdu = [await either.city(code) for code in (SUZHOU, CHENGDU)]
    license_id = suzhou.issue(NUMBER, claim=(await suzhou.claim(NUMBER))[0])
    suzhou.offer(license_id, CHENGDU)
    await suzhou.replicate()
    made = Moved(either, suzhou, chengdu, license_id)
    obeys = suzhou.erase(license_id, ordered_by=CHENGDU)
    await suzhou.replicate()
    assert made.empty(suzhou) == [False] * 3
    chengdu.take_over(license_id, suzhou)
    chengdu.change(license_id, ["G"], event=license_pb2.LICENSE_EVENT_CANCELLED)
    chengdu.emptied = {0, 1}
    either.has_held(chengdu)
    chengdu.erase(license_id)
    await chengdu.replicate()
    assert made.empty(suzhou) == [True, True, False]
    assert (ERASED, obeys, 0) in await made.words(suzhou)
    assert made.left(suzhou, chengdu) == (0, [])
    assert either.fsck().findings == ()


@pytest.mark.parametrize("before", [True, False], ids=["heard before", "heard after"])
async def test_what_a_city_wrote_too_late_goes_with_the_license(either: World, before: bool) -> None:
    made = await moved(either)
    await made.cancel()
    if not before:
        await made.erase()
    made.suzhou.change(made.license_id, ["D"])
    made.suzhou.change(made.license_id, [])
    await made.suzhou.replicate()
    if before:
        assert made.empty(made.suzhou) == [False] * 4
        await made.erase()
    assert made.empty(made.suzhou) == [True] * 4
    told = {(kind, index) for kind, index, _ in await made.words(made.suzhou)}
    assert told >= {(ERASED, 1), (ERASED, 2), (ERASED, 3)}
    assert made.left(made.suzhou, made.chengdu) == (0, [])
    assert either.fsck().findings == ()


@pytest.mark.parametrize("before", [True, False], ids=["heard before", "heard after"])
async def test_a_take_over_that_came_to_nothing_goes_with_the_license(either: World, before: bool) -> None:
    made = await moved(either)
    tianjin = await either.city(TIANJIN)
    await made.cancel()
    if not before:
        await made.erase()
    tianjin.take_over(made.license_id, made.suzhou)
    tianjin.change(made.license_id, ["D"])
    await tianjin.replicate()
    await tianjin.decided(2)
    if before:
        await made.erase()
    assert made.empty(tianjin) == [True, True]
    told = {(kind, index) for kind, index, _ in await made.words(tianjin)}
    assert told >= {(REFUSED, 0), (ERASED, 0), (ERASED, 1)}
    assert made.left(made.suzhou, made.chengdu, tianjin) == (0, [])
    assert either.fsck().findings == ()


async def test_a_take_over_that_is_not_decided_yet_keeps_nothing_from_being_erased(world: World) -> None:
    """It cites a record that the registry has not got, and comes to nothing once that one is there."""
    suzhou, chengdu = [await world.city(code) for code in (SUZHOU, CHENGDU)]
    license_id = suzhou.issue(NUMBER, claim=(await suzhou.claim(NUMBER))[0])
    await suzhou.replicate()
    suzhou.offer(license_id, CHENGDU)
    chengdu.take_over(license_id, suzhou)
    await chengdu.replicate()
    waiting = world.database.read_now(lambda conn: world.store.transfers.arrivals(conn, limit=10))
    assert len(waiting) == 1
    suzhou.change(license_id, ["G"], event=license_pb2.LICENSE_EVENT_CANCELLED)
    suzhou.erase(license_id)
    await suzhou.replicate()
    made = Moved(world, suzhou, chengdu, license_id)
    await chengdu.decided(2)
    assert await made.words(chengdu) == [(REFUSED, 0, 0), (ERASED, 0, SUZHOU)]
    assert (made.empty(suzhou), made.empty(chengdu)) == ([True, True, True, False], [True])
    assert made.left(suzhou, chengdu) == (0, [])
    assert world.fsck().findings == ()


async def test_what_another_city_wrote_of_its_own_license_with_the_same_id_stays(world: World) -> None:
    made = await moved(world)
    greedy = await world.city(TIANJIN)
    greedy.issue(OTHER, claim=(await greedy.claim(OTHER))[0], license_id=made.license_id)
    greedy.change(made.license_id, ["D"])
    # It does not follow the one before, and stays without effect.
    greedy.append(greedy.records[1])
    await greedy.replicate()
    await made.cancel()
    await made.erase()
    assert made.empty(greedy) == [False] * 3
    assert made.empty(made.suzhou) == [True, True]
    assert [kind for kind, _, _ in await made.words(greedy)] == [UNREADABLE]
    assert world.fsck().findings == ()


async def test_a_city_that_writes_of_an_erased_license_without_end_has_each_record_looked_at_once(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = await moved(world)
    await made.cancel()
    await made.erase()
    looked: list[object] = []
    may_go = strays._may_go

    def watched(*arguments: Any) -> bool:
        looked.append(arguments)
        return may_go(*arguments)

    monkeypatch.setattr(strays, "_may_go", watched)
    for _ in range(5):
        made.suzhou.change(made.license_id, ["D"])
        await made.suzhou.replicate()
    assert len(looked) == 5
    assert all(made.empty(made.suzhou))


@pytest.mark.parametrize("before", [True, False])
async def test_a_city_blurs_no_breach_by_erasing_a_license_of_its_own_with_the_same_id(
    world: World, before: bool
) -> None:
    made = await moved(world)
    greedy = await world.city(TIANJIN)

    async def blur() -> None:
        greedy.issue(OTHER, claim=(await greedy.claim(OTHER))[0], license_id=made.license_id)
        greedy.change(made.license_id, ["G"], event=license_pb2.LICENSE_EVENT_CANCELLED)
        greedy.erase(made.license_id)
        await greedy.replicate()

    if before:
        await blur()
    # Upon Chengdu's latest revision, and about nobody who has a licence.
    index = greedy.take_over(made.license_id, made.chengdu, event=license_pb2.LICENSE_EVENT_STATUS_CHANGED)
    message = license_pb2.LicenseRecord.FromString(greedy.records[index])
    message.license.holder.document.number = STRANGER
    greedy.records[index] = message.SerializeToString()
    await greedy.replicate()
    if not before:
        await blur()
    assert made.empty(greedy)[index] is False
    assert (ERASED, index, TIANJIN) not in await made.words(greedy)
    # Whoever has the licence may have it erased, and with it what the other wrote.
    await made.cancel()
    await made.erase()
    assert made.empty(greedy)[index] is True
    assert (ERASED, index, CHENGDU) in await made.words(greedy)
    assert world.fsck().findings == ()
