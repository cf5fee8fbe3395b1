"""Who has custody: every race of a take-over with what else may happen to a licence, and the view from the logs."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from elicense.clock import to_timestamp
from elicense.log.model import REGISTRY_LOG, LogKey
from elicense.v1 import license_pb2, replication_pb2, verification_pb2, verification_pb2_grpc
from elicense.view.model import ViewRow
from tests.integration.registry.test_past import ask, query
from tests.integration.registry.world import CHENGDU, SUZHOU, TIANJIN, Verifier, World, running_world
from tests.support.city import DEADLINE_S, City
from tests.support.postgres import PostgresServer

NUMBER = "11010519491231002X"
NUMBERS = [f"11010519900101{number:04d}" for number in range(40)]
ACCEPTED = replication_pb2.DISPOSITION_KIND_TRANSFER_ACCEPTED
REFUSED = replication_pb2.DISPOSITION_KIND_TRANSFER_REFUSED
AWAY = replication_pb2.DISPOSITION_KIND_TRANSFERRED_AWAY
NOT_IN_CUSTODY = replication_pb2.DISPOSITION_KIND_NOT_IN_CUSTODY
LATE = replication_pb2.DISPOSITION_KIND_LATE_RECORD
UNREADABLE = replication_pb2.DISPOSITION_KIND_UNREADABLE


@dataclass
class Move:
    """A licence of Suzhou that is offered to Chengdu, and everybody who is needed to move it."""

    world: World
    suzhou: City
    chengdu: City
    police: Verifier
    license_id: bytes
    number: str = NUMBER

    async def other(self, position: int) -> Move:
        """Another licence of Suzhou, not offered yet, among the same cities."""
        number = NUMBERS[position]
        (claim,) = await self.suzhou.claim(number)
        return replace(self, license_id=self.suzhou.issue(number, claim=claim), number=number)

    def feed(self, city: City) -> list[int]:
        """What the registry told a city about this licence."""
        return [each.kind for each in city.feed if each.license_id == self.license_id]

    def row(self) -> ViewRow:
        row = self.world.database.read_now(lambda conn: self.world.store.view.by_license(conn, self.license_id))
        assert row is not None
        return row

    async def outcome(self) -> verification_pb2.Outcome:
        return (await self.police.ask(self.number)).outcome

    def holder(self) -> tuple[int, bytes]:
        key = self.row().person_key
        claim = self.world.database.read_now(lambda conn: self.world.store.claims.of(conn, [key]))[key]
        return claim.city, claim.license_id

    async def take_over(self, **changes: Any) -> int:
        index = self.chengdu.take_over(self.license_id, self.suzhou, **changes)
        await self.chengdu.replicate()
        return index

    def whole(self) -> None:
        """The view is what the logs say, and exactly one city has custody."""
        findings = self.world.fsck().findings
        assert not findings, findings
        assert self.holder() == (self.row().city, self.license_id)


async def begin(world: World) -> Move:
    suzhou, chengdu = await world.city(SUZHOU), await world.city(CHENGDU)
    (claim,) = await suzhou.claim(NUMBER)
    license_id = suzhou.issue(NUMBER, claim=claim)
    suzhou.offer(license_id, CHENGDU)
    await suzhou.replicate()
    return Move(world, suzhou, chengdu, await world.verifier(), license_id)


@pytest.fixture
async def move(world: World) -> Move:
    """An open offer on SQLite."""
    return await begin(world)


@pytest.fixture
async def move_on_postgres(tmp_path: Path, postgres: PostgresServer) -> AsyncIterator[Move]:
    """The same on PostgreSQL."""
    with postgres.database() as url:
        async with running_world(tmp_path, database_url=url) as world:
            yield await begin(world)


async def hand_over(move: Move) -> None:
    assert await move.outcome() == verification_pb2.OUTCOME_VALID
    assert move.row().city == SUZHOU
    index = await move.take_over()
    (accepted,) = await move.chengdu.decided(1)
    assert (accepted.kind, accepted.index, accepted.other_city) == (ACCEPTED, index, SUZHOU)
    (away,) = await move.suzhou.decided(1)
    assert (away.kind, away.index, away.other_city) == (AWAY, 1, CHENGDU)
    row = move.row()
    assert (row.city, row.idx, row.revision, row.flags) == (CHENGDU, index, 3, 0)
    assert await move.outcome() == verification_pb2.OUTCOME_VALID
    move.whole()


async def test_custody_moves_with_row_and_claim_and_both_cities_are_told(move: Move) -> None:
    await hand_over(move)


async def test_custody_moves_on_postgresql_too(move_on_postgres: Move) -> None:
    await hand_over(move_on_postgres)


async def test_the_new_citys_changes_count_and_the_old_ones_do_not_but_are_shown_to_the_new_city(move: Move) -> None:
    await move.take_over()
    await move.chengdu.decided(1)
    move.suzhou.change(move.license_id, "D")
    await move.suzhou.replicate()
    assert [each.kind for each in await move.suzhou.decided(2)] == [AWAY, NOT_IN_CUSTODY]
    assert await move.outcome() == verification_pb2.OUTCOME_VALID
    late = (await move.chengdu.decided(2))[1]
    assert (late.kind, late.index, late.other_city, late.license_id) == (LATE, 2, SUZHOU, move.license_id)
    move.chengdu.change(move.license_id, "D")
    await move.chengdu.replicate()
    assert await move.outcome() == verification_pb2.OUTCOME_INVALID
    move.whole()


async def test_a_city_that_never_had_a_license_can_not_send_notices_about_it(move: Move) -> None:
    tianjin = await move.world.city(TIANJIN)
    await move.take_over()
    await move.chengdu.decided(1)
    message = license_pb2.LicenseRecord.FromString(move.chengdu.records[0])
    message.city, message.event = TIANJIN, license_pb2.LICENSE_EVENT_STATUS_CHANGED
    tianjin.append(message.SerializeToString())
    await tianjin.replicate()
    assert [each.kind for each in await tianjin.decided(1)] == [NOT_IN_CUSTODY]
    await move.chengdu.replicate()
    assert [each.kind for each in move.chengdu.feed] == [ACCEPTED]
    move.whole()


@dataclass(frozen=True)
class Between:
    """Something that the city in custody may still do.

    Attributes:
        name: What.
        event: Event of its record.
        letters: Letters of the licence then.
        offered: City that it is offered to then.
        again: Whether a take-over of the new revision succeeds.
    """

    name: str
    event: int
    letters: str = ""
    offered: int = CHENGDU
    again: bool = False


IN_BETWEEN = [
    Between("points", license_pb2.LICENSE_EVENT_UPDATED, again=True),
    Between("overdue", license_pb2.LICENSE_EVENT_STATUS_CHANGED, "M", again=True),
    Between("an open violation", license_pb2.LICENSE_EVENT_STATUS_CHANGED, "H"),
    Between("a suspension", license_pb2.LICENSE_EVENT_STATUS_CHANGED, "D"),
    Between("a revocation", license_pb2.LICENSE_EVENT_STATUS_CHANGED, "F"),
    Between("a withdrawal", license_pb2.LICENSE_EVENT_TRANSFER_WITHDRAWN, offered=0),
    Between("another city", license_pb2.LICENSE_EVENT_TRANSFERRED_OUT, offered=TIANJIN),
    Between("a cancellation", license_pb2.LICENSE_EVENT_CANCELLED, "G", offered=0),
]


async def opened(move: Move) -> list[tuple[Between, Move]]:
    """One offered licence for each of these."""
    moves = [(each, await move.other(position)) for position, each in enumerate(IN_BETWEEN)]
    for _, one in moves:
        one.suzhou.offer(one.license_id, CHENGDU)
    await move.suzhou.replicate()
    return moves


def act(moves: Sequence[tuple[Between, Move]]) -> None:
    for between, move in moves:
        move.suzhou.change(move.license_id, between.letters, event=between.event, offered_to_city=between.offered)


async def test_whatever_reaches_the_registry_before_a_take_over_wins(move: Move) -> None:
    moves = await opened(move)
    for _, one in moves:
        one.chengdu.take_over(one.license_id, one.suzhou)
    act(moves)
    await move.suzhou.replicate()
    await move.chengdu.replicate()
    await move.chengdu.decided(len(moves))
    before = {between.name: await one.outcome() for between, one in moves}
    assert {between.name for between, _ in moves if before[between.name] == verification_pb2.OUTCOME_VALID} == {
        "points", "an open violation", "a withdrawal", "another city",
    }  # fmt: skip
    for _, one in moves:
        assert (one.feed(one.chengdu), one.feed(one.suzhou)) == ([REFUSED], [])
        assert (one.row().city, one.row().revision) == (SUZHOU, 3)
    assert not move.world.fsck().findings
    # Accepting again cites the latest revision; it succeeds unless something blocks it.
    for _, one in moves:
        one.chengdu.take_over(one.license_id, one.suzhou)
    await move.chengdu.replicate()
    await move.chengdu.decided(2 * len(moves))
    for between, one in moves:
        assert one.feed(one.chengdu) == [REFUSED, ACCEPTED if between.again else REFUSED], between.name
        assert one.row().city == (CHENGDU if between.again else SUZHOU)
        assert await one.outcome() == before[between.name]
    assert not move.world.fsck().findings
    # Each refusal says its own reason.
    assert len({each.detail for each in move.chengdu.feed}) >= 5


async def test_whatever_reaches_the_registry_after_a_take_over_has_no_effect(move: Move) -> None:
    moves = await opened(move)
    last = {one.license_id: one.row().idx for _, one in moves}
    act(moves)  # written, but not heard yet
    for _, one in moves:
        one.chengdu.take_over(one.license_id, one.suzhou, index=last[one.license_id])
    await move.chengdu.replicate()
    await move.chengdu.decided(len(moves))
    await move.suzhou.replicate()
    await move.suzhou.decided(2 * len(moves))
    await move.chengdu.decided(2 * len(moves))
    for _, one in moves:
        assert one.feed(one.suzhou) == [AWAY, NOT_IN_CUSTODY]
        assert one.feed(one.chengdu) == [ACCEPTED, LATE]
        assert (one.row().city, one.row().revision) == (CHENGDU, 3)
        assert await one.outcome() == verification_pb2.OUTCOME_VALID
        assert one.holder() == (CHENGDU, one.license_id)
    assert not move.world.fsck().findings


#: A take-over that must not succeed, whatever the city writes.
WRONG: dict[str, Callable[[Move], dict[str, Any]]] = {
    "of an older revision": lambda _: {"index": 0},
    "of another revision number": lambda _: {"revision": 9},
    "that cites another entry": lambda _: {"previous_entry_hash": bytes(32)},
    "that reaches back": lambda m: {"effective_time": to_timestamp(m.world.clock() - 86_400_000_000)},
}


async def test_a_take_over_that_does_not_fit_comes_to_nothing(move: Move) -> None:
    for number, change in enumerate(WRONG.values(), 1):
        await move.take_over(**change(move))
        assert (await move.chengdu.decided(number))[-1].kind == REFUSED
    # Nor may it change the licence on the way.
    index = move.chengdu.take_over(move.license_id, move.suzhou)
    message = license_pb2.LicenseRecord.FromString(move.chengdu.records[index])
    message.license.vehicle_classes.add(code="A1", from_date=message.license.vehicle_classes[0].from_date)
    move.chengdu.records[index] = message.SerializeToString()
    await move.chengdu.replicate()
    assert (await move.chengdu.decided(len(WRONG) + 1))[-1].kind == REFUSED
    # Nor may a city take what is offered to another.
    tianjin = await move.world.city(TIANJIN)
    tianjin.take_over(move.license_id, move.suzhou)
    await tianjin.replicate()
    (refused,) = await tianjin.decided(1)
    assert (refused.kind, refused.other_city) == (REFUSED, SUZHOU)
    assert move.row().city == SUZHOU
    move.whole()


async def test_a_license_that_waits_for_its_own_decision_does_not_move(world: World) -> None:
    suzhou, chengdu = await world.city(SUZHOU), await world.city(CHENGDU)
    tianjin = await world.city(TIANJIN)
    await tianjin.claim(NUMBER)
    license_id = suzhou.issue(NUMBER)
    suzhou.offer(license_id, CHENGDU)
    await suzhou.replicate()
    chengdu.take_over(license_id, suzhou)
    await chengdu.replicate()
    assert (await chengdu.decided(1))[0].kind == REFUSED
    assert not world.fsck().findings


async def test_a_license_over_which_cities_quarrel_does_not_move(move: Move) -> None:
    tianjin = await move.world.city(TIANJIN)
    tianjin.issue(NUMBER)
    await tianjin.replicate()
    await tianjin.decided(1)
    await move.take_over()
    (refused,) = await move.chengdu.decided(1)
    assert (refused.kind, move.row().city) == (REFUSED, SUZHOU)
    move.whole()


async def test_what_a_city_wrote_upon_a_take_over_counts_with_it(move: Move) -> None:
    """Only a city that has had the registry's word writes on; a registry that does not know it was set back."""
    move.chengdu.take_over(move.license_id, move.suzhou)
    move.chengdu.change(move.license_id, "D")  # in the same batch as the take-over
    move.chengdu.change(move.license_id, "DM")
    await move.chengdu.replicate()
    assert [each.kind for each in await move.chengdu.decided(1)] == [ACCEPTED]
    assert move.row().revision == 5
    assert await move.outcome() == verification_pb2.OUTCOME_INVALID
    move.chengdu.change(move.license_id, "M")
    await move.chengdu.replicate()
    assert move.row().revision == 6
    assert [each.kind for each in move.chengdu.feed] == [ACCEPTED]
    move.whole()


