from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from elicense.access.entry import AccessEntry
from elicense.errors import Error, ShuttingDown, StoreFull, StoreUnavailable
from elicense.rpc.crowd import Asked, Crowd
from elicense.trust.roles import VERIFIER_RULES, Purpose, Role
from elicense.v1 import license_pb2
from elicense.v1 import verification_pb2 as pb
from elicense.verification.look import Look

NOW_US = 7


def asked_by(role: Role, number: str) -> Asked:
    rule = VERIFIER_RULES[role]
    look = Look(f"spiffe://elicense.test/verifier/{role}/x", "", role, rule, Purpose.INSURANCE, "", frozenset())
    query = pb.LicenseQuery(document=license_pb2.IdentityDocument(number=number))
    return Asked(look, query, number.encode().rjust(16), "VerifyLicense")


class Node:
    """Judges and records; says of each licence its own number."""

    def __init__(self) -> None:
        self.judged: list[list[str]] = []
        self.recorded: list[list[bytes]] = []
        self.away = False
        self.full_for: frozenset[bytes] = frozenset()
        self.durable = asyncio.Event()
        self.durable.set()

    async def judge_each(self, asked: Sequence[Asked]) -> Sequence[pb.Verdict]:
        if self.away:
            raise StoreUnavailable("away")
        self.judged.append([each.query.document.number for each in asked])
        return [pb.Verdict(summary=each.query.document.number) for each in asked]

    async def record_all(self, entries: Sequence[AccessEntry]) -> Sequence[Error | None]:
        assert {entry.at_us for entry in entries} == {NOW_US}
        await self.durable.wait()
        self.recorded.append([entry.subjects for entry in entries])
        return [StoreFull("full") if entry.subjects in self.full_for else None for entry in entries]


def entry_of(at_us: int, asked: Asked, given: pb.Verdict) -> AccessEntry:
    look = asked.look
    return AccessEntry(at_us, look.verifier, "", look.role.value, 1, "", asked.method, asked.subject, b"\x01", bytes(4))


@pytest.fixture
def node() -> Node:
    return Node()


@pytest.fixture
def crowd(node: Node) -> Crowd:
    return Crowd(judging=node, recorder=node, entry_of=entry_of, clock=lambda: NOW_US)


async def turns() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_looks_that_wait_together_are_judged_and_recorded_together_and_each_gets_its_own(
    crowd: Crowd, node: Node
) -> None:
    asked = [asked_by(role, f"n{place}") for place, role in enumerate((Role.INSURER, Role.RENTAL, Role.INSURER))]
    given = await asyncio.gather(*(crowd.look(each) for each in asked))
    assert [verdict.summary for verdict in given] == ["n0", "n1", "n2"]
    assert node.judged == [["n0", "n1", "n2"]]
    assert node.recorded == [[each.subject for each in asked]]


async def test_nobody_is_answered_before_the_looks_are_durable(crowd: Crowd, node: Node) -> None:
    node.durable.clear()
    asking = [asyncio.create_task(crowd.look(asked_by(Role.INSURER, f"n{place}"))) for place in range(3)]
    await turns()
    assert node.judged
    assert not any(each.done() for each in asking)
    node.durable.set()
    await asyncio.gather(*asking)


async def test_a_look_that_can_not_be_recorded_gets_no_answer_and_the_others_theirs(crowd: Crowd, node: Node) -> None:
    asked = [asked_by(Role.INSURER, f"n{place}") for place in range(3)]
    node.full_for = frozenset({asked[1].subject})
    first, second, third = await asyncio.gather(*(crowd.look(each) for each in asked), return_exceptions=True)
    assert isinstance(first, pb.Verdict)
    assert isinstance(second, StoreFull)
    assert isinstance(third, pb.Verdict)


async def test_looks_that_can_not_be_judged_are_not_recorded_and_the_next_ones_are_answered(
    crowd: Crowd, node: Node
) -> None:
    node.away = True
    failed = await asyncio.gather(
        *(crowd.look(asked_by(Role.INSURER, f"n{place}")) for place in range(2)), return_exceptions=True
    )
    assert all(isinstance(each, StoreUnavailable) for each in failed)
    assert node.recorded == []
    node.away = False
    assert (await crowd.look(asked_by(Role.INSURER, "n2"))).summary == "n2"


async def test_a_look_given_up_while_it_waits_is_neither_made_nor_recorded(crowd: Crowd, node: Node) -> None:
    node.durable.clear()
    first = asyncio.create_task(crowd.look(asked_by(Role.INSURER, "n0")))
    await turns()
    given_up = asyncio.create_task(crowd.look(asked_by(Role.INSURER, "n1")))
    await turns()
    given_up.cancel()
    node.durable.set()
    await first
    await crowd.look(asked_by(Role.INSURER, "n2"))
    assert node.judged == [["n0"], ["n2"]]


async def test_closing_answers_what_was_accepted_and_refuses_the_rest(crowd: Crowd, node: Node) -> None:
    node.durable.clear()
    asking = asyncio.create_task(crowd.look(asked_by(Role.INSURER, "n0")))
    await turns()
    closing = asyncio.create_task(crowd.close())
    await turns()
    with pytest.raises(ShuttingDown):
        await crowd.look(asked_by(Role.INSURER, "n1"))
    node.durable.set()
    await closing
    assert (await asking).summary == "n0"
