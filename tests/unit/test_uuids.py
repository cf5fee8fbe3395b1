"""UUIDs between text and bytes, and those that lie together in an index."""

from __future__ import annotations

import secrets
import uuid

import pytest

from elicense.uuids import ordered_uuids, uuid_bytes, uuid_text


def test_text_and_bytes_are_what_the_standard_library_makes_of_them() -> None:
    for one in (uuid.UUID(int=0), uuid.UUID(int=2**128 - 1), uuid.uuid4()):
        assert uuid_text(one.bytes) == str(one)
        assert uuid_bytes(str(one)) == uuid_bytes(str(one).upper()) == one.bytes


@pytest.mark.parametrize(
    "text",
    [
        "",
        "00000000000000000000000000000000",
        "{00000000-0000-0000-0000-00000000}",
        "00000000-0000-0000-0000-0000000000g0",
        "00000000-0000-0000-0000-0000000000  ",
        "00000000-0000-0000-0000-00-000000000",
        "0000000-00000-0000-0000-000000000000",
    ],
)
def test_any_other_spelling_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"UUID|hexadecimal"):
        uuid_bytes(text)


def test_ordered_uuids_are_of_version_7_unique_and_sorted_by_their_time() -> None:
    times = (1_622_505_600_000_000, 1_622_505_600_001_000)
    earlier, later = (ordered_uuids(100, now_us=now_us, random=secrets.token_bytes) for now_us in times)
    made = [*earlier, *later]
    assert len(set(made)) == 200
    assert {(one.version, one.variant) for one in (uuid.UUID(bytes=data) for data in made)} == {(7, uuid.RFC_4122)}
    assert max(earlier) < min(later)
