"""A registry that was set back gets its decisions back from a mirror: every one of them, as it was, and no other."""

from __future__ import annotations

import asyncio
import secrets
from dataclasses import dataclass, field, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import grpc
import pytest
from click.testing import CliRunner
from grpc_health.v1 import health_pb2, health_pb2_grpc
from sqlalchemy import Connection
from structlog.testing import capture_logs

from elicense import errors
from elicense.cli.join import join
from elicense.clock import utc_micros
from elicense.log.anchor import Anchor
from elicense.log.checkpoint import Checkpoint, sign_checkpoint
from elicense.log.decision import SignedHead
from elicense.log.entry import leaf_hash
from elicense.log.model import Head, LogKey, NewEntry
from elicense.log.writer import LogWriter
from elicense.rpc.channel import secure_channel
from elicense.rpc.errors import from_rpc_error
from elicense.sql.database import Database
from elicense.trust.credentials import Credentials
from elicense.trust.signer import generate_key_file
from elicense.trust.token import format_token
from elicense.v1 import (
    license_pb2,
    log_pb2,
    recovery_pb2_grpc,
    replication_pb2,
    verification_pb2,
    verification_pb2_grpc,
)
from elicense.v1 import recovery_pb2 as pb
from elicense.workers.place import Duty, Place
from elicense.workers.stop_mark import StopMark
from registry.app import build
from registry.breaches import CUSTODY_BROKEN
from registry.cli import main as registry_command
from registry.evidence_store import EVIDENCE_PER_REASON
from registry.history import own_doubt
from registry.names import registry_origin
from registry.quarantine_model import Kind
from tests.integration.registry.test_conflicts import CONTEST, NUMBER, WITHDRAW, Dispute
from tests.integration.registry.test_custody_proof import knows
from tests.integration.registry.test_epochs import open_epoch, wish
from tests.integration.registry.test_past import ask, query
from tests.integration.registry.test_quarantine import rewritten
from tests.integration.registry.world import CHENGDU, SUZHOU, TIANJIN, TRUST_DOMAIN, Verifier, World, running_world
from tests.support.city import DEADLINE_S, City
from tests.support.cluster import eventually
from tests.support.postgres import PostgresServer

NUMBERS = [f"11010519900101{number:04d}" for number in range(40)]


@dataclass
class Mirror:
    """What a city holds of the registry's log."""

    entries: list[log_pb2.LogEntry] = field(default_factory=list)
    heads: list[pb.SignedHead] = field(default_factory=list)
    head: bytes = b""
    evidence: list[bytes] = field(default_factory=list)


@dataclass
class Nation:
    """A registry, three cities and an operator, and the registry's database as it was before anything happened."""

    world: World
    suzhou: City
    chengdu: City
    tianjin: City
    operator: Credentials
    kept: dict[Path, bytes] = field(default_factory=dict)
    postgres: PostgresServer | None = None

    @property
    def cities(self) -> list[City]:
        return [self.suzhou, self.chengdu, self.tianjin]

    async def call(self, method: str, request: Any) -> Any:
        async with secure_channel(self.chengdu.credentials, retries=False, local_pool=True) as channel:
            try:
                stub = recovery_pb2_grpc.RecoveryServiceStub(channel)
                return await getattr(stub, method)(request, timeout=DEADLINE_S)
            except grpc.aio.AioRpcError as error:
                raise from_rpc_error(error) from error

    async def mirror(self) -> Mirror:
        held = Mirror()
        while True:
            request = pb.ReadRegistryLogRequest(epoch=1, first_index=len(held.entries))
            page = await self.call("ReadRegistryLog", request)
            held.head = page.head
            if not page.entries:
                return held
            held.entries += page.entries
            held.heads += page.heads
            held.evidence += page.evidence

    async def give(self, held: Mirror, first: int = 0, **changes: Any) -> int:
        fields: dict[str, Any] = {
            "entries": held.entries[first:],
            "heads": [h for h in held.heads if h.size > first],
            "evidence": held.evidence,
        } | changes
        request = pb.ReturnRegistryLogRequest(epoch=1, first_index=first, head=held.head, **fields)
        answer = await self.call("ReturnRegistryLog", request)
        size: int = answer.size
        return size

    async def stop(self) -> None:
        await self.world.node.stop(grace_s=0)
        self.world.database.close()

    async def start(self) -> None:
        world = self.world
        world.database = Database(world.config.database.url)
        world.node = await build(world.config, clock=world.clock)
        await world.node.start()
        for city in self.cities:
            await city.close()

    def files(self) -> list[Path]:
        return [path for path in self.world.config.node.data_dir.iterdir() if path.name.startswith("registry.db")]

    async def keep(self) -> None:
        await self.stop()
        self.kept = {path: path.read_bytes() for path in self.files()}
        if self.postgres is not None:
            await self._on_server(f"CREATE DATABASE {self._database}_kept TEMPLATE {self._database}")
        await self.start()

    @property
    def _database(self) -> str:
        return self.world.config.database.url.partition("?")[0].rpartition("/")[2]

    async def _on_server(self, statement: str) -> None:
        assert self.postgres is not None
        await asyncio.to_thread(self.postgres.execute, statement)

    def keep_anchor(self) -> None:
        """Have the anchor set back too."""
        anchor = self.world.config.anchor_path
        self.kept[anchor] = anchor.read_bytes()

    async def sign_anew(self) -> None:
        """Decide upon what no copy of the log has; set back with its anchor, the registry signs another history so."""
        for number in NUMBERS[10:20]:
            await self.tianjin.claim(number)

    async def set_back(self) -> None:
        """The database, not the anchor."""
        await self.stop()
        for path in self.files():
            path.unlink()
        for path, content in self.kept.items():
            path.write_bytes(content)
        if self.postgres is not None:
            await self._on_server(f"DROP DATABASE {self._database} WITH (FORCE)")
            await self._on_server(f"ALTER DATABASE {self._database}_kept RENAME TO {self._database}")
        await self.start()

    async def send_again(self, *cities: City) -> None:
        for city in cities or self.cities:
            city.feed.clear()
            await city.replicate()

    async def allow_signing(self) -> str:
        config = f"{self.world.config.node.data_dir}/config.toml"
        await self.stop()
        command = ["allow-signing", "--yes", "--config", config]
        done = await asyncio.to_thread(CliRunner().invoke, registry_command, command)
        await self.start()
        return done.output

    def state(self) -> dict[str, Any]:
        """Everything that rests on decisions, but for what no log tells."""

        def read(conn: Connection) -> dict[str, Any]:
            store = self.world.store
            rows = list(store.view.all_rows(conn))
            return {
                "rows": sorted(rows, key=lambda row: row.license_id),
                "claims": store.claims.of(conn, {row.person_key for row in rows}),
                "conflicts": {replace(c, notice_city=0, notice_seq=0) for c in store.conflicts.all(conn)},
                "statements": set(store.conflicts.all_statements(conn)),
                "offers": set(store.transfers.offers_of(conn, {row.license_id for row in rows})),
                "waiting": store.pending(conn, limit=100),
                "quarantines": store.quarantines.all(conn),
                "told": [
                    row for row in store.told.all(conn) if row.registry_idx is not None
                ],  # the others, cities tell
                "published": store.published(conn),
                "cities": [(city.city, city.epoch, city.log_key) for city in store.cities(conn)],
                "decisions": store.logs.entries(conn, LogKey(0, 1), 0, 1_000),
            }

        return self.world.database.read_now(read)