async def test_what_a_city_wrote_upon_a_take_over_that_comes_to_nothing_has_no_effect(move: Move) -> None:
    offered = move.suzhou.size - 1
    move.suzhou.change(move.license_id, event=license_pb2.LICENSE_EVENT_UPDATED)
    await move.suzhou.replicate()
    move.chengdu.take_over(move.license_id, move.suzhou, index=offered)
    move.chengdu.change(move.license_id, "D")
    await move.chengdu.replicate()
    assert [each.kind for each in await move.chengdu.decided(2)] == [REFUSED, NOT_IN_CUSTODY]
    assert (move.row().city, move.row().revision) == (SUZHOU, 3)
    assert await move.outcome() == verification_pb2.OUTCOME_VALID
    move.whole()


async def test_a_take_over_waits_for_what_it_rests_on_as_long_as_that_may_still_come(move: Move) -> None:
    goes = await move.other(0)
    await goes.suzhou.replicate()
    goes.suzhou.offer(goes.license_id, CHENGDU)
    # The offer does not reach the registry, which is as if it had lost it.
    goes.chengdu.take_over(goes.license_id, goes.suzhou)
    goes.chengdu.change(goes.license_id, "D")
    await move.take_over()
    await goes.chengdu.decided(1)
    # The other one was decided with the same commit.
    assert (move.feed(move.chengdu), goes.feed(goes.chengdu)) == ([ACCEPTED], [])
    await goes.suzhou.replicate()
    await goes.chengdu.decided(2)
    assert goes.feed(goes.chengdu) == [ACCEPTED]
    assert (goes.row().city, goes.row().revision) == (CHENGDU, 4)
    goes.whole()


