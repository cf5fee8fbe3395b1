"""Ingest, claims, decisions and the self-check on every kind of store, many at a time."""

from __future__ import annotations

import asyncio
import os
import secrets
import signal
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import pytest
from prometheus_client import CollectorRegistry

from elicense.clock import from_timestamp, to_timestamp
from elicense.license.verdict import ViewFlags
from elicense.log.check_run import Report
from elicense.log.checkpoint import cosigner_verifier_key
from elicense.log.model import LogKey
from elicense.log.verifier_key import format_vkey
from elicense.log.writer import LogWriter
from elicense.sql.database import Database
from elicense.trust.credentials import Credentials
from elicense.trust.enrollment import NewCity, city_log_origin
from elicense.trust.signer import FileSigner, generate_key_file
from elicense.trust.spiffe import SpiffeId, city_id
from elicense.v1 import license_pb2
from elicense.v1.replication_pb2 import AppendEntriesRequest, ClaimResult
from elicense.view.person import PersonIndex
from registry.batch import Batch, SentEntry, Taken
from registry.board import Outcome
from registry.cities import CityEnrollment
from registry.claims import GrantClaims, Granted, WantedClaim
from registry.conflict_metrics import ConflictMetrics
from registry.decider import Command, RegistryDecider
from registry.decisions import PendingDecisions
from registry.disputes import Disputes
from registry.fsck import Fsck
from registry.ingest import Ingest
from registry.names import cosigner_name, registry_origin
from registry.readers import LARGE, Readers
from registry.replication import DecisionLog
from registry.store import RegistryStore, metadata
from registry.transfer_decider import TransferDecider
from tests.integration.registry.world import SUZHOU, TIANJIN, TRUST_DOMAIN, SetClock
from tests.support.city import City
from tests.support.cluster import eventually
from tests.support.stores import EmptyStore

PERSONS = PersonIndex(bytes(32))
LEASE_US = 15 * 60 * 1_000_000


@dataclass
class Core:
    """The registry's use cases over one store, without a server."""

    database: Database
    store: RegistryStore
    clock: SetClock
    readers: Readers
    ingest: Ingest
    log: DecisionLog
    decisions: PendingDecisions
    log_signer: FileSigner
    cosigner: FileSigner

    async def append(self, city: City, first: int = 0) -> Taken:
        return await self.ingest.append(as_batch(city.code, city.batch(first)))

    async def claim(self, city: City, *numbers: str) -> list[ClaimResult | None]:
        wanted = tuple(
            WantedClaim(PERSONS.person_key(1, number), uuid.uuid4().bytes, uuid.uuid4().bytes) for number in numbers
        )
        outcome = await self.log.grant(GrantClaims(city.code, "spiffe://elicense.test/city/1", wanted))
        results: list[ClaimResult | None] = []
        for claim in outcome.claims:
            if not isinstance(claim, Granted):
                results.append(None)
                continue
            result = ClaimResult(license_id=claim.license_id)
            result.grant.registry_index = claim.idx
            result.grant.entry_hash = claim.entry_hash
            result.grant.lease_end_time.CopyFrom(to_timestamp(claim.lease_end_us))
            results.append(result)
        return results

    def fsck(self) -> Report:
        return Fsck(
            database=self.database,
            store=self.store,
            persons=PERSONS,
            trust_domain=TRUST_DOMAIN,
            log_key=self.log_signer.public_key(),
            cosigner_key=self.cosigner.public_key(),
            progress=lambda _: None,
        ).run()

    async def city(self, code: int, folder: Path) -> City:
        signer = generate_key_file(folder / f"{code}.pem")
        key = cosigner_verifier_key(cosigner_name(TRUST_DOMAIN), self.cosigner.public_key())
        city = City(code, cast("Credentials", _Named(city_id(TRUST_DOMAIN, code))), signer, self.clock, key)
        enroll = CityEnrollment(store=self.store, clock=self.clock).enroll
        assert city.origin == city_log_origin(TRUST_DOMAIN, code, 1)
        await self.database.write(lambda conn: enroll(conn, NewCity(code, city.key, format_vkey(city.key))))
        return city


