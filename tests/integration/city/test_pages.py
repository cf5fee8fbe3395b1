"""Pages of an import are drafted in another process: what comes of it is the same, also when that process is killed."""

from __future__ import annotations

import os
import signal
import uuid
from collections.abc import AsyncIterator
from datetime import date
from itertools import islice

import pytest

from city_node.drafting import LARGE, Drafting
from city_node.drafts import Draft
from city_node.pages import MODULE
from elicense.cli.demo.drivers import generate
from elicense.errors import Error, Malformed
from elicense.license.codec import license_to_message
from elicense.license.csv_format import COLUMNS, parse_row
from elicense.v1 import issuance_pb2
from elicense.view.person import PersonIndex
from elicense.workers.assistants import Assistants
from tests.support.cluster import eventually

KEY = bytes(range(32))
NOW_US = 1_622_520_000_123_456
ACTOR = "spiffe://a/clerk/320500/li"
HERE = Drafting(city=320500, persons=PersonIndex(KEY), clock=lambda: NOW_US)


def page(count: int = 2 * LARGE) -> list[issuance_pb2.ImportItem]:
    """Return rows of all sorts: whole ones, one without form, one that breaks rules, one with a letter."""
    rows = list(islice(generate(320500, count, seed=3, on=date(2021, 6, 1), foreign_share=0.2), count))
    items = [
        issuance_pb2.ImportItem(license=license_to_message(parse_row(row)), request_id=str(uuid.UUID(int=number)))
        for number, (row, _) in enumerate(rows)
    ]
    items[1].license.archive_number = "12"
    items[2].license.division_code = "110000"
    items[2].license.photo.capture_date.year = 2001
    items[3].license.status_letters.add(letter="H", start_date=items[3].license.first_issue_date)
    for item, (row, _) in islice(zip(items, rows, strict=True), 10, count):
        # As a line of a file, most of them.
        item.ClearField("license")
        item.row = ",".join(row[column] for column in COLUMNS)
    items[11].row = items[11].row.replace("resident-id", "library-card").replace("passport", "library-card")
    items[12].row = items[12].row[:40]
    items[13].row = '"' + items[13].row
    items[14].license.CopyFrom(items[0].license)
    return items


@pytest.fixture
async def assistants() -> AsyncIterator[Assistants]:
    assistants = Assistants(MODULE, KEY, count=1)
    yield assistants
    await assistants.close()


@pytest.fixture
async def drafting(assistants: Assistants) -> Drafting:
    drafting = Drafting(city=320500, persons=PersonIndex(KEY), clock=lambda: NOW_US, assistants=assistants)
    await drafting.drafts(page(), COLUMNS, actor=ACTOR)

    async def is_up() -> bool:
        return bool(assistants.pids)

    await eventually(is_up)
    return drafting


def plain(drafts: list[Draft | Error]) -> list[object]:
    """Return drafts, and of errors what a caller hears."""
    return [(type(d), d.reason, d.message, d.violations) if isinstance(d, Error) else d for d in drafts]


async def test_a_page_is_drafted_in_another_process_as_it_is_here(drafting: Drafting) -> None:
    drafts = await drafting.drafts(page(), COLUMNS, actor=ACTOR)
    assert plain(drafts) == plain(await HERE.drafts(page(), COLUMNS, actor=ACTOR))
    assert isinstance(drafts[1], Malformed)
    assert isinstance(drafts[2], Draft)
    assert {violation.reason for violation in drafts[2].broken} >= {"DIVISION_OUTSIDE_CITY", "PHOTO_TOO_OLD"}
    assert [
        {violation.reason for violation in draft.violations} for draft in drafts[11:15] if isinstance(draft, Malformed)
    ] == [{"VALUE_UNKNOWN"}, {"CELL_COUNT_WRONG"}, set(), {"LICENSE_GIVEN"}]
    assert all(isinstance(draft, Draft) for draft in drafts[15:])


async def test_a_driver_is_the_same_request_as_a_row_and_as_a_licence() -> None:
    rows = [row for row, _ in generate(320500, 40, seed=8, on=date(2021, 6, 1), foreign_share=0.2)]
    lines, licenses = (
        [
            issuance_pb2.ImportItem(request_id=str(uuid.UUID(int=number)), **fields_of(row))
            for number, row in enumerate(rows)
        ]
        for fields_of in (
            lambda row: {"row": ",".join(row[column] for column in COLUMNS)},
            lambda row: {"license": license_to_message(parse_row(row))},
        )
    )
    drafts = await HERE.drafts(lines, COLUMNS, actor=ACTOR)
    assert drafts == await HERE.drafts(licenses, (), actor=ACTOR)
    assert all(isinstance(draft, Draft) for draft in drafts)


async def test_a_page_is_drafted_though_the_process_that_does_so_was_killed(
    drafting: Drafting, assistants: Assistants
) -> None:
    os.kill(assistants.pids[0], signal.SIGKILL)
    assert plain(await drafting.drafts(page(), COLUMNS, actor=ACTOR)) == plain(
        await HERE.drafts(page(), COLUMNS, actor=ACTOR)
    )
    assert not assistants.pids
