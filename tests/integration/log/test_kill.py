"""Promise 1: what was acknowledged survives kill -9 at any moment."""

from __future__ import annotations

import asyncio
import sys
from base64 import b64decode
from pathlib import Path

from elicense.log.checkpoint import open_checkpoint
from tests.integration.log.world import KEY, ORIGIN, VERIFIER_KEY, LogWorld

ROOT = Path(__file__).resolve().parents[3]

ACKNOWLEDGED_BEFORE_THE_KILL = (1, 40, 111)


async def killed_after(url: str, prefix: str, acknowledged: int) -> list[tuple[int, bytes, bytes]]:
    """Start a process that appends, kill it in the middle, and return what it acknowledged."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.integration.log.appending_child",
        url,
        prefix,
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    lines: list[bytes] = []
    try:
        while len(lines) < acknowledged:
            line = await process.stdout.readline()
            assert line, "the process ended by itself"
            lines.append(line)
    finally:
        process.kill()
    # Whatever still lies in the pipe was acknowledged before the kill; a half line was not.
    lines += (await process.stdout.read()).splitlines(keepends=True)
    assert await process.wait() == -9
    found = []
    for line in lines:
        if line.endswith(b"\n"):
            index, record, note = line.split()
            found.append((int(index), record, b64decode(note)))
    return found


async def test_nothing_acknowledged_is_lost_and_nothing_forks_when_the_process_is_killed(world: LogWorld) -> None:
    acknowledged: list[tuple[int, bytes, bytes]] = []
    for round_number, count in enumerate(ACKNOWLEDGED_BEFORE_THE_KILL):
        acknowledged += await killed_after(world.url, f"round{round_number}", count)
        head = world.check()
        records = world.records()
        lost = [index for index, record, _ in acknowledged if index >= head.size or records[index] != record]
        assert lost == []
    assert len(set(records)) == len(records), "no record stands in the log twice"

    roots: dict[int, bytes] = {}
    for _, _, note in acknowledged:
        opened = open_checkpoint(note, origin=ORIGIN, key=VERIFIER_KEY)
        assert roots.setdefault(opened.size, opened.root) == opened.root
    for size, root in roots.items():
        row = world.database.read_now(lambda conn, size=size: world.store.commits.at(conn, KEY, size))  # type: ignore[misc]
        assert row is not None
        assert row.root == root, "a head that was shown to a caller is not in the log"

    writer = await world.started()
    answer = await writer.submit(b"after", weight=1)
    assert answer.first_index == head.size
    world.check()