@pytest.fixture
async def nation(world: World) -> Nation:
    return await begin(world, None)


async def begin(world: World, postgres: PostgresServer | None) -> Nation:
    suzhou, chengdu, tianjin = [await world.city(code) for code in (SUZHOU, CHENGDU, TIANJIN)]
    token = await world.token(f"spiffe://{TRUST_DOMAIN}/operator/wang")
    operator = await asyncio.to_thread(join, format_token(token), world.folder / "operator")
    nation = Nation(world, suzhou, chengdu, tianjin, operator, postgres=postgres)
    await nation.keep()
    return nation


async def issued(city: City, number: str) -> bytes:
    """A licence upon a grant."""
    license_id = city.issue(number, claim=(await city.claim(number))[0])
    await city.replicate()
    return license_id


async def dispute(nation: Nation) -> Dispute:
    held = await issued(nation.suzhou, NUMBER)
    waiting = nation.tianjin.issue(NUMBER)
    await nation.tianjin.replicate()
    await nation.tianjin.decided(1)
    return Dispute(nation.world, nation.suzhou, nation.tianjin, None, nation.operator, held, waiting)  # type: ignore[arg-type]


# -- what happens ------------------------------------------------------------------------------------------------------


async def grants(nation: Nation) -> None:
    license_id = await issued(nation.suzhou, NUMBERS[0])
    nation.suzhou.change(license_id, "D")
    await issued(nation.chengdu, NUMBERS[1])
    await nation.tianjin.claim(NUMBERS[2], NUMBERS[3])
    cancelled = await issued(nation.suzhou, NUMBERS[4])
    nation.suzhou.change(cancelled, "G", event=license_pb2.LICENSE_EVENT_CANCELLED)
    await nation.suzhou.replicate()
    await issued(nation.chengdu, NUMBERS[4])


async def confirmations(nation: Nation) -> None:
    for number in NUMBERS[:3]:
        nation.suzhou.issue(number)
    await nation.suzhou.replicate()
    await nation.suzhou.decided(3)


async def an_open_conflict(nation: Nation) -> None:
    await (await dispute(nation)).say(nation.suzhou, CONTEST)


async def a_withdrawn_conflict(nation: Nation) -> None:
    disputed = await dispute(nation)
    await disputed.say(nation.tianjin, WITHDRAW)


async def a_conflict_for_the_other(nation: Nation) -> None:
    disputed = await dispute(nation)
    await disputed.say(nation.suzhou, CONTEST)
    await disputed.say(nation.tianjin, CONTEST)
    await disputed.decide(disputed.waiting)
    await nation.suzhou.decided(2)
    # Only once it has stored that its own is void does the other count.
    await nation.suzhou.send(nation.suzhou.batch(nation.suzhou.size))
    await nation.tianjin.decided(2)


async def a_bar(nation: Nation) -> None:
    license_id = await issued(nation.suzhou, NUMBER)
    nation.suzhou.change(license_id, "E")
    await nation.suzhou.replicate()
    nation.tianjin.issue(NUMBER)
    await nation.tianjin.replicate()
    await nation.tianjin.decided(1)


async def hand_overs(nation: Nation) -> None:
    license_id = await issued(nation.suzhou, NUMBERS[0])
    nation.suzhou.offer(license_id, CHENGDU)
    await nation.suzhou.replicate()
    nation.chengdu.take_over(license_id, nation.suzhou)
    await nation.chengdu.replicate()
    await nation.chengdu.decided(1)
    nation.chengdu.change(license_id, "D")
    kept = nation.suzhou.issue(NUMBERS[1], claim=(await nation.suzhou.claim(NUMBERS[1]))[0])
    nation.suzhou.offer(kept, CHENGDU)
    nation.suzhou.offer(kept, 0)
    await nation.suzhou.replicate()
    nation.chengdu.take_over(kept, nation.suzhou, index=nation.suzhou.size - 2)
    await nation.chengdu.replicate()
    await nation.chengdu.decided(2)


async def heads(nation: Nation) -> None:
    await grants(nation)
    await nation.world.node.publish_heads()
    nation.world.clock.advance(seconds=61)
    await confirmations(nation)
    await nation.world.node.publish_heads()


