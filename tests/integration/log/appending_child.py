"""A process that appends until it is killed, and says what was acknowledged.

Run as ``python -m tests.integration.log.appending_child URL PREFIX``.  Each line of its output is one acknowledged
record: index, record and checkpoint.
"""

from __future__ import annotations

import asyncio
import sys
from base64 import b64encode
from itertools import count

from tests.integration.log.world import LogWorld

AT_ONCE = 12


async def append(url: str, prefix: str) -> None:
    world = LogWorld(url, "any")
    writer = await world.started()
    numbers = count()

    async def work(lane: int) -> None:
        while True:
            record = f"{prefix}-{next(numbers)}"
            answer = await writer.submit(record.encode(), weight=1, bulk=lane % 3 == 0)
            note = b64encode(answer.checkpoint).decode()
            sys.stdout.write(f"{answer.first_index} {record} {note}\n")
            sys.stdout.flush()

    await asyncio.gather(*[work(lane) for lane in range(AT_ONCE)])


if __name__ == "__main__":
    asyncio.run(append(*sys.argv[1:]))