async def test_a_take_over_of_what_does_not_exist_comes_to_nothing_once_the_other_city_has_been_heard(
    move: Move,
) -> None:
    goes = await move.other(0)
    await goes.suzhou.replicate()
    goes.suzhou.offer(goes.license_id, CHENGDU)
    goes.chengdu.take_over(goes.license_id, goes.suzhou)
    del goes.suzhou.records[-1], goes.suzhou.salts[-1]
    await goes.chengdu.replicate()
    goes.world.clock.advance(seconds=601)
    await goes.suzhou.replicate()
    await goes.chengdu.replicate()
    await goes.chengdu.decided(1)
    assert goes.feed(goes.chengdu) == [REFUSED]
    assert goes.row().city == SUZHOU
    goes.whole()


async def test_while_a_take_over_is_not_decided_nobody_is_told_that_the_license_is_valid(
    move_on_postgres: Move,
) -> None:
    move, world = move_on_postgres, move_on_postgres.world
    moment = world.clock()
    other = await move.other(0)
    await move.suzhou.replicate()
    # Nobody makes a license uncertain that is not offered to them.
    other.chengdu.take_over(other.license_id, other.suzhou)
    context = verification_pb2.LookContext(purpose=verification_pb2.PURPOSE_ROADSIDE_CHECK, case_number="case-1")
    stub = verification_pb2_grpc.VerificationServiceStub(move.police.channel)
    request = verification_pb2.WatchLicenseRequest(query=query(move.number), context=context)
    watch = stub.WatchLicense(request, timeout=DEADLINE_S)
    assert (await watch.read()).verdict.outcome == verification_pb2.OUTCOME_VALID
    with world.database._writing.connect() as holder:
        # No decision is written while this holds the head of the registry's log.
        world.store.logs.head(holder, LogKey(REGISTRY_LOG, 1), lock=True)
        await move.take_over()
        told = [
            (await watch.read()).verdict,
            await move.police.ask(move.number),
            (await ask(move.police, move.number, at=moment)).verdict,
        ]
        batch = verification_pb2.BatchVerifyLicensesRequest(queries=[query(move.number)], context=context)
        told += (await stub.BatchVerifyLicenses(batch, timeout=DEADLINE_S)).verdicts
        for verdict in told:
            assert verdict.outcome == verification_pb2.OUTCOME_INDETERMINATE
            assert list(verdict.reasons) == [verification_pb2.VERDICT_REASON_IN_TRANSFER]
        assert await other.outcome() == verification_pb2.OUTCOME_VALID
        assert not world.fsck().findings
        holder.rollback()
    await move.chengdu.decided(2)
    assert (await watch.read()).verdict.outcome == verification_pb2.OUTCOME_VALID
    watch.cancel()
    assert (await ask(move.police, move.number, at=moment)).verdict.outcome == verification_pb2.OUTCOME_VALID
    assert [row.flags for row in world.database.read_now(world.store.view.all_rows)] == [0, 0]
    move.whole()


