"""``elicense bench replicate``: what taking in cities' logs costs beside one signature check a record.

Everything is on: mutual TLS, the checks of the request, the recomputed root, the
fold in the transaction, the flush, the receipt.  Persons were claimed before, as
in life; that and the making of the batches is not measured.
"""

from __future__ import annotations

import asyncio
import os
from dataclasses import replace
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from elicense.cli.bench.house import House
from elicense.cli.bench.rounds import SERVER, Figure, Row, measure
from elicense.cli.bench.sending import BATCH, SENDERS, SendingCity, join_sender
from elicense.cli.bench.usage import Processes

SIGNATURE: Final = "one Ed25519 verification a record, one core"
APPEND: Final = "AppendEntries"
_SIGNATURES: Final = 4_000
_RECORD_BYTES: Final = 500


class Replicating:
    """The rows of one store.

    Args:
        house: The registry.
        cities: How many send at once.
        batches: Batches a city and round.
    """

    def __init__(self, house: House, *, cities: int, batches: int) -> None:
        self._house = house
        self._codes = SENDERS[:cities]
        self._batches = batches

    async def run(self, *, rounds: int) -> list[Figure]:
        """Measure both rows."""
        serving = await self._house.serve()
        cities: list[SendingCity] = []
        try:
            for code in self._codes:
                cities.append(await join_sender(self._house, code))  # noqa: PERF401  # closed below, also when one fails
            holder = self._house.licenses
            # One round more: the first one warms up.
            count = (rounds + 1) * self._batches * BATCH
            for city in cities:
                await city.prepare(range(holder, holder + count))
                holder += count

            async def append() -> int:
                return sum(await asyncio.gather(*(city.send(self._batches) for city in cities)))

            rows = [
                Row(SIGNATURE, _check_signatures, {SERVER: Processes(os.getpid(), below=False)}, unit="record"),
                Row(APPEND, append, self._house.payers(serving), unit="record", reference=SIGNATURE),
            ]
            signature, appended = await measure(rows, rounds=rounds)
            memory = Processes(serving.pid).anonymous_bytes() / 2**20
        finally:
            for city in cities:
                await city.close()
            await serving.stop()
        notes = {"times the rate of the check": round(appended.rate / signature.rate, 2)}
        return [signature, replace(appended, notes={**notes, "anonymous MiB": round(memory)})]


async def _check_signatures() -> int:
    key = Ed25519PrivateKey.generate()
    message = bytes(_RECORD_BYTES)
    signature = key.sign(message)
    public = key.public_key()

    def check() -> None:
        for _ in range(_SIGNATURES):
            public.verify(signature, message)

    await asyncio.to_thread(check)
    return _SIGNATURES


async def signature_rate() -> float:
    """Return how many signatures one core checks a second, by its CPU time."""
    mine = Processes(os.getpid(), below=False)
    before = mine.cpu_s()
    checked = await _check_signatures()
    return checked / (mine.cpu_s() - before)