async def acknowledgements(nation: Nation) -> None:
    """The city that gave a licence away signs that it knows, and the log keeps that."""
    await hand_overs(nation)
    await knows(nation.suzhou)
    await nation.world.node.publish_heads()
    (row,) = nation.state()["told"]
    # What comes back must be this word, not the one that a city signs anew, at a greater size of its log.
    await issued(nation.suzhou, NUMBERS[2])
    assert row.size < nation.suzhou.size


async def an_epoch(nation: Nation) -> None:
    await issued(nation.suzhou, NUMBERS[0])
    await open_epoch(nation.suzhou, wish(nation.suzhou, generate_key_file(nation.world.folder / "second.pem")))


HISTORIES = [
    grants,
    confirmations,
    an_open_conflict,
    a_withdrawn_conflict,
    a_conflict_for_the_other,
    a_bar,
    hand_overs,
    heads,
    acknowledgements,
    an_epoch,
]


@pytest.mark.parametrize("history", HISTORIES)
async def test_every_kind_of_decision_comes_back_with_all_that_it_changed(nation: Nation, history: Any) -> None:
    await history(nation)
    held, before = await nation.mirror(), nation.state()
    await nation.set_back()
    with pytest.raises(errors.DataLoss):
        await nation.tianjin.claim(NUMBERS[30])
    # The decisions may come before the records that they rest on, and the other way round.
    size = await nation.give(held)
    epochs = {city.city: city.epoch for city in nation.world.database.read_now(nation.world.store.cities)}
    for city in nation.cities:
        if epochs[city.code] == 1:
            await nation.send_again(city)
        size = await nation.give(held, size)
    assert size == len(held.entries)
    after = nation.state()
    assert after["decisions"][: len(held.entries)] == before["decisions"]
    for name in before.keys() - {"decisions", "published"}:
        assert after[name] == before[name], name
    assert not nation.world.fsck().findings
    (claim,) = await nation.tianjin.claim(NUMBERS[31])
    assert (claim.grant.registry_epoch, claim.grant.registry_index) == (1, len(held.entries))


async def test_decisions_come_back_on_postgresql_too(tmp_path: Path, postgres: PostgresServer) -> None:
    with postgres.database() as url:
        async with running_world(tmp_path, database_url=url) as world:
            nation = await begin(world, postgres)
            await late_records(nation, cancels)
            await an_open_conflict(nation)
            await knows(nation.suzhou)
            await world.node.publish_heads()
            held, before = await nation.mirror(), nation.state()
            assert before["told"]
            await nation.set_back()
            with pytest.raises(errors.DataLoss):
                await nation.tianjin.claim(NUMBERS[30])
            await nation.send_again()
            assert await nation.give(held) == len(held.entries)
            after = nation.state()
            for name in before.keys() - {"published"}:
                assert after[name] == before[name], name
            assert not nation.world.fsck().findings
            await nation.tianjin.claim(NUMBERS[31])


async def test_nothing_is_decided_until_everything_is_back_also_over_a_restart(nation: Nation) -> None:
    await grants(nation)
    held = await nation.mirror()
    await nation.set_back()
    await nation.send_again()
    for size in range(1, len(held.entries)):
        heads = [head for head in held.heads if head.size <= size]
        if not heads or heads[-1].size != size:
            continue
        assert await nation.give(held, entries=held.entries[:size], heads=heads) == size
        await nation.stop()
        await nation.start()
        with pytest.raises(errors.LogBehind):
            await nation.tianjin.claim(NUMBERS[30])
    assert await nation.give(held) == len(held.entries)
    await nation.tianjin.claim(NUMBERS[30])
    assert not nation.world.fsck().findings


async def test_a_registry_says_that_decisions_are_missing_until_everything_is_back(nation: Nation) -> None:
    async def missing() -> bool:
        answer = await nation.suzhou.send(nation.suzhou.batch(nation.suzhou.size))
        return bool(answer.decisions_missing)

    await grants(nation)
    held = await nation.mirror()
    assert not await missing()
    await nation.set_back()
    await nation.send_again()
    assert await missing()
    assert await nation.give(held) == len(held.entries)
    assert not await missing()


async def test_a_registry_that_lacks_decisions_says_valid_of_no_license_until_it_has_them(nation: Nation) -> None:
    suzhou, chengdu, _ = nation.cities
    moves = await issued(suzhou, NUMBER)
    suzhou.offer(moves, CHENGDU)
    await suzhou.replicate()
    police = await nation.world.verifier()
    await nation.keep()
    moment = nation.world.clock()
    chengdu.take_over(moves, suzhou)
    await chengdu.replicate()
    await chengdu.decided(1)
    held = await nation.mirror()
    await nation.set_back()
    # The former city is heard again, and has the license by all that is held here.
    await nation.send_again(suzhou)
    stub = verification_pb2_grpc.VerificationServiceStub(police.channel)
    asked = query(NUMBER)
    context = verification_pb2.LookContext(purpose=verification_pb2.PURPOSE_ROADSIDE_CHECK, case_number="case-1")
    many = verification_pb2.BatchVerifyLicensesRequest(queries=[asked], context=context)
    watch = stub.WatchLicense(
        verification_pb2.WatchLicenseRequest(query=asked, context=context), timeout=DEADLINE_S, wait_for_ready=True
    )
    told = [
        (await watch.read()).verdict,
        await police.ask(NUMBER),
        (await ask(police, NUMBER, at=moment)).verdict,
        *(await stub.BatchVerifyLicenses(many, timeout=DEADLINE_S)).verdicts,
    ]
    for verdict in told:
        assert verdict.outcome == verification_pb2.OUTCOME_INDETERMINATE
        assert verdict.reasons[0] == verification_pb2.VERDICT_REASON_CITY_STALE
        assert not verdict.freshness.HasField("as_of_time")
    await nation.send_again()
    assert await nation.give(held) == len(held.entries)
    await nation.send_again()
    verdict = (await watch.read()).verdict
    while verdict.outcome == verification_pb2.OUTCOME_INDETERMINATE:
        verdict = (await watch.read()).verdict
    watch.cancel()
    assert (verdict.outcome, verdict.freshness.city) == (verification_pb2.OUTCOME_VALID, CHENGDU)
    assert (await police.ask(NUMBER)).outcome == verification_pb2.OUTCOME_VALID
    assert (await ask(police, NUMBER, at=moment)).verdict.outcome == verification_pb2.OUTCOME_VALID


