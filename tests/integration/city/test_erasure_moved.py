"""A licence that moved between cities is erased in all of them, whoever is away, killed or set back meanwhile."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest
from click.testing import CliRunner
from sqlalchemy import Connection

import city_node.store
import registry.store
from city_node.commands import Deferred
from city_node.ordered_erasures import OrderedErasures
from city_node.store import CityStore, StoredDisposition
from elicense import errors
from elicense.log.commit_store import CommitStore
from elicense.log.model import FIRST_EPOCH, REGISTRY_LOG, LogKey, StoredEntry
from elicense.sql.database import Database
from elicense.v1 import issuance_pb2 as pb
from elicense.v1 import license_pb2
from elicense.v1.replication_pb2 import DISPOSITION_KIND_ERASED, DISPOSITION_KIND_TRANSFER_REFUSED
from elicense.v1.verification_pb2 import OUTCOME_NO_MATCH, PURPOSE_ROADSIDE_CHECK
from elicense.view.erasure import read_erasure
from elicense.view.fold import read_record
from registry.store import RegistryStore
from tests.integration.city.test_anchor import copy_database, set_back
from tests.integration.city.test_erasure import cancel, erase
from tests.integration.city.test_identity import renumbered
from tests.integration.city.test_lifecycle import change, experienced
from tests.integration.city.test_restore import copy_registry, lose_database, restore, set_registry_back
from tests.integration.city.test_transfers import BASIS, OFFICE, accept, check, moved, offer, same
from tests.support.cluster import CHENGDU, DEADLINE_S, SUZHOU, City, Cluster, call, eventually, run_cluster
from tests.support.postgres import PostgresServer
from tests.support.remains import confirmed, opened, stored


@dataclass
class Gone:
    """A registry, and a licence that Suzhou issued under one number, changed to another, and gave to Chengdu.

    Attributes:
        cluster: The registry and both cities.
        first: The licence as it was applied for.
        name: Its name in Suzhou.
        there: Its name in Chengdu, where it is cancelled.
        records: What each city wrote of it, as somebody may have kept it.
    """

    cluster: Cluster
    first: license_pb2.License
    name: str
    there: str
    records: dict[int, list[StoredEntry]]

    @property
    def suzhou(self) -> City:
        return self.cluster.cities[SUZHOU]

    @property
    def chengdu(self) -> City:
        return self.cluster.cities[CHENGDU]

    def log(self, city: City, *, there: bool = False) -> list[StoredEntry]:
        """A city's log, as the city has it or as the registry does."""
        url = self.cluster.registry_config.database.url if there else city.config.database_url
        store: RegistryStore | CityStore = RegistryStore() if there else CityStore()
        database = Database(url, readers=1)
        try:
            return database.read_now(lambda conn: store.logs.entries(conn, LogKey(city.code, 1), 0, 100))
        finally:
            database.close()

    def is_gone(self, city: City, *, there: bool = False) -> bool:
        """Whether whatever a city wrote of the licence is gone, and an entry of its own log says so."""
        held = self.log(city, there=there)
        slots = {entry.index for entry in self.records[city.code]}
        empty = all(entry.record is None and entry.salt is None for entry in held if entry.index in slots)
        return empty and any(read_erasure(entry.record) is not None for entry in held)

    async def everywhere(self) -> None:
        """Wait until it is gone in both cities and at the registry."""

        async def done() -> bool:
            return all(
                [await asyncio.to_thread(self.is_gone, city, there=there)
                 for city in (self.suzhou, self.chengdu) for there in (False, True)]
            )  # fmt: skip

        await eventually(done)
        for city in self.cluster.cities.values():
            await city.replicated()

    def remains(self) -> list[bytes]:
        """Everything that is stored anywhere, to be read once all nodes are stopped."""
        urls = [(city.config.database_url, city_node.store.metadata) for city in self.cluster.cities.values()]
        urls.append((self.cluster.registry_config.database.url, registry.store.metadata))
        return [value for url, metadata in urls for value in stored(url, metadata)]

    def files(self) -> list[bytes]:
        """Whatever stands in the files of all databases."""
        return [path.read_bytes() for path in self.cluster.folder.rglob("*.db*")]

    async def stopped_and_sound(self) -> None:
        """Stop every node, and have each check all it has."""
        for city in self.cluster.cities.values():
            await city.stop()
        await self.cluster.stop_registry()
        for city in self.cluster.cities.values():
            await check(city_node.cli.main, city.folder / "config.toml")
        await check(registry.cli.main, self.cluster.folder / "registry" / "config.toml")

    async def nothing_left(self) -> None:
        """Stop and check every node, and try everything that is left upon the true records."""
        await self.stopped_and_sound()
        known = [entry for records in self.records.values() for entry in records]
        remains = self.remains()
        assert opened(remains, known) == 0
        assert confirmed([*remains, *self.files()], known) == []


