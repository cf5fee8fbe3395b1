"""The short way to a finding concludes what the long one does."""

from __future__ import annotations

from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from elicense.errors import Malformed
from elicense.license.finding import find
from elicense.license.standing import decode_standing
from elicense.license.verdict import Finding, ViewFlags, assess
from elicense.v1 import license_pb2 as pb

ON = date(2024, 6, 1)


def dates() -> st.SearchStrategy[tuple[int, int, int]]:
    """Around the day of the verdict, and now and then one that does not exist."""
    near = st.tuples(st.just(2024), st.integers(5, 7), st.sampled_from([1, 2, 30]))
    return st.one_of(near, near, near, st.sampled_from([(2024, 2, 30), (0, 0, 0), (2024, 6, 0)]))


@st.composite
def standings(draw: st.DrawFn) -> bytes:
    message = pb.LicenseStanding()

    def put(field: object, day: tuple[int, int, int]) -> None:
        for name, value in zip(("year", "month", "day"), day, strict=True):
            setattr(field, name, value)

    for code in draw(st.lists(st.sampled_from(["C1", "D", "A2"]), max_size=2)):
        held = message.vehicle_classes.add(code=code)
        put(held.from_date, draw(dates()))
        if draw(st.booleans()):
            put(held.until_date, draw(dates()))
    if draw(st.integers(0, 3)):
        message.validity.kind = draw(st.sampled_from([0, 1, 2, 3, 99]))  # type: ignore[assignment]  # an open enum
        put(message.validity.from_date, draw(dates()))
        if draw(st.booleans()):
            put(message.validity.until_date, draw(dates()))
    if not draw(st.integers(0, 3)):
        letter = message.status_letters.add(letter=draw(st.sampled_from(["A", "H", "G", "?"])))
        put(letter.start_date, draw(dates()))
    if not draw(st.integers(0, 3)):
        put(message.points_roll_date, draw(dates()))
    return message.SerializeToString()


def concluded(standing: bytes, flags: int, *, short: bool) -> Finding | None:
    """Return the finding; None when the standing can not be read."""
    try:
        return find(standing, flags, ON) if short else assess(decode_standing(standing), ViewFlags(flags), ON)
    except Malformed:
        return None


@given(standing=standings(), flags=st.sampled_from([0, 0, 0, 1, 2, 8]))
def test_both_ways_conclude_the_same_of_any_license(standing: bytes, flags: int) -> None:
    assert concluded(standing, flags, short=True) == concluded(standing, flags, short=False)


@pytest.mark.parametrize("flags", [0, 2])
def test_bytes_that_are_no_standing_are_refused(flags: int) -> None:
    with pytest.raises(Malformed):
        find(b"\xff", flags, ON)
