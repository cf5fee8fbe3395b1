"""How batches change the national view, without any store."""

from __future__ import annotations

import uuid

from google.type.date_pb2 import Date

from elicense.license.verdict import ViewFlags
from elicense.v1 import license_pb2 as pb
from elicense.v1 import replication_pb2
from elicense.view.model import ViewRow
from elicense.view.person import PersonIndex
from registry.model import Claim, ClaimState
from registry.national import NationalChange, NationalFold
from registry.received import receive

TIANJIN, SUZHOU = 120000, 320500
PERSONS = PersonIndex(bytes(32))
LICENSE = uuid.UUID(int=1).bytes
NUMBER = "11010519491231002X"
PERSON = PERSONS.person_key(1, NUMBER)


def record(
    event: int,
    revision: int,
    *,
    number: str = NUMBER,
    previous: bytes = b"",
    city: int = SUZHOU,
    license_id: bytes = LICENSE,
    provisional: bool = False,
) -> bytes:
    day = Date(year=2020, month=1, day=1)
    message = pb.LicenseRecord(
        city=city, epoch=1, license_id=license_id, revision=revision, previous_entry_hash=previous, request_id="r"
    )
    message.event = event  # type: ignore[assignment]
    message.provisional = provisional
    message.license.holder.full_name = "张伟"
    message.license.holder.document.type = pb.DOCUMENT_TYPE_RESIDENT_ID
    message.license.holder.document.number = number
    message.license.vehicle_classes.add(code="C1", from_date=day)
    message.license.validity.kind = pb.VALIDITY_KIND_LONG_TERM
    message.license.validity.from_date.CopyFrom(day)
    return message.SerializeToString()


def claim(city: int = SUZHOU, state: ClaimState = ClaimState.LEASED) -> Claim:
    return Claim(PERSON, city, LICENSE, "r", int(state), 10, 1, 0)


def leaf(index: int) -> bytes:
    return index.to_bytes(32, "big")


def fold(
    records: list[bytes], *, claims: list[Claim] | None = None, rows: list[ViewRow] | None = None, start: int = 0
) -> NationalChange:
    numbered = [(index, body, leaf(index)) for index, body in enumerate(records, start)]
    folding = NationalFold(
        rows={PERSON: rows} if rows else {},
        claims={held.person_key: held for held in claims or []},
        received_us=5,
    )
    for received in receive(numbered, city=SUZHOU, epoch=1, persons=PERSONS).one_by_one():
        folding.apply(received)
    return folding.change


def test_a_claimed_person_takes_effect_at_once_and_the_lease_becomes_a_hold() -> None:
    change = fold([record(pb.LICENSE_EVENT_ISSUED, 1)], claims=[claim()])
    assert change.rows[PERSON, LICENSE].flags == 0
    assert change.holds == {PERSON: LICENSE}
    assert not change.pending
    assert not change.notes


def test_a_person_whom_the_city_does_not_hold_waits_for_a_decision() -> None:
    for claims in ([], [claim(city=TIANJIN)]):
        change = fold([record(pb.LICENSE_EVENT_ISSUED, 1)], claims=claims)
        assert change.rows[PERSON, LICENSE].flags == ViewFlags.PROVISIONAL
        assert [waiting.license_id for waiting in change.pending] == [LICENSE]
        assert not change.holds


def test_a_provisional_license_of_a_person_whom_the_city_held_all_along_is_confirmed_to_it() -> None:
    change = fold([record(pb.LICENSE_EVENT_ISSUED, 1, provisional=True)], claims=[claim()])
    assert change.rows[PERSON, LICENSE].flags == 0
    assert [kind for _, kind, _, _ in change.notes] == [replication_pb2.DISPOSITION_KIND_CONFIRMED]


def test_a_second_license_of_one_person_waits_even_in_the_city_that_holds_the_person() -> None:
    second = uuid.UUID(int=2).bytes
    change = fold(
        [record(pb.LICENSE_EVENT_ISSUED, 1), record(pb.LICENSE_EVENT_ISSUED, 1, license_id=second)], claims=[claim()]
    )
    assert change.rows[PERSON, LICENSE].flags == 0
    assert change.rows[PERSON, second].flags == ViewFlags.PROVISIONAL


def test_revisions_within_one_batch_follow_each_other_and_the_last_one_counts() -> None:
    change = fold(
        [record(pb.LICENSE_EVENT_ISSUED, 1), record(pb.LICENSE_EVENT_STATUS_CHANGED, 2, previous=leaf(0))],
        claims=[claim()],
    )
    assert change.rows[PERSON, LICENSE].revision == 2
    assert [revision.revision for revision in change.revisions] == [1, 2]


def test_a_provisional_license_changed_within_its_first_batch_stays_provisional() -> None:
    change = fold([record(pb.LICENSE_EVENT_ISSUED, 1), record(pb.LICENSE_EVENT_STATUS_CHANGED, 2, previous=leaf(0))])
    assert change.rows[PERSON, LICENSE].flags == ViewFlags.PROVISIONAL


def test_an_event_from_a_newer_node_is_kept_and_makes_the_license_indeterminate() -> None:
    change = fold([record(pb.LICENSE_EVENT_ISSUED, 1), record(99, 2, previous=leaf(0))], claims=[claim()])
    assert change.rows[PERSON, LICENSE].flags == ViewFlags.UNKNOWN_EVENT