async def answers(police: Verifier, moment: int) -> list[verification_pb2.Verdict]:
    """What the registry says of the number, asked in every way but a watch."""
    context = verification_pb2.LookContext(purpose=verification_pb2.PURPOSE_ROADSIDE_CHECK, case_number="case-1")
    many = verification_pb2.BatchVerifyLicensesRequest(queries=[query(NUMBER)], context=context)
    stub = verification_pb2_grpc.VerificationServiceStub(police.channel)
    return [
        await police.ask(NUMBER),
        (await ask(police, NUMBER, at=moment)).verdict,
        (await ask(police, NUMBER, at=moment, sign=True)).verdict,
        *(await stub.BatchVerifyLicenses(many, timeout=DEADLINE_S)).verdicts,
    ]


async def is_serving(nation: Nation) -> bool:
    async with secure_channel(nation.chengdu.credentials, retries=False, local_pool=True) as channel:
        request = health_pb2.HealthCheckRequest()
        answer = await health_pb2_grpc.HealthStub(channel).Check(request, timeout=DEADLINE_S, wait_for_ready=True)
        return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)


async def test_a_registry_that_signed_two_histories_says_valid_of_no_license_until_an_operator_lets_it_go_on(
    nation: Nation,
) -> None:
    suzhou, chengdu, _ = nation.cities
    moves = await issued(suzhou, NUMBER)
    suzhou.offer(moves, CHENGDU)
    await suzhou.replicate()
    police = await nation.world.verifier()
    await nation.keep()
    nation.keep_anchor()
    moment = nation.world.clock()
    chengdu.take_over(moves, suzhou)
    await chengdu.replicate()
    await chengdu.decided(1)
    other = await nation.mirror()
    await nation.set_back()
    await nation.send_again(suzhou)
    # Nothing tells it that a hand-over is missing, and it signs anew.
    await nation.sign_anew()
    context = verification_pb2.LookContext(purpose=verification_pb2.PURPOSE_ROADSIDE_CHECK, case_number="case-1")
    watch = verification_pb2_grpc.VerificationServiceStub(police.channel).WatchLicense(
        verification_pb2.WatchLicenseRequest(query=query(NUMBER), context=context),
        timeout=DEADLINE_S,
        wait_for_ready=True,
    )
    assert (await watch.read()).verdict.outcome == verification_pb2.OUTCOME_VALID
    assert await is_serving(nation)
    with pytest.raises(errors.LogForked):
        await nation.give(other)
    # Whoever follows the license hears it at once, not when the city has been silent for too long.
    assert (await watch.read()).verdict.outcome == verification_pb2.OUTCOME_INDETERMINATE
    await nation.send_again(suzhou)
    assert {each.outcome for each in await answers(police, moment)} == {verification_pb2.OUTCOME_INDETERMINATE}
    assert not await is_serving(nation)
    await nation.stop()
    await nation.start()
    await nation.send_again(suzhou)
    verdict = await police.ask(NUMBER)
    assert verdict.outcome == verification_pb2.OUTCOME_INDETERMINATE
    assert verdict.last_known.outcome == verification_pb2.OUTCOME_VALID
    assert {each.outcome for each in await answers(police, moment)} == {verification_pb2.OUTCOME_INDETERMINATE}
    assert not await is_serving(nation)
    # It says VALID again where a person has it go on, and of the city that has the license by what it decides then.
    await nation.allow_signing()
    assert await is_serving(nation)
    await nation.send_again()
    await chengdu.decided(1)
    verdict = await police.ask(NUMBER)
    assert (verdict.outcome, verdict.freshness.city) == (verification_pb2.OUTCOME_VALID, CHENGDU)
    assert not nation.world.fsck().findings


async def test_a_process_that_only_verifies_says_valid_of_nothing_though_the_one_that_writes_has_not_started(
    nation: Nation,
) -> None:
    await issued(nation.suzhou, NUMBER)
    police = await nation.world.verifier()
    await nation.keep()
    assert (await police.ask(NUMBER)).outcome == verification_pb2.OUTCOME_VALID
    await nation.tianjin.claim(NUMBERS[0])
    await nation.set_back()
    await nation.world.node.stop(grace_s=0)
    folder = nation.world.folder / "processes"
    folder.mkdir()
    alone = Place(duty=Duty.VERIFIER, number=1, count=1, run="one", folder=folder)
    nation.world.node = await build(nation.world.config, clock=nation.world.clock, place=alone)
    await nation.world.node.start()
    assert (await police.ask(NUMBER)).outcome == verification_pb2.OUTCOME_INDETERMINATE
    assert not await is_serving(nation)


async def test_a_registry_in_doubt_says_as_it_starts_that_it_decides_nothing(nation: Nation) -> None:
    await nation.tianjin.claim(NUMBERS[0])
    held = await nation.mirror()
    with capture_logs() as lines:
        await nation.set_back()
        await nation.give(held)
        await nation.stop()
        await nation.start()
    assert [line["deciding"] for line in lines if line["event"] == "registry_ready"] == [False, True]