@dataclass
class _Named:
    subject: SpiffeId


def as_batch(code: int, request: AppendEntriesRequest) -> Batch:
    return Batch(
        city=code,
        epoch=request.epoch,
        first_index=request.first_index,
        entries=[SentEntry(entry.record, entry.salt) for entry in request.entries],
        checkpoint=request.checkpoint,
        tip_size=request.tip_size,
        city_us=from_timestamp(request.city_time),
        left_us=None,
        dispositions_after=request.dispositions_after,
    )


@pytest.fixture
async def core(empty_store: EmptyStore, tmp_path: Path) -> AsyncIterator[Core]:
    database, store, clock = Database(empty_store.create(metadata)), RegistryStore(), SetClock()
    log_signer, cosigner = generate_key_file(tmp_path / "log.pem"), generate_key_file(tmp_path / "cosigner.pem")
    await database.write(lambda conn: store.logs.create(conn, LogKey(0, 1)))
    writer: LogWriter[Command, Outcome] = LogWriter(
        database=database,
        log_store=store.logs,
        key=LogKey(0, 1),
        signer=log_signer,
        origin=registry_origin(TRUST_DOMAIN, 1),
        decider=RegistryDecider(
            store=store,
            transfers=TransferDecider(store=store, persons=PERSONS),
            actor="spiffe://elicense.test/registry",
            lease_us=LEASE_US,
            conflict_us=LEASE_US,
            clock=clock,
        ),
        clock=clock,
        random=secrets.token_bytes,
    )
    await writer.start()
    log, readers = DecisionLog(writer), Readers(bytes(32), count=1)
    ingest = Ingest(
        database=database,
        store=store,
        readers=readers,
        persons=PERSONS,
        cosigner=cosigner,
        cosigner_name=cosigner_name(TRUST_DOMAIN),
        trust_domain=TRUST_DOMAIN,
        disputes=Disputes(
            database=database,
            store=store,
            log=log,
            trust_domain=TRUST_DOMAIN,
            cosigner_name=cosigner_name(TRUST_DOMAIN),
            metrics=CollectorRegistry(),
            clock=clock,
        ),
        clock=clock,
    )
    decisions = PendingDecisions(
        database=database,
        store=store,
        deciding=log,
        leads=lambda: True,
        metrics=ConflictMetrics(registry=CollectorRegistry()),
        clock=clock,
    )
    yield Core(database, store, clock, readers, ingest, log, decisions, log_signer, cosigner)
    await writer.close()
    await readers.close()
    database.close()


async def test_large_batches_come_to_the_same_whoever_reads_them(core: Core, tmp_path: Path) -> None:
    city = await core.city(SUZHOU, tmp_path)

    async def send() -> None:
        first = city.size
        numbers = [f"1101051990{first + each:08d}" for each in range(LARGE)]
        for number, claim in zip(numbers, await core.claim(city, *numbers), strict=True):
            city.issue(number, claim=claim)
        assert (await core.append(city, first)).next_index == first + LARGE

    async def is_up() -> bool:
        return bool(core.readers.pids)

    await send()  # nobody else is there yet
    await eventually(is_up)
    await send()
    os.kill(core.readers.pids[0], signal.SIGKILL)
    await send()
    assert not core.readers.pids
    assert not core.fsck().findings


async def test_two_cities_that_claim_the_same_persons_at_once_share_them_out(core: Core, tmp_path: Path) -> None:
    cities = [await core.city(code, tmp_path) for code in (SUZHOU, TIANJIN)]
    numbers = [f"11010519900101{number:04d}" for number in range(40)]
    claims = [core.claim(city, number) for number in numbers for city in cities]
    answers = await asyncio.gather(*claims)
    for position in range(len(numbers)):
        pair = answers[2 * position : 2 * position + 2]
        assert sum(result[0] is not None for result in pair) == 1
    assert not core.fsck().findings


