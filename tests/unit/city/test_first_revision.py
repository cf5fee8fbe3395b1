"""A first revision put together from bytes is the one that serializing its message gives."""

from __future__ import annotations

import uuid
from datetime import date

import pytest

from city_node.commands import NewLicense, WrittenFirst
from city_node.custody import record_flags
from city_node.drafting import Drafting
from city_node.first_revision import FirstRevisions
from elicense.cli.demo.drivers import generate
from elicense.clock import china_date, from_timestamp, to_timestamp
from elicense.license.civil_date import civil_date, shared_message
from elicense.license.codec import license_to_message
from elicense.license.csv_format import parse_row
from elicense.license.points import next_cycle
from elicense.log.model import LogKey
from elicense.v1 import license_pb2
from elicense.view.fold import row_of
from elicense.view.person import PersonIndex

PERSONS = PersonIndex(bytes(32))
ACTOR = "spiffe://a/clerk/320500/li"
NOW_US = 1_622_520_000_123_456
KEY = LogKey(320500, 2)
GRANT = license_pb2.ClaimGrant(
    registry_epoch=1, registry_index=70_000, entry_hash=b"h" * 32, lease_end_time=to_timestamp(NOW_US + 1)
)
DRAFTING = Drafting(city=320500, persons=PERSONS, clock=lambda: NOW_US)


def licenses() -> list[license_pb2.License]:
    rows = generate(320500, 200, seed=5, on=date(2021, 6, 1), foreign_share=0.2)
    messages = [license_to_message(parse_row(row)) for row, _ in rows]
    for position, message in enumerate(messages):
        message.points = position % 4
    long = messages[-1]
    long.holder.address = "长" * 200  # a licence of more than 127 bytes of address alone
    return messages


def expected(
    message: license_pb2.License, request_id: str, license_id: bytes, *, imported: bool, granted: bool
) -> license_pb2.LicenseRecord:
    record = license_pb2.LicenseRecord(
        city=KEY.log,
        epoch=KEY.epoch,
        license_id=license_id,
        revision=1,
        event=license_pb2.LICENSE_EVENT_ISSUED,
        request_id=request_id,
        actor=ACTOR,
        record_time=to_timestamp(NOW_US),
        effective_time=to_timestamp(NOW_US),
        license=message,
        claim=GRANT if granted else None,
        provisional=not granted,
        imported=imported,
    )
    first = message.first_issue_date
    if message.points:
        day = civil_date(first.year, first.month, first.day)
        assert day is not None
        record.license.points_roll_date.CopyFrom(shared_message(next_cycle(day, china_date(NOW_US))))
    return record


@pytest.mark.parametrize("imported", [False, True])
@pytest.mark.parametrize("granted", [False, True])
def test_a_record_has_the_bytes_of_its_message_and_its_row_what_the_record_says(imported: bool, granted: bool) -> None:
    revisions = FirstRevisions(KEY, NOW_US)
    grant = (GRANT.SerializeToString(), from_timestamp(GRANT.lease_end_time)) if granted else ()
    for number, message in enumerate(licenses()):
        request_id, license_id = str(uuid.UUID(int=number)), uuid.UUID(int=number + 1_000).bytes
        draft = DRAFTING.draft(message, request_id=request_id, imported=imported, actor=ACTOR)
        item = NewLicense(draft, license_id, *grant)
        data, standing = revisions.write(item)
        record = expected(message, request_id, license_id, imported=imported, granted=granted)
        record.request_digest = draft.digest
        assert data == record.SerializeToString(deterministic=True)
        flags = record_flags(record)
        row = row_of(record, index=7, leaf_hash=b"", flags=flags, persons=PERSONS, person_key=draft.person_key)
        assert (standing, draft.name_tag) == (row.standing, row.name_tag)
        assert WrittenFirst(item, KEY, 7, data, standing, NOW_US).flags == flags
        assert draft.person_key == PERSONS.person_key(
            message.holder.document.type, record.license.holder.document.number
        )


def test_the_letters_of_a_license_make_the_same_flags_in_a_draft_as_in_a_record() -> None:
    message = licenses()[0]
    for letter in "ABCDEFGHIJKLMN":
        del message.status_letters[:]
        message.status_letters.add(letter=letter, start_date=message.first_issue_date)
        draft = DRAFTING.draft(message, request_id=str(uuid.UUID(int=1)), imported=True, actor=ACTOR)
        record = license_pb2.LicenseRecord(license=message, event=license_pb2.LICENSE_EVENT_ISSUED)
        assert draft.flags == record_flags(record)


def test_points_are_cleared_as_of_the_day_of_writing_though_the_licence_was_drafted_the_day_before() -> None:
    day_us = 86_400 * 1_000_000
    yesterday = Drafting(city=320500, persons=PERSONS, clock=lambda: NOW_US - day_us)
    changed = 0
    for message in licenses():
        if not message.points:
            continue
        # The cycle that runs out in the night between.
        message.first_issue_date.month, message.first_issue_date.day = 6, 1
        drafts = [
            drafting.draft(message, request_id=str(uuid.UUID(int=7)), imported=True, actor=ACTOR)
            for drafting in (DRAFTING, yesterday)
        ]
        written = [FirstRevisions(KEY, NOW_US).write(NewLicense(draft, b"l" * 16)) for draft in drafts]
        changed += drafts[0].license != drafts[1].license
        assert written[0] == written[1]
    assert changed
