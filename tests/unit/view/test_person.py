"""Tags of persons and names."""

from __future__ import annotations

import hmac

import pytest

from elicense.view.person import TAG_SIZE, PersonIndex

INDEX = PersonIndex(bytes(range(32)))


def test_a_person_is_keyed_by_document_type_and_number_together() -> None:
    tags = {INDEX.person_key(1, "E12345678"), INDEX.person_key(2, "E12345678"), INDEX.person_key(2, "E12345679")}
    assert len(tags) == 3
    assert all(len(tag) == TAG_SIZE for tag in tags)


def test_tags_are_hmac_sha256_cut_to_their_size() -> None:
    key = bytes(range(32))
    assert INDEX.person_key(2, "E1") == hmac.digest(key, b"document\n2\nE1", "sha256")[:TAG_SIZE]
    assert INDEX.name_tag("张伟") == hmac.digest(key, "name\n张伟".encode(), "sha256")[:TAG_SIZE]


def test_another_key_gives_other_tags_for_the_same_person() -> None:
    assert PersonIndex(bytes(32)).person_key(1, "X") != INDEX.person_key(1, "X")


@pytest.mark.parametrize("spelling", ["古丽·买买提", "古丽•买买提", "古丽・买买提", " 古丽·买买提 "])
def test_spellings_of_a_name_that_look_the_same_have_the_same_tag(spelling: str) -> None:
    assert INDEX.name_tag(spelling) == INDEX.name_tag("古丽·买买提")


def test_a_name_is_never_taken_for_a_document_number() -> None:
    assert INDEX.name_tag("1\nE1") != INDEX.person_key(1, "E1")


def test_a_short_index_key_is_refused() -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        PersonIndex(b"short")