async def test_a_registry_whose_writer_ended_by_its_own_fault_says_what_stays_true(
    nation: Nation, monkeypatch: pytest.MonkeyPatch
) -> None:
    await issued(nation.suzhou, NUMBER)
    police = await nation.world.verifier()

    async def fail(*_: object) -> None:
        raise RuntimeError("a fault")

    monkeypatch.setattr(LogWriter, "_settle", fail)
    with pytest.raises(errors.StoreUnavailable):
        await nation.tianjin.claim(NUMBERS[0])
    assert (await police.ask(NUMBER)).outcome == verification_pb2.OUTCOME_VALID

    async def is_left() -> bool:
        return not await is_serving(nation)

    await eventually(is_left)


async def test_what_another_process_decides_while_one_compares_is_not_missing(nation: Nation) -> None:
    await nation.tianjin.claim(NUMBERS[0])
    await nation.stop()
    world, key = nation.world, LogKey(0, 1)
    logs, origin = world.store.logs, registry_origin(TRUST_DOMAIN, 1)
    database = Database(world.config.database.url)

    def decide(conn: Connection) -> Head:
        head = logs.head(conn, key, lock=True)
        assert head is not None
        entry = NewEntry(b"decided", bytes(32), leaf_hash(bytes(32), b"decided"))
        return logs.advance(conn, head, [entry], recorded_us=head.recorded_us)

    class Shared(Anchor):
        """An anchor that another process moves on as it is read."""

        def last(self) -> Checkpoint | None:
            head = database.write_now(decide)
            checkpoint = Checkpoint(origin, head.size, head.root)
            self.keep(SignedHead(head.size, head.root, sign_checkpoint(checkpoint, world.keys.log)))
            return super().last()

    anchor = Shared(world.config.anchor_path, origin)
    assert database.read_now(lambda conn: own_doubt(conn, logs, key, anchor)) is None
    anchor.close()
    database.close()
    await nation.start()


async def test_a_registry_that_runs_is_not_let_sign_again(nation: Nation) -> None:
    config = nation.world.config
    mark = StopMark(config.stop_mark_path, utc_micros)
    mark.set(errors.StoreCorrupt("its database reported damage"))
    before = Anchor(config.anchor_path, registry_origin(config.node.trust_domain, 1)).last()
    command = ["allow-signing", "--yes", "--config", f"{config.node.data_dir}/config.toml"]
    refused = await asyncio.to_thread(CliRunner().invoke, registry_command, command)
    assert refused.exit_code == 1
    assert "stop it first" in refused.output
    assert mark.read() is not None
    assert Anchor(config.anchor_path, registry_origin(config.node.trust_domain, 1)).last() == before
    assert "in epoch 2" in await nation.allow_signing()


async def test_what_a_city_is_told_before_it_is_heard_again_gets_no_number_that_it_has(nation: Nation) -> None:
    suzhou, chengdu, tianjin = nation.cities
    moves, disputed = await issued(suzhou, NUMBERS[10]), await issued(suzhou, NUMBER)
    suzhou.offer(moves, CHENGDU)
    await suzhou.replicate()
    await nation.keep()
    await confirmations(nation)
    await nation.set_back()
    await nation.allow_signing()
    # All of this is said to Suzhou, which has three words of before; nobody knows of them here.
    chengdu.take_over(moves, suzhou)
    await chengdu.replicate()
    await chengdu.decided(1)
    waiting = tianjin.issue(NUMBER)
    await tianjin.replicate()
    await tianjin.decided(1)
    await Dispute(nation.world, suzhou, tianjin, None, nation.operator, disputed, waiting).say(suzhou, WITHDRAW)  # type: ignore[arg-type]
    await suzhou.send(suzhou.batch(suzhou.size - 3))
    assert [word.sequence for word in suzhou.feed] == list(range(1, len(suzhou.feed) + 1))
    told = {(word.kind, word.license_id) for word in suzhou.feed[3:]}
    assert (replication_pb2.DISPOSITION_KIND_TRANSFERRED_AWAY, moves) in told
    assert (replication_pb2.DISPOSITION_KIND_VOID, disputed) in told
    assert not nation.world.fsck().findings
    # Now that it says that it has them, the other one counts.
    await suzhou.send(suzhou.batch(suzhou.size))
    await tianjin.decided(2)
    assert not nation.world.fsck().findings


async def test_a_registry_anchors_its_head_as_it_starts_since_a_power_cut_may_have_taken_the_last_one(
    nation: Nation,
) -> None:
    world, path = nation.world, nation.world.config.anchor_path
    before = path.read_bytes()
    await issued(nation.suzhou, NUMBERS[0])
    await nation.stop()
    path.write_bytes(before)
    await nation.start()
    (own,) = [head for head in world.database.read_now(world.store.logs.heads) if head.key.log == 0]
    last = Anchor(path, registry_origin(TRUST_DOMAIN, 1)).last()
    assert last is not None
    assert (last.size, last.root) == (own.size, own.root)


async def test_a_vector_of_heads_is_true_though_the_logs_came_back_in_other_batches(nation: Nation) -> None:
    nation.suzhou.issue(NUMBERS[0])
    await nation.suzhou.replicate()
    assert await nation.world.node.publish_heads()
    nation.suzhou.issue(NUMBERS[1])
    await nation.suzhou.replicate()
    held = await nation.mirror()
    await nation.set_back()
    # Both records in one batch this time: there is no commit of one record.
    await nation.send_again()
    assert await nation.give(held) == len(held.entries)
    assert not nation.world.fsck().findings


async def test_a_registry_set_back_with_its_anchor_stops_when_it_is_shown_what_it_signed(nation: Nation) -> None:
    nation.keep_anchor()
    await grants(nation)
    held = await nation.mirror()
    await nation.set_back()
    assert await nation.give(held, entries=[], heads=[]) == 0
    with pytest.raises(errors.LogBehind):
        await nation.tianjin.claim(NUMBERS[30])
    await nation.send_again()
    assert await nation.give(held) == len(held.entries)
    await nation.tianjin.claim(NUMBERS[30])
    assert not nation.world.fsck().findings