@pytest.fixture
async def gone(tmp_path: Path) -> AsyncIterator[Gone]:
    async with run_cluster(tmp_path) as cluster:
        for code in (SUZHOU, CHENGDU):
            await cluster.add_city(code, retention_days=0)
        yield await handed_over(cluster)


async def handed_over(cluster: Cluster) -> Gone:
    suzhou, chengdu = cluster.cities[SUZHOU], cluster.cities[CHENGDU]
    (first,) = experienced(SUZHOU, 1)
    name = (await suzhou.issue(first)).license.name
    await suzhou.replicated()
    await change(suzhou, "ChangeIdentity", name, document=renumbered(first, 2).holder.document, legal_basis=BASIS)
    await offer(suzhou, name, CHENGDU)
    await suzhou.replicated()
    await accept(chengdu, name, office=OFFICE)
    await chengdu.replicated()
    await moved(suzhou, name)
    there = same(license_pb2.License(name=name), CHENGDU)

    async def arrived() -> bool:
        with suppress(errors.Error):
            await cancel(chengdu, there)
            return True
        return False

    await eventually(arrived)
    await chengdu.replicated()
    made = Gone(cluster, first, name, there, {})
    made.records = {city.code: made.log(city) for city in (suzhou, chengdu)}
    return made


@pytest.mark.parametrize("engine", ["sqlite", "postgresql"])
async def test_a_license_that_moved_is_erased_everywhere_by_the_city_that_has_it(
    request: pytest.FixtureRequest, tmp_path: Path, engine: str
) -> None:
    """Nobody who holds the true records of a driver with two numbers can confirm them by all that is left."""
    if engine == "sqlite":
        await _is_erased_everywhere(tmp_path, [None, None, None])
        return
    server: PostgresServer = request.getfixturevalue("postgres")
    with server.database() as one, server.database() as two, server.database() as three:
        await _is_erased_everywhere(tmp_path, [one, two, three])


async def _is_erased_everywhere(folder: Path, urls: list[str | None]) -> None:
    async with run_cluster(folder, database_url=urls[0]) as cluster:
        for code, url in zip((SUZHOU, CHENGDU), urls[1:], strict=True):
            await cluster.add_city(code, retention_days=0, database_url=url)
        gone = await handed_over(cluster)
        known = [entry for records in gone.records.values() for entry in records]
        assert opened(gone.remains(), known) == len(known) == 5
        assert {"name", "number", "earlier number", "record", "salt"} <= set(confirmed(gone.remains(), known))
        with pytest.raises(errors.LicenseMoved, match=f"city {CHENGDU}") as refused:
            await erase(gone.suzhou, gone.name)
        assert refused.value.metadata["city"] == str(CHENGDU)
        answer = await erase(gone.chengdu, gone.there)
        assert answer.traces_gone == (urls[2] is None)
        await gone.everywhere()
        police = await cluster.enroll_national(("verifier", "police", "highway"), folder / "police")
        for license_ in (gone.first, renumbered(gone.first, 2)):
            given = await cluster.verify(
                police, cluster.registry_config.node.listen, license_.holder.document, purpose=PURPOSE_ROADSIDE_CHECK
            )
            assert given.outcome == OUTCOME_NO_MATCH
        for city, name in ((gone.suzhou, gone.name), (gone.chengdu, gone.there)):
            with pytest.raises(errors.LicenseNotFound):
                await erase(city, name)
            with pytest.raises(errors.LicenseNotFound):
                await call(city.issuance().GetLicense(pb.GetLicenseRequest(name=name), timeout=DEADLINE_S))
        (order,) = [held for entry in gone.log(gone.suzhou) if (held := read_erasure(entry.record)) is not None]
        assert order.erases.ordered_by_city == CHENGDU
        await gone.nothing_left()


async def test_a_city_that_was_away_erases_when_it_is_back(gone: Gone) -> None:
    await gone.suzhou.stop()
    await erase(gone.chengdu, gone.there)
    await gone.chengdu.replicated()
    slots = {entry.index for entry in gone.records[SUZHOU]}
    assert all(entry.record is None for entry in gone.log(gone.suzhou, there=True) if entry.index in slots)
    assert not gone.is_gone(gone.suzhou)
    await gone.suzhou.start()
    await gone.everywhere()
    await gone.nothing_left()