async def test_batches_claims_and_decisions_that_cross_leave_one_license_a_person(core: Core, tmp_path: Path) -> None:
    cities = [await core.city(code, tmp_path) for code in (SUZHOU, TIANJIN)]
    numbers = [f"11010519900101{number:04d}" for number in range(30)]

    async def issue(city: City, order: list[str]) -> None:
        for start in range(0, len(order), 5):
            part = order[start : start + 5]
            first = city.size
            # Every other part without a claim, as if the registry had been away.
            grants = await core.claim(city, *part) if start % 2 else [None] * len(part)
            for number, grant in zip(part, grants, strict=True):
                city.issue(number, claim=grant)
            await core.append(city, first)
            await core.decisions.decide_all()

    await asyncio.gather(issue(cities[0], numbers), issue(cities[1], numbers[::-1]))
    for city in cities:
        await core.append(city)
    await core.decisions.decide_all()
    report = core.fsck()
    assert report.findings == ()
    assert report.licenses == 2 * len(numbers)
    keys = [PERSONS.person_key(1, number) for number in numbers]
    rows = await core.database.read(lambda conn: core.store.view.by_person(conn, keys))
    for key in keys:
        # Whatever the order was: one of the two licences counts, the other does not or waits for a lease.
        assert len(rows[key]) == 2
        assert sum(row.flags == 0 for row in rows[key]) <= 1
    core.clock.advance(seconds=30 * 60)
    for city in cities:
        await core.append(city)
    await core.decisions.decide_all()
    rows = await core.database.read(lambda conn: core.store.view.by_person(conn, keys))
    assert all(sum(row.flags == 0 for row in rows[key]) == 1 for key in keys)
    assert core.fsck().findings == ()


async def test_a_cancelled_license_frees_its_person_for_one_city_alone(core: Core, tmp_path: Path) -> None:
    suzhou, tianjin = [await core.city(code, tmp_path) for code in (SUZHOU, TIANJIN)]
    numbers = [f"11010519900101{number:04d}" for number in range(9)]
    licenses = [suzhou.issue(n, claim=c) for n, c in zip(numbers, await core.claim(suzhou, *numbers), strict=True)]
    await core.append(suzhou)
    assert await core.claim(tianjin, *numbers) == [None] * 9
    for license_id in licenses[:6]:
        suzhou.change(license_id, ["G"], event=license_pb2.LICENSE_EVENT_CANCELLED)
    suzhou.change(licenses[6], ["F"])
    suzhou.change(licenses[7], ["F", "G"], event=license_pb2.LICENSE_EVENT_CANCELLED)
    await core.append(suzhou)
    assert core.fsck().findings == ()
    answers = await asyncio.gather(*(core.claim(city, n) for n in numbers for city in (suzhou, tianjin)))
    taken = [(answers[2 * n][0], answers[2 * n + 1][0]) for n in range(9)]
    assert [sum(result is not None for result in pair) for pair in taken] == [1] * 6 + [0] * 3
    for number, pair in zip(numbers, taken, strict=True):
        for city, claim in zip((suzhou, tianjin), pair, strict=True):
            if claim is not None:
                city.issue(number, claim=claim)
    await core.append(suzhou)
    await core.append(tianjin)
    rows = await core.database.read(
        lambda conn: core.store.view.by_person(conn, [PERSONS.person_key(1, number) for number in numbers[:6]])
    )
    assert all(sorted(row.flags for row in held) == [0, int(ViewFlags.CANCELLED)] for held in rows.values())
    assert core.fsck().findings == ()


