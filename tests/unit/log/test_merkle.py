from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from elicense.errors import Malformed, RootMismatch
from elicense.log import merkle
from elicense.log.merkle import EMPTY_RANGE, CompactRange
from tests.unit.log.rfc6962 import ReferenceTree

if TYPE_CHECKING:
    from collections.abc import Callable

MOST_LEAVES = 10_000
ENTRIES = [index.to_bytes(4, "big") for index in range(MOST_LEAVES)]
LEAVES = [merkle.hash_leaf(entry) for entry in ENTRIES]
TREE = ReferenceTree(ENTRIES)

# The eight entries that RFC 6962 implementations test with, and the roots of the first one, two, ... of them.
KNOWN_ENTRIES = [
    bytes.fromhex(text)
    for text in (
        "",
        "00",
        "10",
        "2021",
        "3031",
        "40414243",
        "5051525354555657",
        "606162636465666768696a6b6c6d6e6f",
    )
]
KNOWN_ROOTS = [
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]

sizes = st.integers(0, MOST_LEAVES)
hashes = st.binary(min_size=32, max_size=32)
properties = settings(deadline=None, max_examples=200)


def complete_subtree(start: int, end: int) -> bytes:
    """A node reader that also checks that no more is asked for than a store has."""
    width = end - start
    assert width > 0
    assert width & (width - 1) == 0
    assert start % width == 0
    return TREE.mth(start, end)


def ordered_sizes(least: int = 0) -> st.SearchStrategy[tuple[int, int]]:
    return st.integers(least, MOST_LEAVES).flatmap(
        lambda first: st.tuples(st.just(first), st.integers(first, MOST_LEAVES))
    )


leaf_positions = st.integers(1, MOST_LEAVES).flatmap(lambda size: st.tuples(st.integers(0, size - 1), st.just(size)))


