"""Letting a backlog go first: what comes later lies behind it in the log, and the registry has it no sooner."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from city_node.pace import wait_for

#: Entries without a receipt from which on there is a backlog: some calls' worth, more than clerks leave behind.
BACKLOG: Final = 10_000
#: How often it is looked at.
LOOK_S: Final = 1.0
#: Looks after which a backlog that got no smaller is no longer waited for: nobody takes it in, or an import adds to it.
PATIENCE: Final = 10
#: Looks in all: what waits must not come late by more than a quarter of an hour, however slowly the backlog goes down.
MOST_LOOKS: Final = 900


async def let_backlog_go_first(backlog: Callable[[], int], stop: asyncio.Event, *, look_s: float = LOOK_S) -> None:
    """Wait as long as a backlog is being taken in.

    Args:
        backlog: How many entries lack a receipt.
        stop: Ends the wait.
        look_s: Seconds between two looks.
    """
    least, in_vain = backlog(), 0
    for _ in range(MOST_LOOKS):
        if least < BACKLOG or in_vain == PATIENCE or stop.is_set():
            return
        await wait_for(stop, look_s)
        now = backlog()
        in_vain = 0 if now < least else in_vain + 1
        least = min(least, now)
