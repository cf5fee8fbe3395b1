"""The store of logs, on every kind of store."""

from __future__ import annotations

import tracemalloc
from itertools import accumulate

import pytest
from sqlalchemy import Connection, update

from elicense.errors import Malformed, StoreCorrupt
from elicense.log.store import HeadMoved, LogKey, NewEntry
from elicense.log.tree import EMPTY_ROOT, subtree_root
from tests.integration.log.world import KEY, LOG_TABLES, LogWorld, entries_of


def numbered(start: int, count: int) -> list[bytes]:
    return [b"record %d" % number for number in range(start, start + count)]


def test_a_new_log_is_empty_and_creating_it_again_changes_nothing(world: LogWorld) -> None:
    head = world.head()
    assert (head.size, head.root, head.note, head.recorded_us) == (0, EMPTY_ROOT, None, 0)
    world.append(numbered(0, 3))
    world.database.write_now(lambda conn: world.store.create(conn, KEY))
    assert world.head().size == 3


def test_a_log_that_was_never_created_has_no_head(world: LogWorld) -> None:
    assert world.database.read_now(lambda conn: world.store.head(conn, LogKey(310000, 1))) is None


def test_logs_and_epochs_are_apart(world: LogWorld) -> None:
    others = [LogKey(0, 1), LogKey(320500, 2)]
    for key in others:
        world.database.write_now(lambda conn, key=key: world.store.create(conn, key))  # type: ignore[misc]
    world.append(numbered(0, 2))
    keys = world.database.read_now(world.store.keys)
    assert keys == sorted([KEY, *others])
    for key in others:
        head = world.database.read_now(lambda conn, key=key: world.store.head(conn, key))  # type: ignore[misc]
        assert head is not None
        assert head.size == 0


def test_what_was_appended_is_read_back_byte_for_byte(world: LogWorld) -> None:
    records = [b"", b"\x00\xff" * 40, bytes(range(256)) * 200, "苏州".encode()]
    entries = entries_of(records)
    head = world.append(records)
    assert head.root == subtree_root([entry.leaf_hash for entry in entries])
    stored = world.database.read_now(lambda conn: world.store.entries(conn, KEY, 0, 10))
    assert [NewEntry(e.record, e.salt, e.leaf_hash) for e in stored] == entries
    assert world.check() == head


def test_an_erased_slot_is_kept_as_its_leaf_alone(world: LogWorld) -> None:
    whole = entries_of(numbered(0, 3))
    for batch in ([NewEntry(None, None, whole[0].leaf_hash)], [whole[1], NewEntry(None, None, whole[2].leaf_hash)]):
        world.database.write_now(lambda conn, b=batch: world.store.advance(conn, world.head(), b, recorded_us=1))  # type: ignore[misc]
    stored = world.database.read_now(lambda conn: world.store.entries(conn, KEY, 0, 10))
    assert [entry.record for entry in stored] == [None, b"record 1", None]
    assert [entry.salt is None for entry in stored] == [True, False, True]


def test_entries_stop_at_a_count_and_before_a_size_but_one_always_comes(world: LogWorld) -> None:
    world.append([b"x" * 1_000] * 5)

    def sizes(start: int, count: int, max_bytes: int | None = None) -> list[int]:
        found = world.database.read_now(lambda conn: world.store.entries(conn, KEY, start, count, max_bytes=max_bytes))
        return [entry.index for entry in found]

    assert sizes(1, 2) == [1, 2]
    assert sizes(3, 100) == [3, 4]
    assert sizes(0, 5, 3_200) == [0, 1, 2]
    assert sizes(2, 5, 10) == [2]
    assert sizes(5, 5) == []


def test_a_page_is_the_same_however_small_its_first_entries_are(world: LogWorld) -> None:
    world.append([b"x" * 10] * 700 + [b"y" * 2_000] * 300)
    for start, count, most in ((0, 1_000, 10**9), (0, 1_000, 100_000), (0, 650, 10**9), (690, 310, 50_000), (1, 64, 9)):
        whole = world.database.read_now(lambda conn, s=start, c=count: world.store.entries(conn, KEY, s, c))  # type: ignore[misc]
        total = accumulate(len(each.record or b"") + len(each.salt or b"") for each in whole)
        wanted = [each for each, size in zip(whole, total, strict=True) if size <= most] or whole[:1]
        page = world.database.read_now(
            lambda conn, s=start, c=count, m=most: world.store.entries(conn, KEY, s, c, max_bytes=m)  # type: ignore[misc]
        )
        assert page == wanted


@pytest.mark.parametrize("small", [0, 64])
def test_a_page_of_large_entries_reads_few_more_than_it_has_room_for(world: LogWorld, small: int) -> None:
    world.append([b""] * small or [b"x" * 20_000])
    for _ in range(4):
        world.append([b"x" * 20_000] * 128)
    tracemalloc.start()
    try:
        page = world.database.read_now(lambda conn: world.store.entries(conn, KEY, 0, 600, max_bytes=100_000))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len([each for each in page if each.record]) == 4
    assert peak < 7_000_000  # all of them are 10 MB


def test_entries_are_found_by_their_indices(world: LogWorld) -> None:
    world.append(numbered(0, 10))
    found = world.database.read_now(lambda conn: world.store.entries_at(conn, KEY, [7, 3, 3, 99]))
    assert {index: entry.record for index, entry in found.items()} == {3: b"record 3", 7: b"record 7"}
    assert world.database.read_now(lambda conn: world.store.entries_at(conn, KEY, [])) == {}


