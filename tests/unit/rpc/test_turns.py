from __future__ import annotations

import asyncio

from elicense.rpc.turns import Turns


async def test_others_run_in_the_middle_of_long_work() -> None:
    ran = asyncio.Event()
    asyncio.get_running_loop().call_soon(ran.set)
    turns = Turns()
    while not ran.is_set():
        await turns.give_way()
