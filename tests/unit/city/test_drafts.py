"""What of a request to issue goes into the record."""

from __future__ import annotations

import uuid
from dataclasses import replace
from datetime import date

from google.type.date_pb2 import Date

from city_node.drafting import Drafting
from city_node.drafts import Draft
from elicense.cli.demo.drivers import generate
from elicense.license.codec import license_from_message, license_to_message
from elicense.license.csv_format import parse_row
from elicense.license.points import next_cycle
from elicense.v1 import license_pb2, replication_pb2
from elicense.view.person import PersonIndex

PERSONS = PersonIndex(bytes(32))
REQUEST_ID = str(uuid.UUID(int=7))


ACTOR = "spiffe://a/clerk/320500/li"
DAY = date(2021, 6, 1)
NOW_US = 1_622_520_000_123_456
DRAFTING = Drafting(city=320500, persons=PERSONS, clock=lambda: NOW_US)


def draft(message: license_pb2.License) -> Draft:
    return DRAFTING.draft(message, request_id=REQUEST_ID, imported=True, actor=ACTOR)


def licenses(count: int = 300) -> list[license_pb2.License]:
    rows = generate(320500, count, seed=5, on=date(2021, 6, 1), foreign_share=0.2)
    return [license_to_message(parse_row(row)) for row, _ in rows]


def test_a_record_holds_what_the_values_of_the_request_would_be_written_as() -> None:
    for message in licenses():
        values = license_from_message(message)
        if values.points:
            values = replace(values, points_roll_date=next_cycle(values.first_issue_date, DAY))
        expected = license_to_message(values)
        assert draft(message).message.SerializeToString(deterministic=True) == expected.SerializeToString(
            deterministic=True
        )


def test_what_a_caller_sends_in_fields_that_the_city_fills_in_is_ignored() -> None:
    plain = licenses(1)[0]
    message = license_pb2.License()
    message.CopyFrom(plain)
    message.name = "cities/320500/licenses/x"
    message.etag = "e"
    message.revision = 7
    message.provisional = True
    message.points_roll_date.CopyFrom(Date(year=2022, month=1, day=1))
    # A field that this node does not know: number 1,000, a number.
    message.MergeFromString(b"\xc0\x3e\x01")
    assert draft(message).digest == draft(plain).digest
    assert draft(message).message == draft(plain).message


def test_spellings_of_one_document_number_are_one_request() -> None:
    plain = licenses(1)[0]
    spelled = license_pb2.License()
    spelled.CopyFrom(plain)
    spelled.holder.document.number = f" {plain.holder.document.number.lower()}"
    assert draft(spelled).digest == draft(plain).digest
    assert spelled.holder.document.number.startswith(" "), "the request itself is left as it was"


def test_a_claim_names_document_licence_and_request() -> None:
    plain = draft(licenses(1)[0])
    claim = plain.claim(bytes(range(16)))
    assert claim == replication_pb2.PersonClaim(
        document=plain.message.holder.document, license_id=bytes(range(16)), request_id=uuid.UUID(REQUEST_ID).bytes
    )
