"""A load test of your own on the Python client: how long does one officer wait, while many ask?

    python deploy/load/own_script.py POLICE_FOLDER drivers.csv

The folder is what ``elicense join`` made; the file has the columns of an import.
"""

from __future__ import annotations

import asyncio
import csv
import sys
import time
from itertools import cycle, islice

from elicense.client import Purpose, connect_async

OFFICERS = 16
CALLS = 400


async def main(credentials: str, drivers: str) -> None:
    """Ask, and print what it came to."""
    with open(drivers, encoding="utf-8", newline="") as lines:
        numbers = [row["document_number"] for row in csv.DictReader(lines)]
    waiting = islice(cycle(numbers), CALLS)
    took: list[float] = []

    async with connect_async(credentials) as client:

        async def officer() -> None:
            for number in waiting:
                began = time.perf_counter()
                await client.verify(number, purpose=Purpose.ROADSIDE_CHECK, case_number="LOAD")
                took.append(time.perf_counter() - began)

        began = time.perf_counter()
        await asyncio.gather(*(officer() for _ in range(OFFICERS)))
        rate = len(took) / (time.perf_counter() - began)

    took.sort()
    print(f"{rate:,.0f} verifications a second, half of them within {took[len(took) // 2] * 1000:.1f} ms")


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
