"""A task that does what waits."""

from __future__ import annotations

import asyncio

import pytest

from registry.woken import Woken


@pytest.mark.parametrize("turns", range(6))
async def test_a_task_that_is_woken_in_the_moment_in_which_it_is_stopped_ends(turns: int) -> None:
    """A cancellation that came with what was waited for was lost, and the node waited for its task for ever."""
    done = asyncio.Event()

    async def work(_: bool) -> None:
        done.set()

    task = Woken(work, every_s=60, failed="not_done")
    task.start()
    await done.wait()
    await asyncio.sleep(0)
    task.wake()
    for _ in range(turns):
        await asyncio.sleep(0)
    ended, _ = await asyncio.wait({asyncio.create_task(task.stop())}, timeout=10)
    assert ended