async def test_a_registry_that_went_on_in_another_history_decides_nothing_more_over_every_restart(
    nation: Nation,
) -> None:
    nation.keep_anchor()
    await grants(nation)
    held = await nation.mirror()
    await nation.set_back()
    await nation.sign_anew()
    with pytest.raises(errors.LogForked):
        await nation.give(held)
    with pytest.raises(errors.LogForked):
        await nation.tianjin.claim(NUMBERS[30])
    await nation.stop()
    await nation.start()
    with pytest.raises(errors.LogForked):
        await nation.tianjin.claim(NUMBERS[30])
    # It goes on where a person says so, and signs nothing more in the epoch that has two histories.
    assert (await nation.allow_signing()).startswith("this registry decides nothing: the registry signed")
    (claim,) = await nation.tianjin.claim(NUMBERS[30])
    assert claim.grant.registry_epoch == 2


async def test_a_registry_that_lacks_decisions_does_not_forget_that_it_signed_two_histories_once_it_has_them(
    nation: Nation,
) -> None:
    nation.keep_anchor()
    await grants(nation)
    other = await nation.mirror()
    await nation.set_back()
    await nation.sign_anew()
    nation.kept.clear()
    await nation.keep()
    await nation.tianjin.claim(NUMBERS[20])
    held = await nation.mirror()
    await nation.set_back()
    with pytest.raises(errors.LogBehind):
        await nation.tianjin.claim(NUMBERS[30])
    with pytest.raises(errors.LogForked):
        await nation.give(other)
    assert await nation.give(held) == len(held.entries)
    for _ in range(2):
        with pytest.raises(errors.DataLoss):
            await nation.tianjin.claim(NUMBERS[30])
        await nation.stop()
        await nation.start()
    with pytest.raises(errors.LogForked):
        await nation.tianjin.claim(NUMBERS[30])


@pytest.mark.parametrize("what", ["record", "salt", "left out", "another head", "signed by another", "exchanged"])
async def test_what_the_registry_did_not_sign_is_not_taken(nation: Nation, what: str) -> None:
    await grants(nation)
    held = await nation.mirror()
    await nation.set_back()
    await nation.send_again()
    entries = [log_pb2.LogEntry.FromString(entry.SerializeToString()) for entry in held.entries]
    forged = Mirror(entries, list(held.heads), held.head)
    if what == "record":
        forged.entries[1].record = forged.entries[2].record
    elif what == "salt":
        forged.entries[1].salt = secrets.token_bytes(32)
    elif what == "left out":
        del forged.entries[1]
    elif what == "another head":
        forged.heads[1] = pb.SignedHead(size=forged.heads[1].size, note=forged.heads[0].note)
    elif what == "signed by another":
        forged.heads[1] = pb.SignedHead(size=forged.heads[1].size, note=nation.suzhou.note())
    else:
        forged.entries[1], forged.entries[2] = forged.entries[2], forged.entries[1]
    with pytest.raises(errors.Malformed):
        await nation.give(forged)
    assert await nation.give(held) == len(held.entries)
    assert not nation.world.fsck().findings


def suspends(nation: Nation, license_id: bytes) -> None:
    nation.suzhou.change(license_id, "D")


def cancels(nation: Nation, license_id: bytes) -> None:
    nation.suzhou.change(license_id, "G", event=license_pb2.LICENSE_EVENT_CANCELLED)


def revokes(nation: Nation, license_id: bytes) -> None:
    nation.suzhou.change(license_id, "E")


def withdraws(nation: Nation, license_id: bytes) -> None:
    nation.suzhou.offer(license_id, 0)


def offers_it_to_another(nation: Nation, license_id: bytes) -> None:
    nation.suzhou.offer(license_id, TIANJIN)
    nation.tianjin.take_over(license_id, nation.suzhou)


def writes_much(nation: Nation, license_id: bytes) -> None:
    for letters in ("D", "DH", "G"):
        nation.suzhou.change(license_id, letters)


async def late_records(nation: Nation, late: Any) -> bytes:
    """Suzhou hands a licence over to Chengdu, which changes it, and writes of it all the same."""
    license_id = await issued(nation.suzhou, NUMBERS[0])
    nation.suzhou.offer(license_id, CHENGDU)
    await nation.suzhou.replicate()
    nation.chengdu.take_over(license_id, nation.suzhou)
    await nation.chengdu.replicate()
    await nation.chengdu.decided(1)
    nation.chengdu.change(license_id, "D")
    await nation.chengdu.replicate()
    late(nation, license_id)
    await nation.suzhou.replicate()
    await nation.tianjin.replicate()
    await nation.suzhou.decided(2)
    await nation.tianjin.decided(nation.tianjin.size)
    return license_id


@pytest.mark.parametrize("late", [suspends, cancels, revokes, withdraws, offers_it_to_another, writes_much])
async def test_a_hand_over_comes_back_behind_what_the_old_city_wrote_too_late(nation: Nation, late: Any) -> None:
    license_id = await late_records(nation, late)
    held, before = await nation.mirror(), nation.state()
    await nation.set_back()
    assert await nation.give(held) == 1
    # What came too late is here before the decision that makes it so.
    await nation.send_again()
    assert await nation.give(held) == len(held.entries)
    after = nation.state()
    for name in before.keys() - {"published"}:
        assert after[name] == before[name], name
    told = {
        city.code: {word.kind for word in await city.decided(1) if word.license_id == license_id}
        for city in (nation.suzhou, nation.chengdu)
    }
    assert replication_pb2.DISPOSITION_KIND_NOT_IN_CUSTODY in told[SUZHOU]
    assert replication_pb2.DISPOSITION_KIND_LATE_RECORD in told[CHENGDU]
    assert not nation.world.fsck().findings
    await nation.tianjin.claim(NUMBERS[30])


