"""Stored tiles and the proofs from them, against the tree as RFC 6962 writes it."""

from __future__ import annotations

import random
from collections.abc import Iterable
from hashlib import sha256

import pytest
from sqlalchemy import Connection, delete, func, select, update

from elicense.errors import StoreCorrupt
from elicense.log.entry import commitment
from elicense.log.store import NewEntry
from elicense.log.tree import hash_leaf, subtree_root
from tests.integration.log.world import KEY, LOG_TABLES, LogWorld
from tests.unit.log.rfc6962 import ReferenceTree

SALT = bytes(32)


class Grown:
    """A log of erased slots, so that only its tree is stored, beside the reference tree."""

    def __init__(self, world: LogWorld, size: int) -> None:
        self.world = world
        self.entries = [commitment(SALT, sha256(b"%d" % index).digest()) for index in range(size)]
        self.leaves = [hash_leaf(entry) for entry in self.entries]
        self.tree = ReferenceTree(self.entries)

    def grow(self, steps: Iterable[int]) -> None:
        world = self.world
        for step in steps:

            def write(conn: Connection, step: int = step) -> None:
                head = world.store.head(conn, KEY, lock=True)
                assert head is not None
                leaves = self.leaves[head.size : head.size + step]
                world.store.advance(conn, head, [NewEntry(None, None, leaf) for leaf in leaves], recorded_us=1)

            world.database.write_now(write)

    def check_proofs(self, indices: Iterable[int], sizes: Iterable[int]) -> None:
        def read(conn: Connection) -> None:
            for size in sizes:
                within = [index for index in indices if index < size]
                proofs = self.world.store.inclusion_proofs(conn, KEY, within, size)
                assert proofs == [self.tree.path(index, 0, size) for index in within]
                for first in (index for index in indices if 0 < index <= size):
                    proof = self.world.store.consistency_proof(conn, KEY, first, size)
                    assert proof == self.tree.proof(first, size)

        self.world.database.read_now(read)

    def tiles(self) -> dict[tuple[int, int], int]:
        tile = LOG_TABLES.tile
        found = self.world.database.read_now(
            lambda conn: conn.execute(select(tile.c.level, tile.c.n, func.length(tile.c.hashes))).all()
        )
        return {(level, n): length // 32 for level, n, length in found}


def test_proofs_agree_with_the_naive_tree_across_the_first_tiles(world: LogWorld) -> None:
    grown = Grown(world, 1_100)
    grown.grow([1, 254, 1, 1, 255, 256, 3, 325, 4])
    assert world.head().size == 1_100
    assert world.head().root == grown.tree.mth(0, 1_100)
    edges = [0, 1, 127, 128, 254, 255, 256, 257, 511, 512, 513, 767, 768, 1_023, 1_024, 1_099]
    grown.check_proofs(edges, [1, 2, 255, 256, 257, 511, 512, 513, 768, 1_023, 1_024, 1_025, 1_100])
    assert grown.tiles() == {(0, 0): 256, (0, 1): 256, (0, 2): 256, (0, 3): 256, (1, 0): 4}


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_the_tiles_do_not_depend_on_how_the_log_was_cut_into_commits(sqlite_world: LogWorld, seed: int) -> None:
    chance = random.Random(seed)
    size = 3_000
    grown = Grown(sqlite_world, size)
    left = size
    while left:
        step = min(left, chance.choice([1, 2, 100, 255, 256, 257, 700]))
        grown.grow([step])
        left -= step
    assert sqlite_world.head().root == grown.tree.mth(0, size)
    for level, n in [(0, 0), (0, 10), (1, 0)]:
        width = 256**level
        count = grown.tiles()[level, n]
        expected = [grown.tree.mth((n * 256 + i) * width, (n * 256 + i + 1) * width) for i in range(count)]
        nodes = sqlite_world.database.read_now(
            lambda conn, width=width, n=n, count=count: [  # type: ignore[misc]
                sqlite_world.store.node(conn, KEY, (n * 256 + i) * width, (n * 256 + i + 1) * width)
                for i in range(count)
            ]
        )
        assert nodes == expected
    grown.check_proofs([chance.randrange(size) for _ in range(40)], [size, chance.randrange(2_000, size)])


def test_proofs_agree_with_the_naive_tree_across_65536_leaves(world: LogWorld) -> None:
    size = 66_100
    grown = Grown(world, size)
    grown.grow([2_048] * 31 + [2_047, 1, 1, 255, 256, 52])
    assert world.head().size == size
    assert world.head().root == subtree_root(grown.leaves)
    tiles = grown.tiles()
    assert tiles[1, 0] == 256
    assert tiles[1, 1] == 2
    assert tiles[2, 0] == 1
    assert {n for level, n in tiles if level == 0} == set(range(258))
    grown.check_proofs(
        [0, 1, 255, 256, 32_768, 65_279, 65_280, 65_535, 65_536, 65_537, 65_791, 65_792, 66_099],
        [65_535, 65_536, 65_537, 65_792, 66_048, size],
    )


def test_a_missing_tile_is_damage(sqlite_world: LogWorld) -> None:
    grown = Grown(sqlite_world, 600)
    grown.grow([600])
    tile = LOG_TABLES.tile
    sqlite_world.database.write_now(lambda conn: conn.execute(delete(tile).where(tile.c.level == 1)))
    with pytest.raises(StoreCorrupt):
        sqlite_world.database.read_now(lambda conn: sqlite_world.store.inclusion_proof(conn, KEY, 599, 600))
    with pytest.raises(StoreCorrupt):
        Grown(sqlite_world, 900).grow([300])


def test_a_short_tile_is_damage(sqlite_world: LogWorld) -> None:
    grown = Grown(sqlite_world, 600)
    grown.grow([600])
    tile = LOG_TABLES.tile
    sqlite_world.database.write_now(
        lambda conn: conn.execute(update(tile).where(tile.c.level == 0, tile.c.n == 0).values(hashes=b"x" * 64))
    )
    with pytest.raises(StoreCorrupt):
        sqlite_world.database.read_now(lambda conn: sqlite_world.store.inclusion_proof(conn, KEY, 5, 600))