def flip_a_bit(value: bytes, bit: int) -> bytes:
    changed = bytearray(value)
    changed[bit // 8 % len(changed)] ^= 1 << bit % 8
    return bytes(changed)


@st.composite
def tampered(draw: st.DrawFn, proof: list[bytes]) -> list[bytes]:
    """A list of hashes that differs from the proof by one change."""
    position = st.integers(0, max(0, len(proof) - 1))
    changes: list[Callable[[], list[bytes]]] = [
        lambda: [*proof, draw(hashes)],
        lambda: [draw(hashes), *proof],
    ]
    if proof:
        at = draw(position)
        changes += [
            lambda: [*proof[:at], flip_a_bit(proof[at], draw(st.integers(0, 255))), *proof[at + 1 :]],
            lambda: [*proof[:at], *proof[at + 1 :]],
            lambda: [*proof[: at + 1], *proof[at:]],
            lambda: [*proof[:at], proof[at][:-1], *proof[at + 1 :]],
            lambda: [*proof[:at], b"", *proof[at + 1 :]],
        ]
    if len(set(proof)) > 1:
        changes.append(lambda: proof[::-1] if proof != proof[::-1] else proof[1:])
    return draw(st.sampled_from(changes))()


class TestRoots:
    @pytest.mark.parametrize("size", range(9))
    def test_the_known_roots_come_out(self, size: int) -> None:
        leaves = [merkle.hash_leaf(entry) for entry in KNOWN_ENTRIES[:size]]
        assert EMPTY_RANGE.append_leaves(leaves).root().hex() == KNOWN_ROOTS[size]
        assert merkle.subtree_root(leaves).hex() == KNOWN_ROOTS[size]
        assert ReferenceTree(KNOWN_ENTRIES).mth(0, size).hex() == KNOWN_ROOTS[size]

    def test_the_empty_root_is_the_hash_of_nothing(self) -> None:
        assert merkle.EMPTY_ROOT.hex() == KNOWN_ROOTS[0]
        assert EMPTY_RANGE.root() == merkle.EMPTY_ROOT

    @properties
    @given(sizes)
    def test_roots_agree_with_the_rfc(self, size: int) -> None:
        appended = EMPTY_RANGE.append_leaves(LEAVES[:size])
        assert appended.size == size
        assert appended.root() == TREE.mth(0, size)
        assert merkle.subtree_root(LEAVES[:size]) == TREE.mth(0, size)

    @properties
    @given(st.lists(st.integers(0, 400), max_size=12))
    def test_the_way_leaves_are_batched_does_not_matter(self, batches: list[int]) -> None:
        grown = EMPTY_RANGE
        for batch in batches:
            grown = grown.append_leaves(LEAVES[grown.size : grown.size + batch])
        assert grown == EMPTY_RANGE.append_leaves(LEAVES[: sum(batches)])
        assert grown.root() == TREE.mth(0, grown.size)


class TestCompactRange:
    @properties
    @given(ordered_sizes())
    def test_a_range_survives_being_stored(self, cut: tuple[int, int]) -> None:
        first, second = cut
        kept = EMPTY_RANGE.append_leaves(LEAVES[:first])
        read = CompactRange.decode(kept.size, kept.encode())
        assert read == kept
        assert read.append_leaves(LEAVES[first:second]).root() == TREE.mth(0, second)

    @given(st.integers(-2, 2**64), st.binary(max_size=200))
    def test_reading_a_range_raises_typed_errors_only(self, size: int, encoded: bytes) -> None:
        try:
            read = CompactRange.decode(size, encoded)
        except Malformed:
            return
        assert read.encode() == encoded

    def test_a_range_has_one_hash_for_every_one_bit(self) -> None:
        with pytest.raises(Malformed):
            CompactRange.decode(3, bytes(32))
        with pytest.raises(Malformed):
            CompactRange.decode(1, bytes(33))
        with pytest.raises(Malformed):
            CompactRange(1, (bytes(31),))

    def test_a_leaf_hash_of_another_length_is_refused(self) -> None:
        for length in (0, 31, 33):
            with pytest.raises(Malformed):
                EMPTY_RANGE.append_leaves([bytes(32), bytes(length)])
            with pytest.raises(Malformed):
                merkle.subtree_root([bytes(length)])

    def test_a_log_can_not_outgrow_its_size_field(self) -> None:
        full = CompactRange(merkle.MAX_LOG_SIZE, (bytes(32),) * 63)
        with pytest.raises(Malformed):
            full.append_leaves([bytes(32)])


class TestInclusion:
    @pytest.mark.parametrize("size", range(1, 66))
    def test_every_proof_of_a_small_tree_agrees_with_the_rfc(self, size: int) -> None:
        for index in range(size):
            proof = merkle.inclusion_proof(index, size, complete_subtree)
            assert proof == TREE.path(index, 0, size)
            merkle.verify_inclusion(
                leaf_hash=LEAVES[index], index=index, size=size, proof=proof, root=TREE.mth(0, size)
            )

    @properties
    @given(leaf_positions)
    def test_proofs_agree_with_the_rfc(self, position: tuple[int, int]) -> None:
        index, size = position
        proof = merkle.inclusion_proof(index, size, complete_subtree)
        assert proof == TREE.path(index, 0, size)
        assert merkle.inclusion_root(leaf_hash=LEAVES[index], index=index, size=size, proof=proof) == TREE.mth(0, size)

    @properties
    @given(leaf_positions, st.data())
    def test_a_tampered_proof_is_refused(self, position: tuple[int, int], data: st.DataObject) -> None:
        index, size = position
        proof = data.draw(tampered(TREE.path(index, 0, size)))
        with pytest.raises(RootMismatch):
            merkle.verify_inclusion(
                leaf_hash=LEAVES[index], index=index, size=size, proof=proof, root=TREE.mth(0, size)
            )

    @properties
    @given(leaf_positions, st.integers(0, 255), st.data())
    def test_another_leaf_place_or_root_is_refused(
        self, position: tuple[int, int], bit: int, data: st.DataObject
    ) -> None:
        index, size = position
        proof, root, leaf = TREE.path(index, 0, size), TREE.mth(0, size), LEAVES[index]
        with pytest.raises(RootMismatch):
            merkle.verify_inclusion(leaf_hash=flip_a_bit(leaf, bit), index=index, size=size, proof=proof, root=root)
        with pytest.raises(RootMismatch):
            merkle.verify_inclusion(leaf_hash=leaf, index=index, size=size, proof=proof, root=flip_a_bit(root, bit))
        other = data.draw(st.integers(-1, size))
        if other != index:
            with pytest.raises(RootMismatch):
                merkle.verify_inclusion(leaf_hash=leaf, index=other, size=size, proof=proof, root=root)

    @given(st.integers(), st.integers(), st.lists(st.binary(max_size=40), max_size=70))
    def test_checking_garbage_raises_typed_errors_only(self, index: int, size: int, proof: list[bytes]) -> None:
        with pytest.raises(RootMismatch):
            merkle.verify_inclusion(leaf_hash=bytes(32), index=index, size=size, proof=proof, root=bytes([1]) * 32)

    @pytest.mark.parametrize(("index", "size"), [(0, 0), (-1, 4), (4, 4)])
    def test_a_leaf_outside_the_tree_has_no_proof(self, index: int, size: int) -> None:
        with pytest.raises(Malformed):
            merkle.inclusion_proof(index, size, complete_subtree)
        with pytest.raises(RootMismatch):
            merkle.verify_inclusion(leaf_hash=bytes(32), index=index, size=size, proof=[], root=merkle.EMPTY_ROOT)

    def test_a_root_is_no_proof_of_an_empty_leaf(self) -> None:
        with pytest.raises(RootMismatch):
            merkle.verify_inclusion(leaf_hash=b"", index=0, size=1, proof=[], root=b"")


class TestBatchProofs:
    @properties
    @given(ordered_sizes(), st.data())
    def test_they_are_the_proofs_against_the_head_after_the_batch(
        self, cut: tuple[int, int], data: st.DataObject
    ) -> None:
        first, second = cut
        indices = data.draw(st.lists(st.integers(first, second - 1), max_size=8)) if second > first else []
        frontier = EMPTY_RANGE.append_leaves(LEAVES[:first])
        proofs = merkle.batch_inclusion_proofs(frontier, LEAVES[first:second], indices)
        assert proofs == [TREE.path(index, 0, second) for index in indices]

    def test_every_leaf_of_every_small_batch_has_its_proof(self) -> None:
        for second in range(1, 40):
            for first in range(second):
                frontier = EMPTY_RANGE.append_leaves(LEAVES[:first])
                proofs = merkle.batch_inclusion_proofs(frontier, LEAVES[first:second], range(first, second))
                assert proofs == [TREE.path(index, 0, second) for index in range(first, second)]

    @pytest.mark.parametrize("index", [-1, 4, 7])
    def test_an_index_outside_the_batch_is_refused(self, index: int) -> None:
        frontier = EMPTY_RANGE.append_leaves(LEAVES[:5])
        with pytest.raises(Malformed):
            merkle.batch_inclusion_proofs(frontier, LEAVES[5:7], [5, index])


class TestConsistency:
    @pytest.mark.parametrize("second", range(1, 50))
    def test_every_proof_of_a_small_tree_agrees_with_the_rfc(self, second: int) -> None:
        for first in range(1, second + 1):
            proof = merkle.consistency_proof(first, second, complete_subtree)
            assert proof == TREE.proof(first, second)
            verify(first, second, proof)

    @properties
    @given(ordered_sizes(least=1))
    def test_proofs_agree_with_the_rfc(self, cut: tuple[int, int]) -> None:
        proof = merkle.consistency_proof(*cut, complete_subtree)
        assert proof == TREE.proof(*cut)
        verify(*cut, proof)

    @properties
    @given(ordered_sizes(), st.data())
    def test_a_tampered_proof_is_refused(self, cut: tuple[int, int], data: st.DataObject) -> None:
        proof = data.draw(tampered(merkle.consistency_proof(*cut, complete_subtree)))
        with pytest.raises(RootMismatch):
            verify(*cut, proof)

    @properties
    @given(ordered_sizes(least=1), st.integers(0, 255))
    def test_another_root_is_refused(self, cut: tuple[int, int], bit: int) -> None:
        first, second = cut
        proof = TREE.proof(first, second)
        older, newer = TREE.mth(0, first), TREE.mth(0, second)
        for roots in ((flip_a_bit(older, bit), newer), (older, flip_a_bit(newer, bit))):
            with pytest.raises(RootMismatch):
                merkle.verify_consistency(
                    first=first, first_root=roots[0], second=second, second_root=roots[1], proof=proof
                )

    @properties
    @given(ordered_sizes(least=1), st.integers(0, MOST_LEAVES - 1))
    def test_a_rewritten_history_has_no_proof(self, cut: tuple[int, int], index: int) -> None:
        first, second = cut
        forked = [*LEAVES[:second]]
        forked[index % first] = bytes(32)
        proof = TREE.proof(first, second)
        with pytest.raises(RootMismatch):
            merkle.verify_consistency(
                first=first,
                first_root=merkle.subtree_root(forked[:first]),
                second=second,
                second_root=TREE.mth(0, second),
                proof=proof,
            )

    @given(st.integers(), st.integers(), st.lists(st.binary(max_size=40), max_size=70))
    def test_checking_garbage_raises_typed_errors_only(self, first: int, second: int, proof: list[bytes]) -> None:
        with pytest.raises(RootMismatch):
            merkle.verify_consistency(
                first=first, first_root=bytes(32), second=second, second_root=bytes([1]) * 32, proof=proof
            )

    @given(st.integers(1, 2**63 - 1), st.integers(1, 2**63 - 1), st.lists(hashes, max_size=70))
    def test_checking_well_formed_garbage_ends_with_a_typed_error(
        self, first: int, second: int, proof: list[bytes]
    ) -> None:
        with pytest.raises(RootMismatch):
            merkle.verify_consistency(
                first=first, first_root=bytes(32), second=second, second_root=bytes([1]) * 32, proof=proof
            )

    def test_every_tree_is_consistent_with_the_empty_one(self) -> None:
        assert merkle.consistency_proof(0, 7, complete_subtree) == []
        verify(0, 7, [])
        verify(0, 0, [])
        with pytest.raises(RootMismatch):
            merkle.verify_consistency(first=0, first_root=bytes(32), second=7, second_root=TREE.mth(0, 7), proof=[])

    @pytest.mark.parametrize(("first", "second"), [(3, 2), (-1, 2)])
    def test_sizes_out_of_order_are_refused(self, first: int, second: int) -> None:
        with pytest.raises(Malformed):
            merkle.consistency_proof(first, second, complete_subtree)
        with pytest.raises(RootMismatch):
            verify(first, second, [])


class TestLargeLogs:
    """Trees of equal leaves: their roots are known at any size, so the arithmetic is tested far past memory."""

    LEAF = merkle.hash_leaf(b"same")

    def node(self, start: int, end: int) -> bytes:
        value, width = self.LEAF, 1
        while width < end - start:
            value, width = merkle.hash_children(value, value), 2 * width
        assert width == end - start
        return value

    def range_of(self, size: int) -> CompactRange:
        widths = [1 << bit for bit in reversed(range(63)) if size >> bit & 1]
        return CompactRange(size, tuple(self.node(0, width) for width in widths))

    @properties
    @given(st.integers(1, 2**63 - 300), st.integers(0, 299), st.data())
    def test_proofs_hold_at_every_size(self, first: int, more: int, data: st.DataObject) -> None:
        older = self.range_of(first)
        newer = older.append_leaves([self.LEAF] * more)
        assert newer == self.range_of(first + more)
        index = data.draw(st.integers(0, newer.size - 1))
        merkle.verify_inclusion(
            leaf_hash=self.LEAF,
            index=index,
            size=newer.size,
            proof=merkle.inclusion_proof(index, newer.size, self.node),
            root=newer.root(),
        )
        merkle.verify_consistency(
            first=first,
            first_root=older.root(),
            second=newer.size,
            second_root=newer.root(),
            proof=merkle.consistency_proof(first, newer.size, self.node),
        )
        for offset, proof in enumerate(
            merkle.batch_inclusion_proofs(older, [self.LEAF] * more, range(first, first + more))
        ):
            assert proof == merkle.inclusion_proof(first + offset, newer.size, self.node)


def verify(first: int, second: int, proof: list[bytes]) -> None:
    merkle.verify_consistency(
        first=first,
        first_root=TREE.mth(0, max(0, first)),
        second=second,
        second_root=TREE.mth(0, second),
        proof=proof,
    )
