"""The lock of a node's folder: who may take it, whose file it is, and what is said when it can not be used."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from elicense.workers.node_lock import LOCK_FILE, NodeBusy, NodeLockUnusable, alone, hold_serving

SERVICE, OTHER = 4_001, 4_002

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")


def owner(folder: Path) -> tuple[int, int]:
    held = (folder / LOCK_FILE).stat()
    return held.st_uid, held.st_gid


def test_processes_that_serve_share_the_lock_and_a_command_has_it_alone(tmp_path: Path) -> None:
    serving = [hold_serving(tmp_path), hold_serving(tmp_path)]
    with pytest.raises(NodeBusy, match="stop it first"), alone(tmp_path):
        pass
    for descriptor in serving:
        os.close(descriptor)
    with alone(tmp_path), pytest.raises(NodeBusy, match="a command works on this node"):
        hold_serving(tmp_path)
    os.close(hold_serving(tmp_path))


@as_root
def test_a_lock_that_root_makes_belongs_to_the_owner_of_the_folder(tmp_path: Path) -> None:
    os.chown(tmp_path, SERVICE, OTHER)
    with alone(tmp_path):
        assert owner(tmp_path) == (SERVICE, OTHER)


@as_root
def test_root_gives_away_no_file_that_is_there_already(tmp_path: Path) -> None:
    folder, secret = tmp_path / "node", tmp_path / "secret"
    folder.mkdir()
    secret.touch(0o600)
    os.chown(folder, SERVICE, OTHER)
    (folder / LOCK_FILE).symlink_to(secret)
    with alone(folder):
        assert (secret.stat().st_uid, secret.stat().st_gid) == (0, 0)


@as_root
def test_a_lock_of_another_user_is_named_with_what_to_do(tmp_path: Path) -> None:
    (tmp_path / LOCK_FILE).touch(0o600)
    os.seteuid(SERVICE)
    try:
        with pytest.raises(NodeLockUnusable, match=f"{LOCK_FILE} can not be used: .*give it and this file to the user"):
            hold_serving(tmp_path)
    finally:
        os.seteuid(0)


def test_a_lock_that_can_not_be_made_or_opened_is_named_with_the_reason(tmp_path: Path) -> None:
    with pytest.raises(NodeLockUnusable, match=f"missing/{LOCK_FILE} can not be used: {os.strerror(errno.ENOENT)}"):
        hold_serving(tmp_path / "missing")
    (tmp_path / LOCK_FILE).mkdir()
    with (
        pytest.raises(NodeLockUnusable, match=f"{LOCK_FILE} can not be used: {os.strerror(errno.EISDIR)}"),
        alone(tmp_path),
    ):
        pass
