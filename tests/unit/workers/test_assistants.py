"""Processes that do plain work for a node: what they say when a fault ends them."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence

import pytest

from elicense.workers.assistants import Assistants

_FAULTY = """
import sys
from elicense.workers.assistants import assist

assist(int(sys.argv[1]), lambda secret: lambda question: {b"ok": b"ok"}[question])
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
