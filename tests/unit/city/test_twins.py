"""One request sent twice at once, where the first is done before the second has claimed its person."""

from __future__ import annotations

import uuid
from datetime import date
from typing import Any

import pytest

from city_node.admissions import Admissions
from city_node.bulk import BulkIssuance, Imported
from city_node.drafting import Drafting
from city_node.drafts import Draft
from city_node.issuance import Issuance
from city_node.store import Request
from elicense.cli.demo.drivers import generate
from elicense.clock import utc_micros
from elicense.errors import Error, LicenseExists
from elicense.license.codec import license_to_message
from elicense.license.csv_format import parse_row
from elicense.v1 import issuance_pb2
from elicense.view.person import PersonIndex

DRAFTING = Drafting(city=320500, persons=PersonIndex(bytes(32)), clock=utc_micros)
REQUEST_ID = str(uuid.UUID(int=7))
ROW, _ = next(generate(320500, 1, seed=5, on=date(2021, 6, 1)))
MESSAGE = license_to_message(parse_row(ROW))


class Node:
    """A city whose first look at a request finds nothing, while its twin is being issued.

    Plays every part that the two use cases ask before they write.
    """

    def __init__(self, *, imported: bool, twin: bool = True) -> None:
        draft = DRAFTING.draft(MESSAGE, request_id=REQUEST_ID, imported=imported, actor="")
        self.done = Request(draft.request_id, draft.digest, b"L" * 16, 1, 0, 1)
        self.looks = 0
        self.twin = twin

    async def known_now(self, drafts: list[Draft]) -> list[tuple[Request | None, Error | None]]:
        self.looks += 1
        return [(self.done if self.twin and self.looks > 1 else None, None) for _ in drafts]

    known_of = known_now

    def refusal(self, draft: Draft, taken: Error | None) -> Error | None:
        return None

    def new_license_ids(self, count: int) -> list[bytes]:
        return [b"N" * 16] * count

    async def claim_each(self, claims: list[object]) -> list[Error]:
        return [LicenseExists("this person holds a license in this city already") for _ in claims]

    claim_bulk = claim_each

    async def again(self, request: Request) -> Request:
        return request

    async def wait_for_backlog(self, limit: int, timeout_s: float) -> bool:
        return True

    def check(self) -> None:
        """May sign."""


def issuance(node: Any) -> Issuance:
    return Issuance(
        log=node,
        applications=node,
        drafting=DRAFTING,
        admissions=Admissions(applications=node, claims=node, gate=node, issue_provisional=False, timeout_s=10),
        answers=node,
    )


async def imported(node: Any) -> list[Imported]:
    bulk = BulkIssuance(
        log=node, applications=node, drafting=DRAFTING, claims=node, backlog=node, gate=node, backlog_limit=1
    )
    item = issuance_pb2.ImportItem(license=MESSAGE, request_id=REQUEST_ID)
    return await bulk.import_rows([item], validate_only=False, actor="")


async def test_a_request_whose_twin_was_faster_is_answered_like_its_twin() -> None:
    node = Node(imported=False)
    answer: object = await issuance(node).create(MESSAGE, request_id=REQUEST_ID, validate_only=False, actor="")
    assert answer is node.done


async def test_an_imported_row_whose_twin_was_faster_is_answered_like_its_twin() -> None:
    assert await imported(Node(imported=True)) == [Imported(license_id=b"L" * 16, already=True)]


async def test_a_person_who_holds_a_license_by_another_request_is_refused_all_the_same() -> None:
    with pytest.raises(LicenseExists):
        await issuance(Node(imported=False, twin=False)).create(
            MESSAGE, request_id=REQUEST_ID, validate_only=False, actor=""
        )
    (result,) = await imported(Node(imported=True, twin=False))
    assert isinstance(result.error, LicenseExists)
