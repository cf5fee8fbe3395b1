"""Whether the model of a disk loses what a power cut may lose, and nothing else."""

from __future__ import annotations

import shutil
import sys
from asyncio import create_subprocess_exec
from asyncio.subprocess import PIPE, Process
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest

from tests.faults.disk import SECTOR, Disk, Fate
from tests.faults.fault import NotPossibleHere
from tests.faults.recording import Call, recording

NOTHING, EVERYTHING, ANYTHING = 0.0, 1.0, 0.6
OLD, NEW = b"o" * (3 * SECTOR), b"n" * (3 * SECTOR)

_REPLACE = """
import os, sys
from elicense.log.anchor import create_anchor
from elicense.trust import secret_file
from pathlib import Path
if sys.argv[2] == "unsynced":
    secret_file.sync_folder = lambda folder: None
sys.stdin.readline()
create_anchor(Path(sys.argv[1]), b"the new head")
"""


@pytest.fixture
def before(tmp_path: Path) -> Path:
    folder = tmp_path / "before"
    folder.mkdir()
    (folder / "file").write_bytes(OLD)
    return folder


class Cuts:
    """What is there after power cuts at the end of some calls."""

    def __init__(self, tmp_path: Path, before: Path) -> None:
        self.folder, self._target, self._before = tmp_path / "folder", tmp_path / "after", before
        self._calls: list[Call] = []

    def call(self, name: str, file: str = "file", data: bytes = b"", offset: int = 0, target: str = "") -> None:
        began = len(self._calls) + 1.0
        path, to = self.folder / file, self.folder / target if target else None
        self._calls.append(Call(name, began, began + 0.5, path, data, offset, to))

    def after(self, survival: float, draws: int = 100) -> Iterator[dict[str, bytes]]:
        disk = Disk(self._before, self.folder, self._calls)
        disk.forward(len(self._calls) + 0.9)
        for seed in range(draws):
            disk.put(self._target, Fate(Random(seed), survival))
            yield {file.name: file.read_bytes() for file in self._target.iterdir()}


@pytest.fixture
def cuts(tmp_path: Path, before: Path) -> Cuts:
    return Cuts(tmp_path, before)


def test_what_was_synced_is_there_and_what_was_written_since_may_be_torn_at_sectors(cuts: Cuts) -> None:
    cuts.call("write", data=NEW)
    torn = {files["file"] for files in cuts.after(ANYTHING)}
    assert torn == {a + b + c for a in _SECTORS for b in _SECTORS for c in _SECTORS}
    assert next(cuts.after(NOTHING))["file"] == OLD
    assert next(cuts.after(EVERYTHING))["file"] == NEW
    cuts.call("sync")
    assert {files["file"] for files in cuts.after(ANYTHING)} == {NEW}


_SECTORS = (OLD[:SECTOR], NEW[:SECTOR])


def test_a_file_may_come_back_shorter_than_it_was_written_or_with_zeros_in_it(cuts: Cuts) -> None:
    cuts.call("write", data=NEW, offset=len(OLD))
    drawn = {files["file"] for files in cuts.after(ANYTHING)}
    assert OLD in drawn
    assert OLD + NEW in drawn
    assert OLD + bytes(len(NEW)) in drawn
    assert all(content.startswith(OLD) for content in drawn)


def test_a_name_is_there_once_its_folder_was_synced_and_a_rename_is_never_half_of_one(cuts: Cuts) -> None:
    cuts.call("make", ".new")
    cuts.call("write", ".new", data=NEW)
    cuts.call("sync", ".new")
    cuts.call("rename", ".new", target="file")
    drawn = list(cuts.after(ANYTHING))
    assert {files["file"] for files in drawn} == {OLD, NEW}
    assert all((".new" in files) <= (files["file"] == OLD) for files in drawn)
    cuts.call("sync", ".")
    assert all(files == {"file": NEW} for files in cuts.after(ANYTHING))


def test_a_rename_without_a_sync_of_the_data_may_leave_an_empty_file(cuts: Cuts) -> None:
    cuts.call("make", ".new")
    cuts.call("write", ".new", data=NEW)
    cuts.call("rename", ".new", target="file")
    cuts.call("sync", ".")
    assert b"" in {files["file"] for files in cuts.after(ANYTHING)}


@pytest.mark.parametrize("folder_synced", [True, False])
async def test_an_anchor_that_was_made_anew_survives_a_power_cut_only_as_its_folder_is_synced(
    folder_synced: bool, tmp_path: Path
) -> None:
    folder, before = tmp_path / "folder", tmp_path / "before"
    folder.mkdir()
    (folder / "anchor").write_bytes(b"the old head")
    shutil.copytree(folder, before)
    process = await create_subprocess_exec(
        sys.executable, "-c", _REPLACE, str(folder / "anchor"), "synced" if folder_synced else "unsynced", stdin=PIPE
    )
    calls = await _recorded(process, folder, tmp_path / "traces")
    disk = Disk(before, folder, calls)
    disk.forward(float("inf"))
    drawn = set()
    for seed in range(20):
        disk.put(tmp_path / "after", Fate(Random(seed), ANYTHING))
        drawn.add((tmp_path / "after" / "anchor").read_bytes()[:12])
    assert drawn == ({b"the new head"} if folder_synced else {b"the new head", b"the old head"})


async def _recorded(process: Process, folder: Path, traces: Path) -> list[Call]:
    assert process.stdin is not None
    try:
        async with recording(process.pid, folder, traces) as recorded:
            process.stdin.write(b"go on\n")
            await process.stdin.drain()
            assert await process.wait() == 0
    except NotPossibleHere as missing:
        process.kill()
        await process.wait()
        pytest.skip(str(missing))
    return recorded.calls()