def test_every_event_of_a_life_is_known() -> None:
    for event in (
        pb.LICENSE_EVENT_UPDATED,
        pb.LICENSE_EVENT_RENEWED,
        pb.LICENSE_EVENT_STATUS_CHANGED,
        pb.LICENSE_EVENT_CORRECTED,
    ):
        change = fold([record(pb.LICENSE_EVENT_ISSUED, 1), record(event, 2, previous=leaf(0))], claims=[claim()])
        assert change.rows[PERSON, LICENSE].flags == 0
        assert not change.releases


def test_a_cancelled_license_frees_its_person_and_stays_cancelled() -> None:
    records = [record(pb.LICENSE_EVENT_ISSUED, 1), record(pb.LICENSE_EVENT_CANCELLED, 2, previous=leaf(0))]
    change = fold([*records, record(pb.LICENSE_EVENT_CORRECTED, 3, previous=leaf(1))], claims=[claim()])
    assert change.rows[PERSON, LICENSE].flags == ViewFlags.CANCELLED
    assert change.rows[PERSON, LICENSE].revision == 2
    assert change.releases == {PERSON: LICENSE}
    assert [(index, kind) for index, kind, _, _ in change.notes] == [(2, replication_pb2.DISPOSITION_KIND_UNREADABLE)]


def test_a_license_issued_anew_counts_with_a_new_grant_and_waits_without() -> None:
    cancelled = fold(
        [record(pb.LICENSE_EVENT_ISSUED, 1), record(pb.LICENSE_EVENT_CANCELLED, 2, previous=leaf(0))], claims=[claim()]
    ).rows[PERSON, LICENSE]
    second = uuid.UUID(int=2).bytes
    anew = [record(pb.LICENSE_EVENT_ISSUED, 1, license_id=second)]
    granted = fold(anew, rows=[cancelled], claims=[claim()], start=2)
    assert granted.rows[PERSON, second].flags == 0
    assert granted.holds == {PERSON: second}
    for claims in ([], [claim(state=ClaimState.RELEASED)], [claim(city=TIANJIN)]):
        waits = fold(anew, rows=[cancelled], claims=claims, start=2)
        assert [pending.license_id for pending in waits.pending] == [second]


def test_a_revision_that_does_not_follow_the_one_before_has_no_effect_and_a_note() -> None:
    for revision, previous in ((3, leaf(0)), (2, leaf(7)), (1, leaf(0))):
        change = fold(
            [
                record(pb.LICENSE_EVENT_ISSUED, 1),
                record(pb.LICENSE_EVENT_STATUS_CHANGED, revision, previous=previous),
            ],
            claims=[claim()],
        )
        assert change.rows[PERSON, LICENSE].revision == 1
        assert [(index, kind) for index, kind, _, _ in change.notes] == [
            (1, replication_pb2.DISPOSITION_KIND_UNREADABLE)
        ]


def test_a_change_to_a_license_in_another_citys_custody_has_no_effect_and_a_note() -> None:
    held = fold([record(pb.LICENSE_EVENT_ISSUED, 1)], claims=[claim()]).rows[PERSON, LICENSE]
    elsewhere = ViewRow(*{**held.as_dict(), "city": TIANJIN}.values())  # type: ignore[arg-type]
    change = fold([record(pb.LICENSE_EVENT_STATUS_CHANGED, 2, previous=leaf(0))], rows=[elsewhere], start=1)
    assert not change.rows
    assert [kind for _, kind, _, _ in change.notes] == [replication_pb2.DISPOSITION_KIND_NOT_IN_CUSTODY]


def test_bytes_that_are_no_record_and_records_of_another_log_are_kept_with_a_note() -> None:
    change = fold([b"\xff\xff", b"", record(pb.LICENSE_EVENT_ISSUED, 1, city=TIANJIN)], claims=[claim()])
    assert not change.rows
    assert [index for index, _, _, _ in change.notes] == [0, 1, 2]


def test_a_granted_license_counts_though_another_citys_provisional_one_came_first() -> None:
    first = fold([record(pb.LICENSE_EVENT_ISSUED, 1)]).rows[PERSON, LICENSE]
    for doubt in (ViewFlags.PROVISIONAL, ViewFlags.CONFLICT):
        waits = ViewRow(*{**first.as_dict(), "city": TIANJIN, "flags": int(doubt)}.values())  # type: ignore[arg-type]
        second = uuid.UUID(int=2).bytes
        granted = [record(pb.LICENSE_EVENT_ISSUED, 1, license_id=second)]
        change = fold(granted, rows=[waits], claims=[claim()], start=1)
        assert change.rows[PERSON, second].flags == 0
        assert change.holds == {PERSON: second}
        assert not change.pending


def test_a_change_to_a_license_in_doubt_does_not_make_it_count_for_what_follows_in_the_batch() -> None:
    doubtful = fold([record(pb.LICENSE_EVENT_ISSUED, 1)]).rows[PERSON, LICENSE]
    doubtful = ViewRow(*{**doubtful.as_dict(), "flags": int(ViewFlags.CONFLICT)}.values())  # type: ignore[arg-type]
    second = uuid.UUID(int=2).bytes
    change = fold(
        [
            record(pb.LICENSE_EVENT_CANCELLED, 2, previous=leaf(0)),
            record(pb.LICENSE_EVENT_ISSUED, 1, license_id=second),
        ],
        rows=[doubtful],
        claims=[claim()],
        start=1,
    )
    assert change.holds == {PERSON: second}
    assert not change.releases


def test_two_persons_under_one_license_id_in_a_batch_each_keep_their_row() -> None:
    other = "44052418800101001X"
    change = fold([record(pb.LICENSE_EVENT_ISSUED, 1), record(pb.LICENSE_EVENT_ISSUED, 1, number=other)])
    assert set(change.rows) == {(PERSON, LICENSE), (PERSONS.person_key(1, other), LICENSE)}