async def test_of_two_take_overs_in_one_batch_the_first_decides(move: Move) -> None:
    move.chengdu.take_over(move.license_id, move.suzhou)
    move.chengdu.take_over(move.license_id, move.suzhou)
    await move.chengdu.replicate()
    assert [each.kind for each in await move.chengdu.decided(2)] == [ACCEPTED, REFUSED]
    move.whole()


async def test_a_license_may_come_back_and_move_on(move: Move) -> None:
    await move.take_over()
    await move.chengdu.decided(1)
    move.suzhou.change(move.license_id, "D")  # too late
    await move.suzhou.replicate()
    move.chengdu.offer(move.license_id, SUZHOU)
    await move.chengdu.replicate()
    move.suzhou.take_over(move.license_id, move.chengdu)
    await move.suzhou.replicate()
    assert [each.kind for each in await move.suzhou.decided(3)] == [AWAY, NOT_IN_CUSTODY, ACCEPTED]
    row = move.row()
    assert (row.city, row.revision) == (SUZHOU, 5)
    move.suzhou.change(move.license_id, event=license_pb2.LICENSE_EVENT_UPDATED)
    move.suzhou.offer(move.license_id, CHENGDU)
    await move.suzhou.replicate()
    await move.take_over()
    assert [each.kind for each in await move.chengdu.decided(4)] == [ACCEPTED, LATE, AWAY, ACCEPTED]
    assert (move.row().city, move.row().revision) == (CHENGDU, 8)
    revisions = move.world.database.read_now(
        lambda conn: move.world.store.view.revisions(conn, move.license_id, after=0, limit=100)
    )
    assert [(each.revision, each.city) for each in revisions] == [
        (1, SUZHOU), (2, SUZHOU), (3, CHENGDU), (4, CHENGDU), (5, SUZHOU), (6, SUZHOU), (7, SUZHOU), (8, CHENGDU),
    ]  # fmt: skip
    move.whole()