async def test_a_hand_over_after_which_the_old_city_gave_another_number_is_not_brought_back_by_halves(
    nation: Nation,
) -> None:
    (claim,) = await nation.suzhou.claim(NUMBERS[20])
    await late_records(nation, lambda nation, license_id: nation.suzhou.renumber(license_id, NUMBERS[20], claim))
    held = await nation.mirror()
    await nation.set_back()
    assert await nation.give(held) == 2
    await nation.send_again()
    with pytest.raises(errors.LogBehind, match="allow-signing"):
        await nation.give(held)
    with pytest.raises(errors.LogBehind):
        await nation.tianjin.claim(NUMBERS[30])
    assert not nation.world.fsck().findings
    assert "epoch 2" in await nation.allow_signing()
    (claim,) = await nation.tianjin.claim(NUMBERS[30])
    assert claim.grant.registry_epoch == 2
    assert not nation.world.fsck().findings
    # Chengdu wrote upon the registry's word, which is lost: what is refused now accuses nobody.
    words = {word.kind for word in await nation.chengdu.decided(2)}
    assert replication_pb2.DISPOSITION_KIND_NOT_IN_CUSTODY in words
    await nation.tianjin.claim(NUMBERS[31])
    await nation.world.node.breaches.look()
    assert not nation.world.database.read_now(lambda conn: nation.world.store.evidence.kept_for(conn, CUSTODY_BROKEN))


@pytest.mark.parametrize("proved", [True, False])
async def test_a_quarantine_comes_back_too_with_what_it_rests_on(nation: Nation, proved: bool) -> None:
    await issued(nation.suzhou, NUMBERS[0])
    honest = list(nation.suzhou.salts)
    rewritten(nation.suzhou, 0)
    with pytest.raises(errors.LogForked):
        await nation.suzhou.send(nation.suzhou.batch(1))
    nation.suzhou.salts[:] = honest
    held, before = await nation.mirror(), nation.state()
    (evidence,) = held.evidence
    await nation.set_back()
    await nation.send_again()
    # What no decision cites is not kept.
    sent = [b"anything", evidence] if proved else [evidence + b" "]
    assert await nation.give(held, evidence=sent) == len(held.entries)
    assert nation.state()["quarantines"] == before["quarantines"]
    kept = nation.world.database.read_now(lambda conn: [body for _, _, body in nation.world.store.evidence.all(conn)])
    assert kept == [evidence] * proved
    missing = [] if proved else ["the evidence that it rests on is missing"]
    assert [f.what for f in nation.world.fsck().findings] == missing
    # What is missing is asked for, and taken when it comes alone.
    asked = await nation.call("ReadRegistryLog", pb.ReadRegistryLogRequest(epoch=1, first_index=0))
    assert list(asked.evidence_wanted) == ([] if proved else [sha256(evidence).digest()])
    assert await nation.give(held, len(held.entries), evidence=[b"anything", evidence]) == len(held.entries)
    asked = await nation.call("ReadRegistryLog", pb.ReadRegistryLogRequest(epoch=1, first_index=0))
    assert list(asked.evidence_wanted) == []
    assert list(asked.evidence) == [evidence]
    assert not nation.world.fsck().findings
    with pytest.raises(errors.Quarantined):
        await nation.suzhou.claim(NUMBERS[30])


async def bring_into_quarantine(city: City, how: str) -> None:
    """Have a city's fourth entry damaged on its way, or its first one written otherwise."""
    city.issue(NUMBERS[3])
    batch = city.batch(3)
    if how == "unexplained":
        batch.entries[0].salt = bytes(32)
        with pytest.raises(errors.RootMismatch):
            await city.send(batch)
        return
    honest = list(city.salts)
    rewritten(city, 0)
    with pytest.raises(errors.LogForked):
        await city.send(city.batch(0, 3))
    city.salts[:] = honest


@pytest.mark.parametrize("how", ["fork", "unexplained"])
async def test_what_the_registry_lost_of_a_city_in_quarantine_it_takes_again_upon_its_receipt_alone(
    nation: Nation, how: str
) -> None:
    city = nation.suzhou
    for number in NUMBERS[:3]:
        await issued(city, number)
    await bring_into_quarantine(city, how)
    held = await nation.mirror()
    await nation.set_back()
    assert await nation.give(held) == len(held.entries)
    before = nation.world.database.read_now(lambda conn: nation.world.store.state(conn, SUZHOU))
    other = replace(city, salts=[bytes(32)] * city.size)
    nation.world.has_held(other)
    shown = [None, city.held_before(3), other.held_before(2)]
    refused = [city.batch(0, 2), city.batch(0, 2), city.batch(0, 2)]
    for batch, held_before in zip(refused, shown, strict=True):
        if held_before is not None:
            batch.held_before.CopyFrom(held_before)
        with pytest.raises(errors.Quarantined):
            await city.send(batch)
    beyond = city.batch(0, 4)
    beyond.held_before.CopyFrom(city.held_before(4))
    if how == "fork":
        with pytest.raises(errors.Quarantined):
            await city.send(beyond)
    for first, stop in ((0, 2), (2, 3)):
        batch = city.batch(first, stop, tip_size=3)
        batch.held_before.CopyFrom(city.held_before(stop))
        assert (await city.send(batch)).next_index == stop
    after = nation.world.database.read_now(lambda conn: nation.world.store.state(conn, SUZHOU))
    assert after is not None
    assert (after.as_of_us, after.next_index) == (0 if before is None else before.as_of_us, 3)
    # That it has nothing to send makes it no fresher, and what the registry never held stays out.
    with pytest.raises(errors.Quarantined):
        await city.send(city.batch(3, 3, checkpoint=b""))
    if how == "fork":
        with pytest.raises(errors.Quarantined):
            await city.send(city.batch(3))
    else:
        assert (await city.send(city.batch(3))).next_index == 4
    assert not nation.world.fsck().findings


