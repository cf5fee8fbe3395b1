"""Processes that do plain work for a node: what they say when a fault ends them."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from elicense.workers.assistants import Assistants, available_cores

# It takes for ever to end, so that the node surely ends it first.
_FAULTY = """
import signal
import sys
from elicense.workers.assistants import assist

try:
    assist(int(sys.argv[1]), lambda secret: lambda question: {b"ok": b"ok"}[question])
finally:
    signal.pause()
"""


def faulty(descriptor: int) -> Sequence[str]:
    """Return the command of an assistant that fails over every question but one."""
    return sys.executable, "-c", _FAULTY, str(descriptor)


async def test_an_assistant_that_a_fault_ends_quotes_nothing_of_what_it_was_asked(
    capfd: pytest.CaptureFixture[str],
) -> None:
    assistants = Assistants("faulty", bytes(32), count=1, command=faulty)

    async def ask(question: bytes) -> bytes | None:
        return await assistants.ask(lambda: question, bytes)

    async with asyncio.timeout(60):
        while await ask(b"ok") is None:  # noqa: ASYNC110  # it starts in a process of its own
            await asyncio.sleep(0.02)
    assert await ask(b"11010519491231002X") is None
    await assistants.close()
    said = capfd.readouterr()
    assert "KeyError" in said.err
    assert "11010519491231002X" not in said.err + said.out


@pytest.mark.parametrize(
    ("quota", "cores"),
    [("max 100000", None), ("50000 100000", 1), ("100000 100000", 1), ("250000 100000", 2), ("", None), ("1 0", None)],
)
def test_a_node_counts_no_more_cores_than_its_container_may_have_busy(
    tmp_path: Path, quota: str, cores: int | None
) -> None:
    all_of_them = len(os.sched_getaffinity(0))
    path = tmp_path / "cpu.max"
    path.write_text(f"{quota}\n")
    assert available_cores(path) == (all_of_them if cores is None else min(cores, all_of_them))
    assert available_cores(tmp_path / "missing") == all_of_them