async def test_an_order_that_was_heard_and_not_obeyed_is_obeyed_after_the_next_start_once(
    gone: Gone, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def killed(self: OrderedErasures, word: object) -> None:
        raise asyncio.CancelledError

    with monkeypatch.context() as patched:
        patched.setattr(OrderedErasures, "_obey", killed)
        await erase(gone.chengdu, gone.there)
        await gone.chengdu.replicated()

        async def heard() -> bool:
            return gone.suzhou.running.receipts.cursor == 2

        await eventually(heard)
        await gone.suzhou.stop()
    for _ in range(2):
        await gone.suzhou.start()
        await gone.everywhere()
        await gone.suzhou.stop()
    erasures = [entry for entry in gone.log(gone.suzhou) if read_erasure(entry.record) is not None]
    assert len(erasures) == 1
    await gone.suzhou.start()
    await gone.nothing_left()


def without_receipt(city: City) -> None:
    """Take its receipts from a stopped city."""
    with contextlib.closing(sqlite3.connect(city.folder / "city.db")) as connection, connection:
        connection.execute("UPDATE log_head SET cosigned = NULL, cosigned_size = 0")
        connection.execute("UPDATE log_checkpoint SET cosigned = NULL")


async def test_an_order_waits_until_the_registry_has_given_a_receipt_for_all_that_it_takes_out(
    gone: Gone, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A registry that is set back takes an empty slot upon its receipt alone: else the city could send it nothing."""
    waits, obey = asyncio.Event(), OrderedErasures._obey

    async def watched(self: OrderedErasures, word: StoredDisposition) -> None:
        try:
            await obey(self, word)
        except Deferred:
            waits.set()
            raise

    monkeypatch.setattr(OrderedErasures, "_obey", watched)
    await gone.suzhou.stop()
    without_receipt(gone.suzhou)
    await erase(gone.chengdu, gone.there)
    await gone.chengdu.replicated()
    with monkeypatch.context() as forgetful:
        forgetful.setattr(CommitStore, "store_cosigned", lambda *_: None)
        await gone.suzhou.start()
        async with asyncio.timeout(DEADLINE_S):
            await waits.wait()
        assert not gone.is_gone(gone.suzhou)
        await gone.suzhou.stop()
    await gone.suzhou.start()
    await gone.everywhere()
    await gone.nothing_left()
    without_receipt(gone.suzhou)
    result = CliRunner().invoke(city_node.cli.main, ["fsck", "--config", str(gone.suzhou.folder / "config.toml")])
    assert result.exit_code == 1
    assert "was erased before the registry gave a receipt for it" in result.output


async def test_a_license_that_the_registry_gave_and_then_says_nobody_has_is_not_erased_on_order(
    gone: Gone, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = gone.records[CHENGDU][0]
    license_id = read_record(first.record or b"").license_id
    refused, erased = DISPOSITION_KIND_TRANSFER_REFUSED, DISPOSITION_KIND_ERASED
    store, database = RegistryStore(), Database(gone.cluster.registry_config.database.url)
    judged, obey = asyncio.Event(), OrderedErasures._obey

    async def watched(self: OrderedErasures, word: StoredDisposition) -> None:
        await obey(self, word)
        judged.set()

    monkeypatch.setattr(OrderedErasures, "_obey", watched)

    def say(conn: Connection) -> None:
        """As a registry does that has lost its decision, and the licence to an erasure by the old city."""
        store.feeds.add(conn, CHENGDU, 1, [(first.index, refused, license_id, "There is no such license.")])
        order = [(first.index, erased, license_id, "Another city has erased the license.")]
        store.feeds.add(conn, CHENGDU, 1, order, other_city=SUZHOU)

    try:
        await database.write(say)
    finally:
        database.close()
    async with asyncio.timeout(DEADLINE_S):
        await judged.wait()
    assert gone.log(gone.chengdu)[: len(gone.records[CHENGDU])] == gone.records[CHENGDU]


async def test_a_license_in_the_citys_own_custody_is_not_erased_on_order_of_the_city_that_it_is_offered_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a registry that lies could have it erased, and so could that city by an ERASED entry about nothing."""
    judged, obey = asyncio.Event(), OrderedErasures._obey

    async def watched(self: OrderedErasures, word: StoredDisposition) -> None:
        await obey(self, word)
        judged.set()

    monkeypatch.setattr(OrderedErasures, "_obey", watched)
    async with run_cluster(tmp_path) as cluster:
        for code in (SUZHOU, CHENGDU):
            await cluster.add_city(code, retention_days=0)
        suzhou = cluster.cities[SUZHOU]
        (first,) = experienced(SUZHOU, 1)
        name = (await suzhou.issue(first)).license.name
        await offer(suzhou, name, CHENGDU)
        await suzhou.replicated()
        offers = Gone(cluster, first, name, "", {})
        records = offers.log(suzhou)
        license_id = read_record(records[0].record or b"").license_id
        store, database = RegistryStore(), Database(cluster.registry_config.database.url)
        order = [(records[-1].index, DISPOSITION_KIND_ERASED, license_id, "Another city has erased the license.")]
        try:
            await database.write(lambda conn: store.feeds.add(conn, SUZHOU, 1, order, other_city=CHENGDU))
        finally:
            database.close()
        async with asyncio.timeout(DEADLINE_S):
            await judged.wait()
        assert offers.log(suzhou) == records


@pytest.mark.parametrize("lost", [False, True], ids=["set back", "lost"])
@pytest.mark.parametrize("code", [SUZHOU, CHENGDU])
async def test_a_restore_of_either_city_brings_nothing_back(gone: Gone, code: int, lost: bool) -> None:
    city = gone.cluster.cities[code]
    await city.stop()
    kept = copy_database(city)
    await city.start()
    await erase(gone.chengdu, gone.there)
    await gone.everywhere()
    await city.stop()
    erased = gone.log(city)
    if lost:
        lose_database(city)
    else:
        set_back(city, kept)
    await restore(city)
    assert gone.log(city) == erased
    await city.start()
    await gone.everywhere()
    await gone.nothing_left()


async def handed_over_while(cluster: Cluster, back_to: str) -> tuple[Gone, dict[Path, bytes]]:
    """A licence that moved and is cancelled, and the registry's files as they were at one moment before."""
    suzhou, chengdu = cluster.cities[SUZHOU], cluster.cities[CHENGDU]
    kept: dict[Path, bytes] = {}

    async def keep(moment: str) -> None:
        if moment == back_to:
            await cluster.stop_registry()
            kept.update(copy_registry(cluster))
            await cluster.start_registry()

    (first,) = experienced(SUZHOU, 1)
    name = (await suzhou.issue(first)).license.name
    await suzhou.replicated()
    await keep("issued")
    await offer(suzhou, name, CHENGDU)
    await suzhou.replicated()
    await keep("offered")
    await accept(chengdu, name, office=OFFICE)
    await chengdu.replicated()
    await moved(suzhou, name)
    there = same(license_pb2.License(name=name), CHENGDU)
    await cancel(chengdu, there)
    await chengdu.replicated()
    await keep("cancelled")
    gone = Gone(cluster, first, name, there, {})
    gone.records = {city.code: gone.log(city) for city in (suzhou, chengdu)}
    return gone, kept


async def set_back_and_given_back(gone: Gone, kept: dict[Path, bytes]) -> None:
    """Put the registry's database back, and have it get its decisions from a mirror, with the old city away."""
    decisions = await _decided(gone.cluster)

    async def mirrored() -> bool:
        return await asyncio.to_thread(_size, gone.chengdu.config.database_url, CityStore()) >= decisions

    await eventually(mirrored)
    await gone.cluster.stop_registry()
    for path, content in kept.items():
        path.write_bytes(content)
    await gone.cluster.start_registry()

    async def erased_again() -> bool:
        slots = {entry.index for entry in gone.records[SUZHOU]}
        held = await asyncio.to_thread(gone.log, gone.suzhou, there=True)
        return all(entry.record is None for entry in held if entry.index in slots)

    await eventually(erased_again)
    assert await _decided(gone.cluster) >= decisions


@pytest.mark.parametrize(
    ("back_to", "away", "given_back"),
    [("issued", True, False), ("offered", True, True), ("offered", False, False), ("cancelled", True, False)],
)
async def test_a_registry_that_was_set_back_erases_again(
    tmp_path: Path, back_to: str, away: bool, given_back: bool
) -> None:
    """Also when it gets everything that the hand-over rests on as empty slots, with its decision or without."""
    async with run_cluster(tmp_path) as cluster:
        for code in (SUZHOU, CHENGDU):
            await cluster.add_city(code, retention_days=0)
        gone, kept = await handed_over_while(cluster, back_to)
        suzhou, chengdu = gone.suzhou, gone.chengdu
        if away:
            await suzhou.stop()
        await erase(chengdu, gone.there)
        await chengdu.replicated()
        if not away:
            await gone.everywhere()
        if given_back:
            await set_back_and_given_back(gone, kept)
        else:
            await cluster.stop_registry()
            await set_registry_back(cluster, kept)
            await cluster.start_registry()
        if away:
            # Until now it has heard nothing, and nothing is left of what the registry had to tell it before.
            await suzhou.start()
        await gone.everywhere()
        assert (await suzhou.issue(gone.first)).license.name != gone.name
        await suzhou.replicated()
        await gone.stopped_and_sound()
        assert opened(gone.remains(), [entry for records in gone.records.values() for entry in records]) == 0


async def _decided(cluster: Cluster) -> int:
    """How many decisions the registry's own log holds."""
    return await asyncio.to_thread(_size, cluster.registry_config.database.url, RegistryStore())


def _size(url: str, store: RegistryStore | CityStore) -> int:
    """How much a database holds of the registry's own log."""
    database = Database(url, readers=1)
    try:
        head = database.read_now(lambda conn: store.logs.head(conn, LogKey(REGISTRY_LOG, FIRST_EPOCH)))
    finally:
        database.close()
    return 0 if head is None else head.size