async def test_a_license_cancelled_while_it_waited_holds_nobody(core: Core, tmp_path: Path) -> None:
    suzhou, tianjin = [await core.city(code, tmp_path) for code in (SUZHOU, TIANJIN)]
    waited = tianjin.issue("110105199001010001")
    tianjin.change(waited, ["G"], event=license_pb2.LICENSE_EVENT_CANCELLED)
    again = tianjin.issue("110105199001010001")
    await core.append(tianjin)
    await core.decisions.decide_all()
    rows = await core.database.read(
        lambda conn: core.store.view.by_person(conn, [PERSONS.person_key(1, "110105199001010001")])
    )
    assert {row.license_id: row.flags for held in rows.values() for row in held} == {
        waited: int(ViewFlags.CANCELLED),
        again: 0,
    }
    assert await core.claim(suzhou, "110105199001010001") == [None]
    assert core.fsck().findings == ()


async def test_cancellations_and_claims_that_cross_leave_at_most_one_license_a_person(
    core: Core, tmp_path: Path
) -> None:
    cities = [await core.city(code, tmp_path) for code in (SUZHOU, TIANJIN)]
    numbers = [f"11010519900101{number:04d}" for number in range(12)]

    async def live(city: City, order: list[str]) -> None:
        for turn in range(3):
            for start in range(0, len(order), 4):
                part, first = order[start : start + 4], city.size
                grants = await core.claim(city, *part) if (start + turn) % 3 else [None] * len(part)
                issued = [city.issue(n, claim=grant) for n, grant in zip(part, grants, strict=True)]
                await core.append(city, first)
                await core.decisions.decide_all()
                first = city.size
                for license_id in issued[turn:]:
                    city.change(license_id, ["G"], event=license_pb2.LICENSE_EVENT_CANCELLED)
                await core.append(city, first)

    await asyncio.gather(live(cities[0], numbers), live(cities[1], numbers[::-1]))
    core.clock.advance(seconds=30 * 60)
    for city in cities:
        await core.append(city, city.size)
    await core.decisions.decide_all()
    assert core.fsck().findings == ()
    keys = [PERSONS.person_key(1, number) for number in numbers]
    rows = await core.database.read(lambda conn: core.store.view.by_person(conn, keys))
    assert all(sum(row.flags == 0 for row in rows[key]) <= 1 for key in keys)


async def test_sending_one_batch_many_times_at_once_applies_it_once(core: Core, tmp_path: Path) -> None:
    city = await core.city(SUZHOU, tmp_path)
    for number in range(20):
        city.issue(f"11010519900101{number:04d}")
    answers = await asyncio.gather(*(core.append(city) for _ in range(6)))
    assert {answer.next_index for answer in answers} == {20}
    report = core.fsck()
    assert (report.entries, report.licenses, report.findings) == (20, 20, ())


async def test_the_feed_of_a_city_has_no_gap_when_batches_and_decisions_write_to_it(core: Core, tmp_path: Path) -> None:
    city = await core.city(SUZHOU, tmp_path)

    async def write() -> None:
        for number in range(10):
            first = city.size
            city.append(b"unreadable")
            city.issue(f"11010519900101{number:04d}")
            await core.append(city, first)

    async def decide() -> None:
        for _ in range(10):
            await core.decisions.decide_all()

    await asyncio.gather(write(), decide())
    await core.decisions.decide_all()
    feed = await core.database.read(lambda conn: core.store.feeds.after(conn, SUZHOU, after=0, limit=100))
    assert [noted.seq for noted in feed] == list(range(1, 21))


async def test_a_license_that_was_erased_while_it_waited_for_a_decision_holds_nobody(
    core: Core, tmp_path: Path
) -> None:
    suzhou, tianjin = [await core.city(code, tmp_path) for code in (SUZHOU, TIANJIN)]
    number = "110105199001010001"
    waits = suzhou.issue(number)
    suzhou.change(waits, ["G"], event=license_pb2.LICENSE_EVENT_CANCELLED)
    suzhou.erase(waits)
    await core.append(suzhou)
    await core.decisions.decide_all()
    key = PERSONS.person_key(1, number)
    assert core.database.read_now(lambda conn: core.store.claims.of(conn, [key])) == {}
    assert core.database.read_now(lambda conn: core.store.pending(conn, limit=10)) == []
    (granted,) = await core.claim(tianjin, number)
    assert granted is not None
    assert core.fsck().findings == ()
