"""The daily job begins behind a backlog that is being taken in, and not behind one that is not."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable

import pytest

from city_node.giving_way import BACKLOG, MOST_LOOKS, PATIENCE, let_backlog_go_first


def seen(backlogs: Iterable[int]) -> tuple[Callable[[], int], list[int]]:
    looks: list[int] = []
    left = iter(backlogs)

    def look() -> int:
        looks.append(next(left))
        return looks[-1]

    return look, looks


@pytest.mark.parametrize("few", [0, BACKLOG - 1])
async def test_what_clerks_leave_behind_holds_nothing_up(few: int) -> None:
    look, looks = seen([few])
    await let_backlog_go_first(look, asyncio.Event(), look_s=0)
    assert looks == [few]


async def test_a_backlog_goes_first_as_long_as_it_gets_smaller() -> None:
    slowly = [BACKLOG + 40 - each // (PATIENCE - 1) for each in range(41 * (PATIENCE - 1) + 1)]
    look, looks = seen(slowly)
    await let_backlog_go_first(look, asyncio.Event(), look_s=0)
    assert looks == slowly
    assert looks[-1] == BACKLOG - 1


async def test_not_even_a_backlog_that_gets_smaller_is_waited_for_without_end() -> None:
    look, looks = seen(range(2 * BACKLOG, BACKLOG, -1))
    await let_backlog_go_first(look, asyncio.Event(), look_s=0)
    assert len(looks) == MOST_LOOKS + 1


async def test_a_backlog_that_nobody_takes_in_holds_nothing_up_for_long() -> None:
    look, looks = seen([BACKLOG] * 100)
    await let_backlog_go_first(look, asyncio.Event(), look_s=0)
    assert len(looks) == PATIENCE + 1


async def test_an_import_that_adds_to_the_backlog_is_not_waited_for() -> None:
    look, looks = seen(range(BACKLOG, BACKLOG + 100))
    await let_backlog_go_first(look, asyncio.Event(), look_s=0)
    assert len(looks) == PATIENCE + 1


async def test_the_end_of_the_node_ends_the_wait() -> None:
    stop = asyncio.Event()

    def look() -> int:
        stop.set()
        return BACKLOG

    await let_backlog_go_first(look, stop, look_s=60)
