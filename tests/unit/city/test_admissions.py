from __future__ import annotations

import asyncio
import uuid
from collections.abc import Sequence
from datetime import date
from itertools import islice
from typing import Any, cast

import pytest

from city_node.admissions import Admissions
from city_node.claims import PersonClaims
from city_node.commands import NewLicense
from city_node.drafting import Drafting
from city_node.drafts import Draft
from city_node.store import Request
from elicense.cli.demo.drivers import generate
from elicense.clock import utc_micros
from elicense.errors import DataLoss, Error, LicenseExists, RegistryUnreachable, StoreCorrupt
from elicense.license.codec import license_to_message
from elicense.license.csv_format import parse_row
from elicense.view.person import PersonIndex
from tests.unit.city.granting import GrantingRegistry

CITY = 320500
DRAFTING = Drafting(city=CITY, persons=PersonIndex(bytes(32)), clock=utc_micros)
DRAFTS = [
    DRAFTING.draft(license_to_message(parse_row(row)), request_id=str(uuid.UUID(int=number)), imported=False, actor="")
    for number, (row, _) in enumerate(islice(generate(CITY, 100, seed=5, on=date(2021, 6, 1)), 9))
]


class Book:
    """What the city knows of applications, and whether it may sign."""

    def __init__(self) -> None:
        self.asked: list[int] = []
        self.known: dict[bytes, Request] = {}
        self.taken: dict[bytes, Error] = {}
        self.stopped: Error | None = None
        self._made = 0

    async def known_now(self, drafts: Sequence[Draft]) -> list[tuple[Request | None, Error | None]]:
        self.asked.append(len(drafts))
        return [(self.known.get(draft.request_id), self.taken.get(draft.person_key)) for draft in drafts]

    def refusal(self, draft: Draft, taken: Error | None) -> Error | None:
        return taken

    def new_license_ids(self, count: int) -> list[bytes]:
        self._made += count
        return [number.to_bytes(16) for number in range(self._made - count, self._made)]

    def check(self) -> None:
        if self.stopped is not None:
            raise self.stopped


def admissions_of(
    book: Book, registry: GrantingRegistry, *, provisional: bool = False, timeout_s: float = 10
) -> Admissions:
    claims = PersonClaims(stub=cast("Any", registry), city=CITY, timeout_s=timeout_s)
    every: Any = book
    return Admissions(applications=every, claims=claims, gate=every, issue_provisional=provisional, timeout_s=timeout_s)


def license_ids(admitted: Sequence[NewLicense | Request]) -> list[bytes]:
    return [each.license_id for each in admitted]


async def test_applications_that_come_one_after_the_other_wait_for_nobody() -> None:
    book, registry = Book(), GrantingRegistry()
    admissions = admissions_of(book, registry)
    admitted = [await admissions.admit(draft) for draft in DRAFTS]
    assert license_ids(admitted) == [number.to_bytes(16) for number in range(9)]
    assert registry.carried == book.asked == [1] * 9
    await admissions.close()


async def test_who_waits_with_others_lets_more_of_them_join_and_everybody_gets_their_own_grant() -> None:
    book, registry = Book(), GrantingRegistry()
    registry.may_answer.clear()
    admissions = admissions_of(book, registry)
    first = asyncio.create_task(admissions.admit(DRAFTS[0]))
    await registry.called.wait()
    waiting = [asyncio.create_task(admissions.admit(draft)) for draft in DRAFTS[1:5]]
    await asyncio.sleep(0)
    registry.may_answer.set()
    await first
    late = [asyncio.create_task(admissions.admit(draft)) for draft in DRAFTS[5:]]
    admitted = await asyncio.gather(first, *waiting, *late)
    assert [each.draft for each in admitted if isinstance(each, NewLicense)] == DRAFTS
    assert license_ids(admitted) == [number.to_bytes(16) for number in range(9)]
    assert registry.carried == book.asked == [1, 8]
    await admissions.close()


async def test_one_batch_answers_what_is_known_and_refuses_what_is_taken_without_the_registry() -> None:
    book, registry = Book(), GrantingRegistry()
    known = Request(DRAFTS[0].request_id, DRAFTS[0].digest, b"L" * 16, 1, 0, 1)
    book.known[DRAFTS[0].request_id] = known
    book.taken[DRAFTS[1].person_key] = LicenseExists("has one")
    admissions = admissions_of(book, registry)
    admitted = await asyncio.gather(*(admissions.admit(draft) for draft in DRAFTS[:3]), return_exceptions=True)
    assert admitted[0] == known
    assert isinstance(admitted[1], LicenseExists)
    assert isinstance(admitted[2], NewLicense)
    assert registry.carried == [1]
    await admissions.close()


async def test_a_node_that_only_verifies_claims_nobody_and_still_answers_what_is_known() -> None:
    book, registry = Book(), GrantingRegistry()
    known = Request(DRAFTS[0].request_id, DRAFTS[0].digest, b"L" * 16, 1, 0, 1)
    book.known[DRAFTS[0].request_id] = known
    book.stopped = StoreCorrupt("damaged")
    admissions = admissions_of(book, registry, provisional=True)
    admitted = await asyncio.gather(*(admissions.admit(draft) for draft in DRAFTS[:2]), return_exceptions=True)
    assert admitted[0] == known
    assert isinstance(admitted[1], DataLoss)
    assert registry.carried == []
    await admissions.close()


@pytest.mark.parametrize("provisional", [False, True])
async def test_who_waits_too_long_is_dealt_with_as_if_the_registry_were_away_also_behind_a_call_that_hangs(
    provisional: bool,
) -> None:
    book, registry = Book(), GrantingRegistry()
    registry.may_answer.clear()
    known = Request(DRAFTS[3].request_id, DRAFTS[3].digest, b"L" * 16, 1, 0, 1)
    book.known[DRAFTS[3].request_id] = known
    admissions = admissions_of(book, registry, provisional=provisional, timeout_s=0.01)
    both = await asyncio.gather(*(admissions.admit(draft) for draft in DRAFTS[:2]), return_exceptions=True)
    late = await asyncio.gather(*(admissions.admit(draft) for draft in DRAFTS[2:4]), return_exceptions=True)
    assert late[1] == known
    for each in (*both, late[0]):
        if provisional:
            assert isinstance(each, NewLicense)
            assert not each.citation
        else:
            assert isinstance(each, RegistryUnreachable)
    registry.may_answer.set()
    await admissions.close()
    # Nobody waited for the others any more.
    assert registry.carried == [2]
