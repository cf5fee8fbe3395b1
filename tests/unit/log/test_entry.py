from __future__ import annotations

from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from elicense.errors import Malformed
from elicense.log import entry
from elicense.log.merkle import hash_leaf

salts = st.binary(min_size=32, max_size=32)


@given(salts, st.binary(max_size=300))
def test_an_entry_is_a_version_and_a_digest_over_salt_and_record(salt: bytes, record: bytes) -> None:
    made = entry.commitment(salt, record)
    assert made == bytes([1]) + sha256(salt + record).digest()
    assert len(made) == entry.ENTRY_SIZE


@given(st.lists(st.tuples(salts, st.binary(max_size=300))))
def test_leaf_hashes_are_rfc_6962_hashes_of_the_entries(pairs: list[tuple[bytes, bytes]]) -> None:
    expected = [hash_leaf(entry.commitment(salt, record)) for salt, record in pairs]
    assert entry.leaf_hashes(pairs) == expected
    assert [entry.leaf_hash(salt, record) for salt, record in pairs] == expected


def test_a_known_entry_has_its_known_leaf_hash() -> None:
    assert entry.leaf_hash(bytes(32), b"").hex() == sha256(b"\x00\x01" + sha256(bytes(32)).digest()).hexdigest()


@pytest.mark.parametrize("size", [0, 31, 33])
def test_a_salt_of_another_size_is_refused(size: int) -> None:
    with pytest.raises(Malformed):
        entry.commitment(bytes(size), b"record")
    with pytest.raises(Malformed):
        entry.leaf_hash(bytes(size), b"record")
    with pytest.raises(Malformed):
        entry.leaf_hashes([(bytes(32), b"record"), (bytes(size), b"record")])


def test_bytes_can_not_move_between_salt_and_record() -> None:
    moved = b"s" * 31
    with pytest.raises(Malformed):
        entry.leaf_hash(moved, b"s" + b"record")