async def test_what_waits_for_a_decision_survives_a_restart(move: Move) -> None:
    move.chengdu.take_over(move.license_id, move.suzhou)
    await move.chengdu.replicate()
    await move.world.restart()
    assert (await move.chengdu.decided(1))[0].kind == ACCEPTED
    move.whole()


async def test_a_batch_that_comes_again_moves_nothing_twice(move: Move) -> None:
    await move.take_over()
    await move.chengdu.decided(1)
    await move.chengdu.send(move.chengdu.batch(0))
    await move.suzhou.send(move.suzhou.batch(0))
    assert [each.kind for each in move.chengdu.feed] == [ACCEPTED]
    assert [each.kind for each in move.suzhou.feed] == [AWAY]
    move.whole()


async def test_the_person_of_a_moved_license_is_free_once_the_new_city_cancels_it(move: Move) -> None:
    await move.take_over()
    await move.chengdu.decided(1)
    (held,) = await move.suzhou.claim(NUMBER)
    assert held.held_by_city == CHENGDU
    move.chengdu.change(move.license_id, "G", event=license_pb2.LICENSE_EVENT_CANCELLED)
    await move.chengdu.replicate()
    (granted,) = await move.suzhou.claim(NUMBER)
    assert granted.HasField("grant")
    assert not move.world.fsck().findings


#: A planted difference, and what is found then; they add up.
PLANTED: dict[str, str] = {
    "INSERT INTO transfer_offer VALUES (510100, zeroblob(16), 320500, 1, 0, 0, zeroblob(16))": "what is offered of it",
    "INSERT INTO pending_transfer VALUES (120000, 1, 0, zeroblob(32), zeroblob(16), zeroblob(16))": "take-over waits",
    "UPDATE license_view SET city = 320500": "the view differs in city",
    "UPDATE claim SET city = 320500": "its city does not hold the person",
    "UPDATE log_entry SET record = x'0a' WHERE log = 0 AND idx = 1": "the view differs in revision",
}


async def test_a_planted_change_of_custody_is_found(move: Move) -> None:
    await move.take_over()
    await move.chengdu.decided(1)
    move.chengdu.offer(move.license_id, TIANJIN)
    await move.chengdu.replicate()
    move.whole()
    for statement, expected in PLANTED.items():
        known = {finding.what for finding in move.world.fsck().findings}
        execute(move.world, statement)
        fresh = {finding.what for finding in move.world.fsck().findings} - known
        assert any(expected in what for what in fresh), (statement, fresh)


def execute(world: World, statement: str) -> None:
    world.database.write_now(lambda conn: conn.exec_driver_sql(statement))
