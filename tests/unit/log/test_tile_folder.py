"""Exports: every size reads back and proves, an interrupted one goes on, and one changed byte is found."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path

import pytest

from elicense.errors import Error, Malformed, NotFound, RootMismatch
from elicense.log.merkle import verify_consistency, verify_inclusion
from elicense.log.model import LogKey
from elicense.log.note import open_note
from elicense.log.tile_folder import TileFolder, check_export, root_of_first, write_export
from elicense.log.tlog_proof import TlogProof, check_tlog_proof, format_tlog_proof, parse_tlog_proof
from tests.support.histories import History, keys_of

KEY = LogKey(320500, 1)


class MemorySource:
    """A history as a source; ``bare`` without entries, ``erased`` entries are gone."""

    def __init__(
        self, history: History, *, bare: bool = False, erased: Sequence[int] = (), stop: int = 1 << 62
    ) -> None:
        self.note, self.leaves = history.note(), history.leaves()
        self.bytes = [b"" if i in erased else entry for i, entry in enumerate(history.entries())]
        self.bare, self.stop = bare, stop
        self.asked = 0

    def head(self) -> bytes:
        return self.note

    def leaf_hashes(self, start: int, stop: int) -> Sequence[bytes]:
        if start >= self.stop:
            raise KeyboardInterrupt
        self.asked += stop - start
        return self.leaves[start:stop]

    def entries(self, start: int, stop: int) -> Sequence[bytes] | None:
        return None if self.bare else self.bytes[start:stop]


def quiet(_: int) -> None:
    return


@pytest.mark.parametrize("size", [1, 255, 256, 257, 513, 1_000])
@pytest.mark.parametrize("bare", [False, True])
def test_an_export_is_complete_and_proves_every_entry_and_every_earlier_head(
    tmp_path: Path, size: int, bare: bool
) -> None:
    history = History(KEY).grow(size)
    folder = TileFolder(tmp_path)
    head = write_export(folder, MemorySource(history, bare=bare), quiet)
    checked = check_export(folder, quiet)
    assert (checked.head, checked.entries, checked.erased) == (head, 0 if bare else size, 0)
    leaves = history.leaves()
    for index in {0, size // 2, size - 1}:
        proof = parse_tlog_proof(
            format_tlog_proof(TlogProof(index, tuple(folder.inclusion_proof(index)), folder.note()))
        )
        assert check_tlog_proof(proof, leaves[index], keys_of(history)) == head
        verify_inclusion(leaf_hash=leaves[index], index=index, size=size, proof=proof.hashes, root=head.root)
        first = index + 1
        assert root_of_first(folder, first) == history.root(first)
        verify_consistency(
            first=first,
            first_root=history.root(first),
            second=size,
            second_root=head.root,
            proof=folder.consistency_proof(first),
        )


def test_an_export_that_was_interrupted_goes_on_and_one_of_a_grown_log_is_completed(tmp_path: Path) -> None:
    history = History(KEY).grow(900)
    folder = TileFolder(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        write_export(folder, MemorySource(history, stop=512), quiet)
    with pytest.raises(NotFound):
        check_export(folder, quiet)
    source = MemorySource(history)
    write_export(folder, source, quiet)
    assert source.asked == 900 - 512
    history.grow(300)
    assert write_export(folder, MemorySource(history), quiet).size == 1_200
    assert check_export(folder, quiet).entries == 1_200
    with pytest.raises(Malformed):
        write_export(folder, MemorySource(History(LogKey(120000, 1)).grow(2)), quiet)


def test_an_erased_entry_stays_as_its_leaf_hash_and_proves_what_it_did(tmp_path: Path) -> None:
    history = History(KEY).grow(300)
    folder = TileFolder(tmp_path)
    write_export(folder, MemorySource(history, erased=[7, 299]), quiet)
    checked = check_export(folder, quiet)
    assert (checked.entries, checked.erased) == (298, 2)
    assert folder.inclusion_proof(7)


def test_an_export_whose_tiles_were_of_another_history_says_so(tmp_path: Path) -> None:
    folder = TileFolder(tmp_path)
    write_export(folder, MemorySource(History(KEY).grow(600, "y")), quiet)
    with pytest.raises(RootMismatch):
        write_export(folder, MemorySource(History(KEY).grow(700)), quiet)


def test_any_changed_byte_of_an_export_is_found(tmp_path: Path) -> None:
    history = History(KEY).grow(700)
    folder = TileFolder(tmp_path)
    write_export(folder, MemorySource(history), quiet)
    chance = random.Random(1)
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(files) == 1 + 3 + 3 + 1

    def check() -> None:
        check_export(folder, quiet)
        open_note(folder.note(), keys_of(history))

    for path in files:
        right = path.read_bytes()
        # A signature line that is not recognized any more is ignored, as if it had never been there.
        signed = right.find(b"\n\n") if path.name == "checkpoint" else len(right)
        for _ in range(4):
            at = chance.randrange(signed)
            path.write_bytes(right[:at] + bytes([right[at] ^ 1 << chance.randrange(8)]) + right[at + 1 :])
            with pytest.raises(Error):
                check()
        path.write_bytes(right[:-1])
        with pytest.raises(Error):
            check()
        path.unlink()
        if "entries" not in path.parts:
            with pytest.raises(NotFound):
                check()
        path.write_bytes(right)
    check()


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"index 2", b"index 02"),
        (b"index 2", b"index -2"),
        (b"index 2", b"index " + b"9" * 40),
        (b"@v1", b"@v2"),
        (b"\nindex", b"\r\nindex"),
        (b"index 2\n", b"index 2\n\n"),
        (b"index 2\n", b""),
        (b"index 2\n", b"index 2\nAAAA\n"),
        (b"index 2\n", b"extra ?\nindex 2\n"),
    ],
)
def test_a_tlog_proof_in_any_other_form_is_refused(old: bytes, new: bytes) -> None:
    history = History(KEY).grow(6)
    entry = history.proof(2)
    data = format_tlog_proof(TlogProof(2, entry.hashes, entry.checkpoint))
    check_tlog_proof(parse_tlog_proof(data), history.leaves()[2], keys_of(history))
    changed = data.replace(old, new, 1)
    assert changed != data
    with pytest.raises(Malformed):
        check_tlog_proof(parse_tlog_proof(changed), history.leaves()[2], keys_of(history))


def test_the_optional_line_of_a_tlog_proof_is_kept() -> None:
    proof = TlogProof(0, (), b"note\n", b"whatever")
    assert parse_tlog_proof(format_tlog_proof(proof)) == proof
