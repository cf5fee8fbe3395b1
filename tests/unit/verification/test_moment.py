"""Which moments may be asked about."""

from __future__ import annotations

from typing import Any

import pytest

from elicense.clock import to_timestamp
from elicense.errors import Malformed
from elicense.v1 import verification_pb2 as pb
from elicense.verification.moment import MAX_AHEAD_US, PLAIN, Moment, read_wish

NOW = 1_800_000_000_000_000


def request(at: int | None = None, known: int | None = None) -> pb.VerifyLicenseRequest:
    asked = {"at_time": at, "as_known_time": known}
    moments: dict[str, Any] = {name: to_timestamp(us) for name, us in asked.items() if us is not None}
    return pb.VerifyLicenseRequest(**moments)


def test_a_request_without_a_moment_is_about_now() -> None:
    assert read_wish(request(), NOW) == PLAIN


def test_both_axes_are_read() -> None:
    assert read_wish(request(NOW - 2, NOW - 1), NOW).moment == Moment(NOW - 2, NOW - 1)


@pytest.mark.parametrize(
    ("asked", "fields"),
    [
        (request(NOW + MAX_AHEAD_US + 1), ["at_time"]),
        (request(0), ["at_time"]),
        (request(None, NOW), ["at_time"]),
        (request(NOW, NOW - 1), ["as_known_time"]),
        (request(NOW, NOW + MAX_AHEAD_US + 1), ["as_known_time"]),
        (request(-5, -6), ["at_time", "as_known_time"]),
    ],
)
def test_a_moment_that_makes_no_sense_is_named(asked: pb.VerifyLicenseRequest, fields: list[str]) -> None:
    with pytest.raises(Malformed) as refusal:
        read_wish(asked, NOW)
    assert [violation.field for violation in refusal.value.violations] == fields
