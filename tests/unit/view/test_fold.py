"""What of a record can be folded into the view."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from google.type.date_pb2 import Date

from elicense.errors import Malformed
from elicense.license.codec import decode_standing
from elicense.v1 import license_pb2 as pb
from elicense.view.fold import read_record, read_with_standing


def record() -> pb.LicenseRecord:
    day = Date(year=2020, month=1, day=1)
    message = pb.LicenseRecord(city=320500, epoch=1, license_id=bytes(16), revision=1, event=pb.LICENSE_EVENT_ISSUED)
    message.license.holder.document.number = "11010519491231002X"
    message.license.vehicle_classes.add(code="C1", from_date=day)
    message.license.validity.from_date.CopyFrom(day)
    message.license.status_letters.add(letter="H", start_date=day)
    return message


def _class_month(message: pb.LicenseRecord) -> None:
    message.license.vehicle_classes[0].from_date.month = 13


def _letter_day(message: pb.LicenseRecord) -> None:
    message.license.status_letters[0].start_date.day = 32


def _validity(message: pb.LicenseRecord) -> None:
    message.license.validity.until_date.CopyFrom(Date(year=2030, month=2, day=30))


def _effective(message: pb.LicenseRecord) -> None:
    message.effective_time.seconds = 2**60


def _recorded(message: pb.LicenseRecord) -> None:
    message.record_time.nanos = -1


def _event(message: pb.LicenseRecord) -> None:
    message.event = 70_000  # type: ignore[assignment]


def _negative_event(message: pb.LicenseRecord) -> None:
    message.event = -1  # type: ignore[assignment]


def _blank_in_number(message: pb.LicenseRecord) -> None:
    message.license.holder.document.number = "11010519491231002X\u3000"


def _small_letter(message: pb.LicenseRecord) -> None:
    message.license.holder.document.number = "11010519491231002x"


def _no_license_id(message: pb.LicenseRecord) -> None:
    message.license_id = b""


def test_a_whole_record_can_be_folded_and_one_of_an_unknown_event_too() -> None:
    message = record()
    assert read_record(message.SerializeToString()) == message
    message.event = 32_767  # type: ignore[assignment]
    assert read_record(message.SerializeToString()) == message


@pytest.mark.parametrize(
    "break_it",
    [
        _class_month,
        _letter_day,
        _validity,
        _effective,
        _recorded,
        _event,
        _negative_event,
        _blank_in_number,
        _small_letter,
        _no_license_id,
    ],
)
def test_a_record_that_no_row_can_hold_or_no_verdict_read_is_refused(
    break_it: Callable[[pb.LicenseRecord], None],
) -> None:
    message = record()
    break_it(message)
    with pytest.raises(Malformed):
        read_record(message.SerializeToString())


def test_the_standing_of_a_license_without_a_period_of_validity_can_be_read_back() -> None:
    message = record()
    message.license.ClearField("validity")
    _, standing = read_with_standing(message.SerializeToString())
    assert decode_standing(standing).validity is None


def test_a_standing_holds_what_the_license_does_in_one_form() -> None:
    day = Date(year=2020, month=1, day=1)
    message = record()
    message.license.points_roll_date.CopyFrom(day)
    message.license.status_letters[0].legal_basis = "left out"
    message.license.vehicle_classes.add(code="D", from_date=day, until_date=day, limits=["01"])
    _, standing = read_with_standing(message.SerializeToString())
    expected = pb.LicenseStanding(
        vehicle_classes=message.license.vehicle_classes, validity=message.license.validity, points_roll_date=day
    )
    expected.status_letters.add(letter="H", start_date=day)
    assert standing == expected.SerializeToString()


def test_every_wrong_date_is_named_also_where_it_was_seen_before() -> None:
    message = record()
    message.license.vehicle_classes.add(code="D")
    _validity(message)
    for _ in range(2):
        with pytest.raises(Malformed) as caught:
            read_record(message.SerializeToString())
        assert [fault.field for fault in caught.value.violations] == [
            "vehicle_classes[1].from_date",
            "validity.until_date",
        ]
