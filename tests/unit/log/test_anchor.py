"""The head that was signed last, in its file."""

from __future__ import annotations

import os
import stat
from hashlib import sha256
from pathlib import Path
from random import Random

import pytest

from elicense.errors import LogBehind, LogForked, NotFound
from elicense.log.anchor import SECTOR_SIZE, SLOT_SIZE, Anchor, create_anchor
from elicense.log.checkpoint import Checkpoint, sign_checkpoint
from elicense.log.decision import SignedHead
from elicense.log.tree import EMPTY_ROOT
from tests.unit.log.keys import signer

ORIGIN = "licenses.example/city/320500/1"
NEXT = "licenses.example/city/320500/2"


def head(size: int, *, origin: str = ORIGIN, salt: str = "") -> SignedHead:
    root = sha256(f"{size}{salt}".encode()).digest() if size else EMPTY_ROOT
    return SignedHead(size, root, sign_checkpoint(Checkpoint(origin, size, root), signer("city")))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    create_anchor(tmp_path / "anchor", head(0).note)
    return tmp_path / "anchor"


def size_of(anchor: Anchor) -> int:
    last = anchor.last()
    assert last is not None
    return last.size


def test_the_last_head_is_read_back_by_another_process(path: Path) -> None:
    ours, theirs = Anchor(path, ORIGIN), Anchor(path, ORIGIN)
    for size in range(1, 6):
        ours.keep(head(size))
        assert size_of(theirs) == size
        theirs.keep(head(size))  # the same head again is no news
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_an_earlier_head_does_not_move_the_anchor_back(path: Path) -> None:
    fast, slow = Anchor(path, ORIGIN), Anchor(path, ORIGIN)
    fast.keep(head(7))
    slow.keep(head(6))
    assert size_of(slow) == 7


def test_another_head_of_the_same_size_is_a_fork(path: Path) -> None:
    Anchor(path, ORIGIN).keep(head(7))
    with pytest.raises(LogForked):
        Anchor(path, ORIGIN).keep(head(7, salt="other"))


@pytest.mark.parametrize("torn", [1, 100, SECTOR_SIZE - 1])
def test_a_write_that_ended_halfway_leaves_the_head_before_it(path: Path, torn: int) -> None:
    anchor = Anchor(path, ORIGIN)
    anchor.keep(head(1))
    before = path.read_bytes()
    anchor.keep(head(2))
    after = path.read_bytes()
    (changed,) = (place for place in (0, SLOT_SIZE) if before[place:][:SLOT_SIZE] != after[place:][:SLOT_SIZE])
    path.write_bytes(before[:changed] + after[changed : changed + torn] + before[changed + torn :])
    assert size_of(Anchor(path, ORIGIN)) == 1
    Anchor(path, ORIGIN).keep(head(3))
    assert size_of(Anchor(path, ORIGIN)) == 3


def test_what_was_flushed_survives_a_power_cut_that_tears_both_slots_at_any_sector(path: Path) -> None:
    anchor, random = Anchor(path, ORIGIN), Random(1)
    anchor.keep(head(1))
    anchor.keep(head(2))
    anchor.flush()
    states = [path.read_bytes()]
    for size in range(3, 9):
        anchor.keep(head(size))
        states.append(path.read_bytes())
    for _ in range(100):
        sectors = range(0, len(states[0]), SECTOR_SIZE)
        path.write_bytes(b"".join(random.choice(states)[start : start + SECTOR_SIZE] for start in sectors))
        assert size_of(Anchor(path, ORIGIN)) >= 2


def test_a_head_with_a_long_name_takes_more_than_a_sector(path: Path) -> None:
    origin = f"{'a' * 250}.example/city/320500/1"
    long = head(3, origin=origin)
    assert len(long.note) > SECTOR_SIZE
    Anchor(path, origin).keep(long)
    assert size_of(Anchor(path, origin)) == 3


def test_a_checksum_at_the_end_of_the_slot_is_read_too(path: Path) -> None:
    body = head(5).note.ljust(SLOT_SIZE - 32, b"\0")
    path.write_bytes((body + sha256(body).digest()).ljust(2 * SLOT_SIZE, b"\0"))
    anchor = Anchor(path, ORIGIN)
    assert size_of(anchor) == 5
    for size in (6, 7, 8):
        anchor.keep(head(size))
        assert size_of(Anchor(path, ORIGIN)) == size


@pytest.mark.parametrize("place", [0, SLOT_SIZE])
def test_a_damaged_file_shows_no_head_that_was_not_kept(path: Path, place: int) -> None:
    anchor = Anchor(path, ORIGIN)
    for size in (1, 2, 3):
        anchor.keep(head(size))
    content = bytearray(path.read_bytes())
    content[place + 60] ^= 1
    path.write_bytes(content)
    assert size_of(Anchor(path, ORIGIN)) in (2, 3)
    path.write_bytes(bytes(len(content)))
    assert Anchor(path, ORIGIN).last() is None


def test_a_missing_file_is_not_made_in_passing(tmp_path: Path) -> None:
    anchor = Anchor(tmp_path / "anchor", ORIGIN)
    assert anchor.last() is None
    with pytest.raises(NotFound):
        anchor.keep(head(1))
    assert not (tmp_path / "anchor").exists()


def test_a_new_epoch_follows_whatever_size_the_last_one_had_and_ends_it(path: Path) -> None:
    old = Anchor(path, ORIGIN)
    old.keep(head(9))
    new = Anchor(path, NEXT)
    new.keep(head(1, origin=NEXT))
    assert size_of(new) == 1
    with pytest.raises(LogBehind):
        old.keep(head(10))


def test_a_disk_that_fails_to_flush_is_told_to_whoever_signs_next(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    anchor = Anchor(path, ORIGIN)
    anchor.keep(head(1))

    def broken(_descriptor: int) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "fdatasync", broken)
    with pytest.raises(OSError, match="Input/output"):
        anchor.flush()
    with pytest.raises(OSError, match="Input/output"):
        anchor.keep(head(2))
    anchor.close()
