from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from elicense.errors import Malformed
from elicense.log import tiles
from elicense.log.merkle import hash_leaf, subtree_root
from elicense.log.tiles import Tile
from tests.unit.log.rfc6962 import ReferenceTree

numbers = st.integers(0, 2**63 - 1)


@pytest.mark.parametrize(
    ("level", "n", "width", "path"),
    [
        (0, 0, 256, "tile/0/000"),
        (0, 1234067, 256, "tile/0/x001/x234/067"),
        (1, 1000, 256, "tile/1/x001/000"),
        (0, 273, 112, "tile/0/273.p/112"),
        (1, 1, 17, "tile/1/001.p/17"),
    ],
)
def test_known_tiles_have_their_known_paths(level: int, n: int, width: int, path: str) -> None:
    assert tiles.tile_path(level, n, width) == path
    assert tiles.parse_tile_path(path) == Tile(level, n, width)


@given(st.integers(0, 63), numbers, st.integers(1, 256))
def test_a_path_reads_back_as_its_tile(level: int, n: int, width: int) -> None:
    assert tiles.parse_tile_path(tiles.tile_path(level, n, width)) == Tile(level, n, width)


@pytest.mark.parametrize(
    "path",
    [
        "",
        "tile",
        "tile/0",
        "tile/0/",
        "tile//000",
        "tile/0/0",
        "tile/0/00",
        "tile/0/0000",
        "tile/0/x000/000",
        "tile/0/001/000",
        "tile/0/x001",
        "tile/0/x001/x000",
        "tile/00/000",
        "tile/-1/000",
        "tile/64/000",
        "tile/0/000.p/0",
        "tile/0/000.p/",
        "tile/0/000.p/256",
        "tile/0/000.p/257",
        "tile/0/000.p/01",
        "tile/0/000.p/1.p/1",
        "tile/0/000/",
        "/tile/0/000",
        "tile/0/../000",
        "tile/entries/000",
        "tile/0/٠٠٠",
        "tile/0/000\n",
        "tile/0/x999/x999/x999/x999/x999/x999/999",
    ],
)
def test_every_other_spelling_of_a_path_is_refused(path: str) -> None:
    with pytest.raises(Malformed):
        tiles.parse_tile_path(path)


@given(st.one_of(st.text(), st.from_regex(r"tile/[0-9x./p]{1,40}")))
def test_reading_a_path_raises_typed_errors_only(path: str) -> None:
    try:
        tile = tiles.parse_tile_path(path)
    except Malformed:
        return
    assert tiles.tile_path(tile.level, tile.n, tile.width) == path


@pytest.mark.parametrize(
    ("level", "n", "width"), [(-1, 0, 1), (64, 0, 1), (0, -1, 1), (0, 2**63, 1), (0, 0, 0), (0, 0, 257)]
)
def test_coordinates_out_of_range_are_refused(level: int, n: int, width: int) -> None:
    with pytest.raises(Malformed):
        tiles.tile_path(level, n, width)


@given(st.integers(0, 7), numbers)
def test_the_tiles_of_a_level_hold_each_complete_subtree_once(level: int, size: int) -> None:
    complete = size // 256**level
    last = complete // 256
    assert tiles.tile_width(level, last, size) == complete % 256
    assert tiles.tile_width(level, last + 1, size) == 0
    if last:
        assert tiles.tile_width(level, last - 1, size) == 256


def test_a_known_log_has_its_known_partial_tiles() -> None:
    # The example of the specification: 70,000 leaves.
    assert tiles.tile_width(0, 273, 70_000) == 112
    assert tiles.tile_width(1, 1, 70_000) == 17
    assert tiles.tile_width(2, 0, 70_000) == 1
    assert tiles.tile_width(3, 0, 70_000) == 0


@settings(deadline=None)
@given(st.integers(0, 12), st.integers(0, 4999))
def test_a_slice_of_a_tile_leads_to_the_root_of_its_subtree(height: int, position: int) -> None:
    width = 1 << height
    start = position // width * width
    part = tiles.subtree_slice(start, start + width)
    span = 256**part.level
    first_leaf = (part.n * 256 + part.first) * span
    tree = ReferenceTree([index.to_bytes(4, "big") for index in range(start + width)])
    entries = [tree.mth(first_leaf + i * span, first_leaf + (i + 1) * span) for i in range(part.count)]
    assert first_leaf == start
    assert part.count <= 128
    assert subtree_root(entries) == tree.mth(start, start + width)


@pytest.mark.parametrize(("start", "end"), [(0, 0), (1, 0), (0, 3), (1, 3), (-2, 0), (4, 12)])
def test_leaves_that_are_no_complete_subtree_are_refused(start: int, end: int) -> None:
    with pytest.raises(Malformed):
        tiles.subtree_slice(start, end)


def test_a_tile_of_leaves_holds_leaf_hashes() -> None:
    leaves = [hash_leaf(bytes([i])) for i in range(4)]
    part = tiles.subtree_slice(2, 3)
    assert subtree_root(leaves[part.first : part.first + part.count]) == leaves[2]