def test_a_head_that_has_moved_can_not_be_advanced(world: LogWorld) -> None:
    stale = world.head()
    world.append([b"first"])
    with pytest.raises(HeadMoved):
        world.append([b"second"], head=stale)
    assert world.records() == [b"first"]


def test_a_batch_ends_at_the_furthest_commit_within_reach(world: LogWorld) -> None:
    for count in (3, 4, 5):
        world.append(numbered(world.head().size, count))

    def end(start: int, reach: int) -> int | None:
        row = world.database.read_now(lambda conn: world.store.commits.batch_end(conn, KEY, start, reach))
        return None if row is None else row.size

    assert end(0, 2_048) == 12
    assert end(0, 11) == 7
    assert end(0, 3) == 3
    assert end(0, 2) is None
    assert end(7, 100) == 12
    assert end(12, 100) is None


def test_notes_and_cosignatures_are_kept_with_their_size(world: LogWorld) -> None:
    store = world.store
    world.append([b"a"])
    world.append([b"b"])

    def write(conn: Connection) -> None:
        store.commits.store_note(conn, KEY, 1, b"note 1")
        store.commits.store_cosigned(conn, KEY, 2, b"cosigned 2")
        store.commits.store_cosigned(conn, KEY, 1, b"cosigned 1")

    world.database.write_now(write)
    one = world.database.read_now(lambda conn: store.commits.at(conn, KEY, 1))
    two = world.database.read_now(lambda conn: store.commits.at(conn, KEY, 2))
    assert one is not None
    assert two is not None
    assert (one.note, one.cosigned) == (b"note 1", b"cosigned 1")
    assert (two.note, two.cosigned) == (None, b"cosigned 2")
    assert world.head().note is None, "the note of an earlier head is not the note of this one"
    assert world.database.read_now(lambda conn: store.commits.latest_cosigned(conn, KEY)) == (2, b"cosigned 2")
    world.database.write_now(lambda conn: store.commits.store_note(conn, KEY, 2, b"note 2"))
    assert world.head().note == b"note 2"
    assert world.database.read_now(lambda conn: store.commits.at(conn, KEY, 3)) is None


def test_a_log_without_cosignature_says_so(world: LogWorld) -> None:
    assert world.database.read_now(lambda conn: world.store.commits.latest_cosigned(conn, KEY)) is None


def test_the_note_of_the_last_commit_is_stored_with_the_next(world: LogWorld) -> None:
    world.append([b"a"])
    head = world.head()
    world.database.write_now(
        lambda conn: world.store.advance(conn, head, entries_of([b"b"]), recorded_us=2, previous_note=(1, b"note 1"))
    )
    row = world.database.read_now(lambda conn: world.store.commits.at(conn, KEY, 1))
    assert row is not None
    assert row.note == b"note 1"


def test_a_note_that_came_with_the_entries_is_stored_with_them(world: LogWorld) -> None:
    head = world.head()
    world.database.write_now(
        lambda conn: world.store.advance(conn, head, entries_of([b"a"]), recorded_us=2, note=b"theirs")
    )
    assert world.head().note == b"theirs"
    row = world.database.read_now(lambda conn: world.store.commits.at(conn, KEY, 1))
    assert row is not None
    assert row.note == b"theirs"


@pytest.mark.parametrize("column", ["root", "frontier"])
def test_a_flipped_bit_in_the_head_is_found_when_it_is_read(world: LogWorld, column: str) -> None:
    head = world.append(numbered(0, 3))
    good = head.root if column == "root" else head.frontier.encode()
    bad = bytes([good[0] ^ 1]) + good[1:]
    world.database.write_now(lambda conn: conn.execute(update(LOG_TABLES.head).values({column: bad})))
    with pytest.raises(StoreCorrupt):
        world.head()


def test_a_head_of_the_wrong_size_is_found_when_it_is_read(world: LogWorld) -> None:
    world.append(numbered(0, 3))
    world.database.write_now(lambda conn: conn.execute(update(LOG_TABLES.head).values(size=4)))
    with pytest.raises(StoreCorrupt):
        world.head()


def test_missing_leaves_are_damage_and_not_an_empty_answer(world: LogWorld) -> None:
    world.append(numbered(0, 3))
    world.database.write_now(lambda conn: conn.execute(LOG_TABLES.entry.delete().where(LOG_TABLES.entry.c.idx == 1)))
    with pytest.raises(StoreCorrupt):
        world.database.read_now(lambda conn: world.store.leaf_hashes(conn, KEY, 0, 3))


def test_no_proof_is_given_for_a_tree_that_is_not_there_yet(world: LogWorld) -> None:
    world.append(numbered(0, 3))
    for proof in (
        lambda conn: world.store.inclusion_proof(conn, KEY, 0, 4),
        lambda conn: world.store.inclusion_proof(conn, KEY, 3, 3),
        lambda conn: world.store.consistency_proof(conn, KEY, 1, 4),
        lambda conn: world.store.inclusion_proof(conn, LogKey(1, 1), 0, 1),
    ):
        with pytest.raises(Malformed):
            world.database.read_now(proof)
