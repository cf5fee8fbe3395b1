"""Files with secrets."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from elicense.errors import AlreadyExists, Malformed, NotFound
from elicense.trust.secret_file import read_secret, write_secret


def test_a_secret_is_read_back_and_open_to_nobody_else(tmp_path: Path) -> None:
    path = tmp_path / "a.key"
    write_secret(path, b"s" * 32)
    assert read_secret(path, 32) == b"s" * 32
    assert path.stat().st_mode & 0o777 == 0o600
    path.chmod(0o640)
    with pytest.raises(Malformed, match="open to others"):
        read_secret(path, 32)


def test_a_secret_is_never_written_over(tmp_path: Path) -> None:
    path = tmp_path / "a.key"
    write_secret(path, b"first")
    with pytest.raises(AlreadyExists):
        write_secret(path, b"second")
    assert path.read_bytes() == b"first"


def test_a_secret_that_could_not_be_written_leaves_no_part_of_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.key"

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="No space"):
            write_secret(path, b"s" * 32)
    assert not path.exists()
    write_secret(path, b"s" * 32)
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.key"]


@pytest.mark.parametrize("length", [0, 31, 33])
def test_a_secret_of_another_length_is_refused(tmp_path: Path, length: int) -> None:
    path = tmp_path / "a.key"
    write_secret(path, b"s" * length)
    with pytest.raises(Malformed, match="32 bytes"):
        read_secret(path, 32)
    with pytest.raises(NotFound):
        read_secret(tmp_path / "b.key", 32)
