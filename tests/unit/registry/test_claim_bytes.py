"""What many persons of an import are told and noted with is the same as one message each."""

from __future__ import annotations

import uuid
from datetime import date

from elicense.clock import to_timestamp
from elicense.license.civil_date import date_to_message
from elicense.uuids import uuid_text
from elicense.v1 import license_pb2, log_pb2
from elicense.v1 import replication_pb2 as pb
from registry.claims import Barred, ClaimOutcome, Granted, HeldBy
from registry.decision_records import TAG_KEY, claims_granted
from registry.model import Claim, ClaimState
from registry.services.replication import result_field

CITY = 320500
END_US = 1_622_520_000_123_456


def an_id(number: int) -> bytes:
    return uuid.UUID(int=number).bytes


def test_an_entry_of_grants_has_one_message_a_person() -> None:
    claims = [
        (Claim(an_id(n), CITY, an_id(100 + n), uuid_text(an_id(200 + n)), int(ClaimState.LEASED), END_US, 1, 7), n)
        for n in range(3)
    ]
    entry = claims_granted(CITY, [(claim, an_id(200 + n)) for claim, n in claims])
    assert entry == log_pb2.ClaimsGranted(
        city=CITY,
        claims=[
            log_pb2.ClaimGranted(person_tag=an_id(n), license_id=an_id(100 + n), request_id=an_id(200 + n))
            for _, n in claims
        ],
        lease_end_time=to_timestamp(END_US),
        tag_key=TAG_KEY,
    )


def test_an_answer_has_one_result_a_claim_in_their_order() -> None:
    outcomes: list[ClaimOutcome] = [
        Granted(an_id(1), 1, 7, bytes(32), END_US),
        HeldBy(120_000),
        Barred(510_100, date(2026, 6, 1)),
        Barred(510_100, None),
        Granted(an_id(2), 1, 300, bytes(range(32)), END_US),
    ]
    grants = [
        license_pb2.ClaimGrant(
            registry_epoch=1, registry_index=index, entry_hash=entry_hash, lease_end_time=to_timestamp(END_US)
        )
        for index, entry_hash in ((7, bytes(32)), (300, bytes(range(32))))
    ]
    assert pb.ClaimPersonsResponse.FromString(b"".join(map(result_field, outcomes))) == pb.ClaimPersonsResponse(
        results=[
            pb.ClaimResult(grant=grants[0], license_id=an_id(1)),
            pb.ClaimResult(held_by_city=120_000),
            pb.ClaimResult(barred=pb.BarredPerson(city=510_100, until_date=date_to_message(date(2026, 6, 1)))),
            pb.ClaimResult(barred=pb.BarredPerson(city=510_100)),
            pb.ClaimResult(grant=grants[1], license_id=an_id(2)),
        ]
    )