async def forks_unjudged(nation: Nation) -> None:
    """Suzhou signs another history of a log that is held, and the registry can decide nothing."""
    city = nation.suzhou
    honest = list(city.salts)
    for index in (0, 1):
        rewritten(city, index)
        with pytest.raises(errors.LogForked):
            await city.send(city.batch(0))
    city.salts[:] = honest
    assert not nation.state()["quarantines"]


async def is_kept_out(nation: Nation) -> None:
    """Wait until Suzhou is in quarantine, once and for a file that convinces, and stays so."""

    async def decided() -> bool:
        return bool(nation.state()["quarantines"])

    await eventually(decided)
    for _ in range(2):
        assert await nation.world.node.disputes.judge_kept() == 0
        (held,) = nation.state()["quarantines"]
        assert (held.city, held.kind, held.size) == (SUZHOU, Kind.FORK, nation.suzhou.size)
        with pytest.raises(errors.Quarantined):
            await nation.suzhou.send(nation.suzhou.batch(nation.suzhou.size, checkpoint=b""))
        assert not nation.world.fsck().findings
        await nation.stop()
        await nation.start()


async def test_a_fork_that_was_proved_while_decisions_were_missing_is_decided_once_they_are_back(
    nation: Nation,
) -> None:
    for number in NUMBERS[:3]:
        await issued(nation.suzhou, number)
    await nation.keep()
    await nation.tianjin.claim(NUMBERS[20])
    held = await nation.mirror()
    await nation.set_back()
    await forks_unjudged(nation)
    await nation.stop()
    await nation.start()
    assert not nation.state()["quarantines"]
    assert await nation.give(held) == len(held.entries)
    await is_kept_out(nation)


async def test_a_fork_that_was_proved_while_the_registry_had_two_histories_is_decided_once_an_operator_lets_it_go_on(
    nation: Nation,
) -> None:
    for number in NUMBERS[:3]:
        await issued(nation.suzhou, number)
    await nation.keep()
    nation.keep_anchor()
    await nation.tianjin.claim(NUMBERS[20])
    other = await nation.mirror()
    await nation.set_back()
    await nation.sign_anew()
    with pytest.raises(errors.LogForked):
        await nation.give(other)
    await forks_unjudged(nation)
    await nation.allow_signing()
    await is_kept_out(nation)


async def test_a_city_that_forks_again_and_again_while_nothing_is_decided_fills_no_disk_and_is_judged_later(
    nation: Nation,
) -> None:
    city, store = nation.suzhou, nation.world.store
    for number in NUMBERS[:3]:
        await issued(city, number)
    await nation.keep()
    await nation.tianjin.claim(NUMBERS[20])
    held = await nation.mirror()
    await nation.set_back()
    # Small wrongs that were kept for the same reason leave no room for a great one, unless a decision is to cite it.
    small = [f"wrong {number}".encode() for number in range(EVIDENCE_PER_REASON)]
    for each in small:
        nation.world.database.write_now(
            lambda conn, body=each: store.evidence.add(  # type: ignore[misc]  # bound now
                conn,
                city=SUZHOU,
                digest=sha256(body).digest(),
                reason=errors.LogForked.reason,
                body=body,
                now_us=nation.world.clock(),
            )
        )
    honest = list(city.salts)
    for salt in range(4):
        city.salts[0] = bytes([salt]) * 32
        with pytest.raises(errors.LogForked):
            await city.send(city.batch(0))
    city.salts[:] = honest
    assert nation.world.database.read_now(lambda conn: store.evidence.counts(conn, errors.LogForked.reason)) == {
        SUZHOU: EVIDENCE_PER_REASON + 1
    }
    assert await nation.give(held) == len(held.entries)
    await is_kept_out(nation)


async def test_a_city_that_signs_heads_which_nobody_can_compute_while_nothing_is_decided_fills_no_disk(
    nation: Nation,
) -> None:
    city, store = nation.suzhou, nation.world.store
    await issued(city, NUMBERS[0])
    await nation.keep()
    await nation.tianjin.claim(NUMBERS[20])
    held = await nation.mirror()
    await nation.set_back()
    city.issue(NUMBERS[1])

    async def sign(number: int) -> None:
        note = sign_checkpoint(Checkpoint(city.origin, city.size, bytes([number]) * 32), city.signer)
        with pytest.raises(errors.RootMismatch):
            await city.send(city.batch(city.size - 1, checkpoint=note))

    for number in range(EVIDENCE_PER_REASON + 4):
        await sign(number)
    kept = nation.world.database.read_now(lambda conn: store.evidence.counts(conn, errors.RootMismatch.reason))
    assert kept == {SUZHOU: EVIDENCE_PER_REASON}
    # The next one is decided upon, and what the decision cites is kept.
    assert await nation.give(held) == len(held.entries)
    await sign(EVIDENCE_PER_REASON + 4)
    assert [each.kind for each in nation.state()["quarantines"]] == [Kind.UNEXPLAINED]
    assert not nation.world.fsck().findings


async def test_kept_evidence_that_was_changed_accuses_nobody(nation: Nation) -> None:
    await issued(nation.suzhou, NUMBERS[0])
    await nation.keep()
    await nation.tianjin.claim(NUMBERS[20])
    held = await nation.mirror()
    await nation.set_back()
    honest = list(nation.suzhou.salts)
    rewritten(nation.suzhou, 0)
    with pytest.raises(errors.LogForked):
        await nation.suzhou.send(nation.suzhou.batch(0))
    nation.suzhou.salts[:] = honest
    nation.world.database.write_now(
        lambda conn: conn.exec_driver_sql("UPDATE evidence SET body = CAST(body || ' ' AS BLOB)")
    )
    assert await nation.give(held) == len(held.entries)
    assert await nation.world.node.disputes.judge_kept() == 0
    assert not nation.state()["quarantines"]
    assert [each.what for each in nation.world.fsck().findings] == ["it does not have this digest"]
