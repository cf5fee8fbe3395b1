"""Settling two licences of one person: who may say what, what follows, and that never two of them count."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Awaitable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TypeVar

import grpc
import pytest
from sqlalchemy import text

from elicense import errors
from elicense.cli.join import join
from elicense.clock import china_date
from elicense.log.checkpoint import parse_checkpoint
from elicense.log.entry import leaf_hash
from elicense.log.merkle import verify_inclusion
from elicense.log.note import parse_note
from elicense.rpc.channel import secure_channel
from elicense.rpc.errors import from_rpc_error
from elicense.trust.credentials import Credentials
from elicense.trust.token import format_token
from elicense.v1 import conflict_pb2 as pb
from elicense.v1 import conflict_pb2_grpc, license_pb2, log_pb2, replication_pb2
from elicense.v1.verification_pb2 import (
    OUTCOME_INDETERMINATE,
    OUTCOME_INVALID,
    OUTCOME_VALID,
    VERDICT_REASON_CONFLICT,
    VERDICT_REASON_VOID,
)
from tests.integration.registry.test_bans import licensed_anew
from tests.integration.registry.world import CHENGDU, SUZHOU, TIANJIN, TRUST_DOMAIN, Verifier, World, running_world
from tests.support.city import DEADLINE_S, City
from tests.support.cluster import eventually
from tests.support.postgres import PostgresServer

T = TypeVar("T")

NUMBER = "11010519491231002X"
DAY_S = 86_400
CONFIRMED = replication_pb2.DISPOSITION_KIND_CONFIRMED
CONFLICT = replication_pb2.DISPOSITION_KIND_CONFLICT
VOID = replication_pb2.DISPOSITION_KIND_VOID
CONTESTED = replication_pb2.DISPOSITION_KIND_CONTESTED
STANDS = replication_pb2.DISPOSITION_KIND_STANDS
WITHDRAW = log_pb2.CONFLICT_POSITION_WITHDRAW
CONTEST = log_pb2.CONFLICT_POSITION_CONTEST


async def called(pending: Awaitable[T]) -> T:
    try:
        return await pending
    except grpc.aio.AioRpcError as error:
        raise from_rpc_error(error) from error


@dataclass
class Dispute:
    """Suzhou has the person; Tianjin issued a licence to them while it was cut off."""

    world: World
    suzhou: City
    tianjin: City
    police: Verifier
    operator: Credentials
    held: bytes
    waiting: bytes

    @property
    def name(self) -> str:
        return f"conflicts/{uuid.UUID(bytes=self.waiting)}"

    async def say(
        self, city: City, position: log_pb2.ConflictPosition, grounds: str = "as the file shows"
    ) -> pb.Conflict:
        request = pb.StatePositionRequest(name=self.name, position=position, grounds=grounds, clerk="spiffe://t/clerk")
        async with secure_channel(city.credentials, retries=False, local_pool=True) as channel:
            stub = conflict_pb2_grpc.ConflictServiceStub(channel)
            answer: pb.StatePositionResponse = await called(stub.StatePosition(request, timeout=DEADLINE_S))
            return answer.conflict

    async def read(self, credentials: Credentials) -> pb.Conflict:
        async with secure_channel(credentials, retries=False, local_pool=True) as channel:
            stub = conflict_pb2_grpc.ConflictServiceStub(channel)
            return await called(stub.GetConflict(pb.GetConflictRequest(name=self.name), timeout=DEADLINE_S))

    async def inbox(self, credentials: Credentials, **fields: bool) -> pb.ListConflictsResponse:
        async with secure_channel(credentials, retries=False, local_pool=True) as channel:
            stub = conflict_pb2_grpc.ConflictServiceStub(channel)
            return await called(stub.ListConflicts(pb.ListConflictsRequest(**fields), timeout=DEADLINE_S))

    async def decide(self, standing: bytes, basis: str = "the earlier application") -> pb.Conflict:
        request = pb.DecideConflictRequest(name=self.name, standing_license=str(uuid.UUID(bytes=standing)), basis=basis)
        async with secure_channel(self.operator, retries=False, local_pool=True) as channel:
            stub = conflict_pb2_grpc.ConflictRulingServiceStub(channel)
            answer: pb.DecideConflictResponse = await called(stub.DecideConflict(request, timeout=DEADLINE_S))
            return answer.conflict

    def valid(self) -> list[bytes]:
        """The licences of the person that count, by the view itself."""
        key = self.world.keys.persons.person_key(license_pb2.DOCUMENT_TYPE_RESIDENT_ID, NUMBER)
        rows = self.world.database.read_now(lambda conn: self.world.store.view.by_person(conn, [key]))[key]
        return [row.license_id for row in rows if not row.flags]

    def check(self) -> None:
        assert len(self.valid()) <= 1
        assert self.world.fsck().findings == ()


async def open_dispute(world: World) -> Dispute:
    suzhou, tianjin = await world.city(SUZHOU), await world.city(TIANJIN)
    held = suzhou.issue(NUMBER, claim=(await suzhou.claim(NUMBER))[0])
    await suzhou.replicate()
    waiting = tianjin.issue(NUMBER)
    await tianjin.replicate()
    await tianjin.decided(1)
    await suzhou.decided(1)
    token = await world.token(f"spiffe://{TRUST_DOMAIN}/operator/wang")
    operator = await asyncio.to_thread(join, format_token(token), world.folder / "operator")
    return Dispute(world, suzhou, tianjin, await world.verifier(), operator, held, waiting)


@pytest.fixture
async def dispute(tmp_path: Path) -> AsyncIterator[Dispute]:
    async with running_world(tmp_path) as world:
        yield await open_dispute(world)


@pytest.fixture
async def dispute_on_postgres(tmp_path: Path, postgres: PostgresServer) -> AsyncIterator[Dispute]:
    """The same on PostgreSQL."""
    with postgres.database() as url:
        async with running_world(tmp_path, database_url=url) as world:
            yield await open_dispute(world)


async def test_on_postgres_a_conflict_goes_the_same_way_to_its_end(dispute_on_postgres: Dispute) -> None:
    dispute = dispute_on_postgres
    await dispute.say(dispute.tianjin, CONTEST)
    await dispute.say(dispute.suzhou, WITHDRAW)
    assert dispute.valid() == []
    dispute.check()
    await dispute.suzhou.decided(2)
    await dispute.suzhou.send(dispute.suzhou.batch(dispute.suzhou.size))
    assert [word.kind for word in await dispute.tianjin.decided(2)] == [CONFLICT, CONFIRMED]
    assert dispute.valid() == [dispute.waiting]
    assert len((await dispute.inbox(dispute.operator, with_settled=True)).conflicts) == 1
    # A revocation bars the person on PostgreSQL too, and its correction frees them.
    for letters, barred in ((["F"], True), ([], False)):
        dispute.tianjin.change(dispute.waiting, letters, event=license_pb2.LICENSE_EVENT_CORRECTED)
        await dispute.tianjin.replicate()
        (refused,) = await dispute.suzhou.claim(NUMBER)
        assert refused.HasField("barred") is barred
        dispute.check()


async def test_both_cities_are_told_and_see_the_evidence_that_they_are_entitled_to(dispute: Dispute) -> None:
    assert [(word.kind, word.license_id) for word in dispute.tianjin.feed] == [(CONFLICT, dispute.waiting)]
    assert [(word.kind, word.license_id) for word in dispute.suzhou.feed] == [(CONTESTED, dispute.held)]
    verdict = await dispute.police.ask(NUMBER)
    assert (verdict.outcome, verdict.freshness.city) == (OUTCOME_VALID, SUZHOU)
    for city, own in ((dispute.suzhou, "counting"), (dispute.tianjin, "waiting")):
        conflict = await dispute.read(city.credentials)
        assert conflict.state == pb.CONFLICT_STATE_OPEN
        assert conflict.deadline_time.seconds - conflict.open_time.seconds == 15 * DAY_S
        assert not conflict.overdue
        assert (conflict.counting.city, conflict.waiting.city) == (SUZHOU, TIANJIN)
        assert (conflict.counting.provisional, conflict.waiting.provisional) == (False, True)
        for side, log in ((conflict.counting, dispute.suzhou), (conflict.waiting, dispute.tianjin)):
            assert side.entry_hash == log.leaves()[side.position.index]
            head = parse_checkpoint(parse_note(side.proof.checkpoint).text)
            verify_inclusion(
                leaf_hash=side.entry_hash,
                index=side.position.index,
                size=head.size,
                proof=list(side.proof.hashes),
                root=head.root,
            )
        mine = getattr(conflict, own)
        other = conflict.waiting if own == "counting" else conflict.counting
        assert leaf_hash(mine.entry.salt, mine.entry.record) == mine.entry_hash
        assert not other.HasField("entry")
        assert NUMBER.encode() not in other.SerializeToString()
    for_operator = await dispute.read(dispute.operator)
    assert not for_operator.counting.HasField("entry")
    assert not for_operator.waiting.HasField("entry")
    dispute.check()


async def test_a_city_that_is_no_side_sees_nothing_of_it(dispute: Dispute) -> None:
    chengdu = await dispute.world.city(CHENGDU)
    with pytest.raises(errors.ConflictNotFound):
        await dispute.read(chengdu.credentials)
    with pytest.raises(errors.ConflictNotFound):
        await dispute.say(chengdu, WITHDRAW)
    assert not (await dispute.inbox(chengdu.credentials)).conflicts
    assert len((await dispute.inbox(dispute.operator)).conflicts) == 1


async def test_the_later_license_that_is_withdrawn_is_void_at_once(dispute: Dispute) -> None:
    conflict = await dispute.say(dispute.tianjin, WITHDRAW, "the holder has a licence of Suzhou")
    assert (conflict.state, conflict.end) == (pb.CONFLICT_STATE_SETTLED, log_pb2.CONFLICT_END_AGREEMENT)
    assert conflict.void_license == str(uuid.UUID(bytes=dispute.waiting))
    assert [word.kind for word in await dispute.tianjin.decided(2)] == [CONFLICT, VOID]
    assert [word.kind for word in await dispute.suzhou.decided(2)] == [CONTESTED, STANDS]
    assert dispute.valid() == [dispute.held]
    dispute.check()
    # The same words again add nothing; others come too late.
    again = await dispute.say(dispute.tianjin, WITHDRAW, "the holder has a licence of Suzhou")
    assert len(again.statements) == 1
    with pytest.raises(errors.ConflictClosed):
        await dispute.say(dispute.suzhou, CONTEST)
    # The void licence is cancelled by its clerk, which frees nobody.
    dispute.tianjin.change(dispute.waiting, ["G"], event=license_pb2.LICENSE_EVENT_CANCELLED)
    await dispute.tianjin.replicate()
    assert dispute.valid() == [dispute.held]
    dispute.check()


async def test_a_winner_counts_only_once_the_losing_city_has_stored_that_its_own_is_void(dispute: Dispute) -> None:
    conflict = await dispute.say(dispute.suzhou, WITHDRAW, "issued upon a forged paper")
    assert conflict.state == pb.CONFLICT_STATE_DECIDED
    verdict = await dispute.police.ask(NUMBER)
    assert verdict.outcome == OUTCOME_INDETERMINATE
    assert VERDICT_REASON_CONFLICT in verdict.reasons
    assert dispute.valid() == []
    # Suzhou may still vouch for its licence: it has not stored the word yet.
    await dispute.tianjin.send(dispute.tianjin.batch(dispute.tianjin.size))
    await dispute.world.restart()
    assert dispute.valid() == []
    dispute.check()
    assert [word.kind for word in await dispute.suzhou.decided(2)] == [CONTESTED, VOID]
    assert dispute.valid() == []
    await dispute.suzhou.send(dispute.suzhou.batch(dispute.suzhou.size))  # says that it is stored
    assert [word.kind for word in await dispute.tianjin.decided(2)] == [CONFLICT, CONFIRMED]
    assert dispute.valid() == [dispute.waiting]
    verdict = await dispute.police.ask(NUMBER)
    assert (verdict.outcome, verdict.freshness.city) == (OUTCOME_VALID, TIANJIN)
    (refused,) = await dispute.suzhou.claim(NUMBER)
    assert refused.held_by_city == TIANJIN
    assert (await dispute.read(dispute.operator)).state == pb.CONFLICT_STATE_SETTLED
    dispute.check()


async def test_an_operator_decides_past_the_deadline_or_once_both_contest_and_not_before(dispute: Dispute) -> None:
    with pytest.raises(errors.ConflictNotDue):
        await dispute.decide(dispute.held)
    await dispute.say(dispute.suzhou, CONTEST)
    with pytest.raises(errors.ConflictNotDue):
        await dispute.decide(dispute.held)
    await dispute.say(dispute.tianjin, CONTEST)
    with pytest.raises(errors.Malformed):
        await dispute.decide(uuid.uuid4().bytes)
    conflict = await dispute.decide(dispute.held)
    assert (conflict.state, conflict.end) == (pb.CONFLICT_STATE_SETTLED, log_pb2.CONFLICT_END_DECISION)
    assert [statement.city for statement in conflict.statements] == [SUZHOU, TIANJIN]
    assert await dispute.decide(dispute.held) == conflict
    with pytest.raises(errors.ConflictClosed):
        await dispute.decide(dispute.waiting)
    assert dispute.valid() == [dispute.held]
    dispute.check()


async def test_an_overdue_conflict_is_listed_first_and_alarms(dispute: Dispute) -> None:
    dispute.world.clock.advance(seconds=16 * DAY_S)
    inbox = await dispute.inbox(dispute.suzhou.credentials)
    assert (inbox.open_count, inbox.overdue_count) == (1, 1)
    assert inbox.conflicts[0].overdue
    conflict = await dispute.decide(dispute.waiting)
    assert conflict.state == pb.CONFLICT_STATE_DECIDED
    await dispute.suzhou.decided(2)
    await dispute.suzhou.send(dispute.suzhou.batch(dispute.suzhou.size))
    await dispute.tianjin.decided(2)
    assert dispute.valid() == [dispute.waiting]
    inbox = await dispute.inbox(dispute.suzhou.credentials)
    assert (inbox.open_count, inbox.overdue_count, len(inbox.conflicts)) == (0, 0, 0)
    assert len((await dispute.inbox(dispute.suzhou.credentials, with_settled=True)).conflicts) == 1
    dispute.check()


async def test_a_license_that_is_cancelled_ends_its_conflict(dispute: Dispute) -> None:
    dispute.suzhou.change(dispute.held, ["G"], event=license_pb2.LICENSE_EVENT_CANCELLED)
    await dispute.suzhou.replicate()
    assert [word.kind for word in await dispute.tianjin.decided(2)] == [CONFLICT, CONFIRMED]
    assert dispute.valid() == [dispute.waiting]
    conflict = await dispute.read(dispute.operator)
    assert (conflict.state, conflict.end) == (pb.CONFLICT_STATE_SETTLED, log_pb2.CONFLICT_END_CANCELLATION)
    (refused,) = await dispute.suzhou.claim(NUMBER)
    assert refused.held_by_city == TIANJIN
    dispute.check()


async def test_the_waiting_license_that_is_cancelled_ends_the_conflict_too(dispute: Dispute) -> None:
    dispute.tianjin.change(dispute.waiting, ["G"], event=license_pb2.LICENSE_EVENT_CANCELLED)
    await dispute.tianjin.replicate()
    assert [word.kind for word in await dispute.suzhou.decided(2)] == [CONTESTED, STANDS]
    assert dispute.valid() == [dispute.held]
    dispute.check()


async def test_a_license_that_was_erased_while_its_conflict_was_open_does_not_win_it(dispute: Dispute) -> None:
    cancelled = license_pb2.LICENSE_EVENT_CANCELLED
    dispute.tianjin.change(dispute.waiting, "G", event=cancelled)
    dispute.tianjin.erase(dispute.waiting)
    await dispute.tianjin.replicate()
    with pytest.raises(errors.ConflictClosed):
        await dispute.say(dispute.suzhou, WITHDRAW)
    assert dispute.valid() == [dispute.held]
    dispute.check()
    # Nobody is held by what is no more: once the other one ends, the person is free.
    dispute.suzhou.change(dispute.held, "G", event=cancelled)
    await dispute.suzhou.replicate()

    async def free() -> bool:
        (answer,) = await dispute.suzhou.claim(NUMBER)
        return bool(answer.WhichOneof("result") != "held_by_city")

    await eventually(free)
    dispute.check()


async def test_while_a_conflict_lasts_nobody_else_gets_the_person(dispute: Dispute) -> None:
    chengdu = await dispute.world.city(CHENGDU)
    await dispute.say(dispute.suzhou, WITHDRAW)
    third = chengdu.issue(NUMBER)
    await chengdu.replicate()
    (word,) = await chengdu.decided(1)
    assert (word.kind, word.license_id) == (CONFLICT, third)
    (refused,) = await chengdu.claim(NUMBER)
    assert refused.held_by_city == TIANJIN
    dispute.check()
    # The third licence's conflict is one with the winner, and waits until that counts.
    with pytest.raises(errors.ConflictNotDue):
        await Dispute(
            dispute.world, dispute.tianjin, chengdu, dispute.police, dispute.operator, dispute.waiting, third
        ).say(dispute.tianjin, WITHDRAW)
    await dispute.suzhou.decided(2)
    await dispute.suzhou.send(dispute.suzhou.batch(dispute.suzhou.size))
    assert [word.kind for word in await dispute.tianjin.decided(3)] == [CONFLICT, CONTESTED, CONFIRMED]
    assert dispute.valid() == [dispute.waiting]
    dispute.check()


async def test_a_barred_person_gets_no_license_out_of_a_conflict(dispute: Dispute) -> None:
    dispute.suzhou.change(dispute.held, ["F"])
    await dispute.suzhou.replicate()
    with pytest.raises(errors.PersonBanned):
        await dispute.say(dispute.suzhou, WITHDRAW)
    dispute.world.clock.advance(seconds=16 * DAY_S)
    with pytest.raises(errors.PersonBanned):
        await dispute.decide(dispute.waiting)
    await dispute.decide(dispute.held)
    assert dispute.valid() == []
    assert (await dispute.police.ask(NUMBER)).outcome in (OUTCOME_INVALID, OUTCOME_INDETERMINATE)
    dispute.check()


async def test_two_licenses_of_one_city_are_told_apart(tmp_path: Path) -> None:
    async with running_world(tmp_path) as world:
        suzhou = await world.city(SUZHOU)
        held = suzhou.issue(NUMBER, claim=(await suzhou.claim(NUMBER))[0])
        waiting = suzhou.issue(NUMBER)
        await suzhou.replicate()
        await suzhou.decided(2)
        token = await world.token(f"spiffe://{TRUST_DOMAIN}/operator/wang")
        operator = await asyncio.to_thread(join, format_token(token), world.folder / "operator")
        dispute = Dispute(world, suzhou, suzhou, await world.verifier(), operator, held, waiting)
        with pytest.raises(errors.Malformed):
            await dispute.say(suzhou, WITHDRAW)
        dispute.check()


async def test_a_winner_that_is_cancelled_before_it_counts_frees_the_person(dispute: Dispute) -> None:
    await dispute.say(dispute.suzhou, WITHDRAW)
    dispute.tianjin.change(dispute.waiting, ["G"], event=license_pb2.LICENSE_EVENT_CANCELLED)
    await dispute.tianjin.replicate()
    await dispute.suzhou.decided(2)
    await dispute.suzhou.send(dispute.suzhou.batch(dispute.suzhou.size))
    await dispute.tianjin.decided(2)
    assert dispute.valid() == []
    dispute.check()
    (granted,) = await dispute.suzhou.claim(NUMBER)
    assert granted.HasField("grant")


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE conflict SET state = 3",
        "UPDATE conflict SET held_city = 110000",
        "DELETE FROM conflict",
        "DELETE FROM conflict_statement",
    ],
)
async def test_fsck_notices_a_conflict_that_is_not_what_the_log_says(dispute: Dispute, change: str) -> None:
    await dispute.say(dispute.suzhou, CONTEST)
    dispute.world.database.write_now(lambda conn: conn.execute(text(change)))
    assert [finding.what for finding in dispute.world.fsck().findings] == ["it differs from the registry's log"]


async def test_a_revocation_that_is_taken_back_too_late_is_settled_like_any_other_conflict(world: World) -> None:
    suzhou, tianjin = await world.city(SUZHOU), await world.city(TIANJIN)
    police = await world.verifier()  # before the clock moves: certificates are of the real day
    old, anew = await licensed_anew(world, suzhou, tianjin)
    suzhou.change(old, [], event=license_pb2.LICENSE_EVENT_CORRECTED)
    await suzhou.replicate()
    await suzhou.decided(1)
    dispute = Dispute(world, suzhou, tianjin, police, suzhou.credentials, anew, old)
    shown = await dispute.read(tianjin.credentials)
    # Both see the record that brought it about, not the licence's first one.
    assert (shown.waiting.position.index, shown.waiting.entry_hash) == (suzhou.size - 1, suzhou.leaves()[-1])
    assert dispute.valid() == [anew]
    await dispute.say(tianjin, WITHDRAW)
    dispute.check()
    assert dispute.valid() == []
    await tianjin.decided(2)
    await tianjin.replicate()
    await suzhou.decided(2)
    assert dispute.valid() == [old]
    dispute.check()


async def test_a_winner_whose_person_was_barred_before_it_counted_is_void_as_well(dispute: Dispute) -> None:
    await dispute.say(dispute.suzhou, WITHDRAW)
    # Suzhou, which has not stored the word yet, revokes.
    dispute.suzhou.change(dispute.held, ["F"])
    state = await dispute.suzhou.state()
    await dispute.suzhou.send(dispute.suzhou.batch(state.next_index), keep_feed=False)
    await dispute.suzhou.decided(2)
    await dispute.suzhou.replicate()
    assert [word.kind for word in await dispute.tianjin.decided(2)] == [CONFLICT, VOID]
    assert dispute.valid() == []
    verdict = await dispute.police.ask(NUMBER)
    assert (verdict.outcome, list(verdict.reasons)[:1]) == (OUTCOME_INVALID, [VERDICT_REASON_VOID])
    for credentials in (dispute.suzhou.credentials, dispute.tianjin.credentials, dispute.operator):
        over = await dispute.read(credentials)
        assert (over.state, over.standing_license) == (pb.CONFLICT_STATE_SETTLED, "")
    (refused,) = await dispute.tianjin.claim(NUMBER)
    assert refused.HasField("barred")
    dispute.check()
    await dispute.world.restart()
    dispute.check()


async def test_a_bar_that_the_losing_city_recorded_and_has_not_sent_when_it_stores_its_loss_keeps_the_winner_void(
    dispute: Dispute,
) -> None:
    await dispute.say(dispute.suzhou, WITHDRAW)
    dispute.suzhou.change(dispute.held, ["F"])
    # Suzhou says that it has stored the word, and that it has a record more than it sends.
    sent = (await dispute.suzhou.state()).next_index
    while len(dispute.suzhou.feed) < 2:
        await dispute.suzhou.send(dispute.suzhou.batch(sent, sent))
    await dispute.suzhou.send(dispute.suzhou.batch(sent, sent))
    assert dispute.valid() == []
    (held,) = (await dispute.inbox(dispute.operator)).conflicts
    assert held.state == pb.CONFLICT_STATE_DECIDED
    await dispute.suzhou.replicate()
    assert [word.kind for word in await dispute.tianjin.decided(2)] == [CONFLICT, VOID]
    assert dispute.valid() == []
    dispute.check()


async def test_a_bar_that_is_over_before_the_winner_counts_is_no_matter(world: World) -> None:
    dispute = await open_dispute(world)
    await dispute.say(dispute.suzhou, WITHDRAW)
    dispute.suzhou.change(dispute.held, ["F"], ban_until=china_date(world.clock()) + timedelta(days=1))
    state = await dispute.suzhou.state()
    await dispute.suzhou.send(dispute.suzhou.batch(state.next_index), keep_feed=False)
    world.clock.advance(seconds=3 * DAY_S)
    await dispute.suzhou.decided(2)
    await dispute.suzhou.replicate()
    assert [word.kind for word in await dispute.tianjin.decided(2)] == [CONFLICT, CONFIRMED]
    assert dispute.valid() == [dispute.waiting]
    dispute.check()
