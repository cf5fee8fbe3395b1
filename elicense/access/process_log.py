"""The looks of one process where they do not lie in the common table: a file of their own, and their way out of it.

On SQLite a file has one writer at a time, and a look is durable before it is
answered: processes that shared a file would wait for each other's flushes.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from sqlalchemy import MetaData

from elicense.access.alarms import AccessAlarms
from elicense.access.recorder import AccessRecorder
from elicense.access.reserve import AccessReserve
from elicense.access.shipper import AccessShipper, Send
from elicense.access.shipping_metrics import ShippingMetrics
from elicense.access.store import AccessStore
from elicense.sql.database import Database
from elicense.sql.engines import parse_url, sqlite_url
from elicense.sql.schema import create_tables
from elicense.workers.place import Duty, Place

SHIP_SECONDS: Final = 1.0
"""How often looks in the file of one process of a registry move to the common one."""


class ProcessLog:
    """Looks of one process, and what carries them away; start it with :meth:`start`.

    Args:
        url: Their database, which may be that of other processes too.
        store: Its queries.
        node: Name of the process in it.
        reserve: File of the reserve.
        alarms: Told of what is out of the ordinary.
        metrics: Told how far holders can see all.
        clock: UTC microseconds.
        send: Hands looks to where holders see them.
        period_s: Seconds between two rounds.
        idle_s: Seconds after which the receiver hears from a process without new looks, too.

    Attributes:
        recorder: Makes looks durable.
    """

    def __init__(
        self,
        *,
        url: str,
        store: AccessStore,
        node: str,
        reserve: Path,
        alarms: AccessAlarms,
        metrics: ShippingMetrics,
        clock: Callable[[], int],
        send: Send,
        period_s: float = SHIP_SECONDS,
        idle_s: float = SHIP_SECONDS,
    ) -> None:
        self._database = Database(url)
        self._reserve = AccessReserve(reserve)
        self.recorder = AccessRecorder(
            database=self._database, store=store, node=node, clock=clock, reserve=self._reserve, alarms=alarms
        )
        self._shipper = AccessShipper(
            database=self._database,
            store=store,
            recorder=self.recorder,
            send=send,
            alarms=alarms,
            metrics=metrics,
            clock=clock,
            period_s=period_s,
            idle_s=idle_s,
        )

    def start(self) -> None:
        """Begin to ship."""
        self._shipper.start()

    async def housekeep(self) -> None:
        """Move what lies in the reserve, and drop what is old and held elsewhere.

        Raises:
            StoreUnavailable: The log can not be reached.
        """
        await self.recorder.drain()
        await self._shipper.drop_old()

    async def close(self) -> None:
        """Wait for looks that were accepted, and close everything; what was not shipped waits for the next start."""
        await self._shipper.close()
        await self.recorder.close()
        self._reserve.close()
        await asyncio.to_thread(self._database.close)


def process_url(url: str, place: Place, metadata: MetaData) -> str:
    """Return the URL of a process's own access log, which is made if it is missing.

    Args:
        url: The node's access log.
        place: Which of its processes asks.
        metadata: Its tables.
    """
    parsed = parse_url(url)
    if place.main or parsed.get_backend_name() != "sqlite":
        return url
    own = sqlite_url(place.file(Path(parsed.database or "")))
    create_tables(own, metadata)
    return own


def former_processes(url: str, place: Place) -> Iterator[Place]:
    """Yield the places of processes that are no more and may have left looks in files of their own.

    Args:
        url: The node's access log.
        place: The process that asks; only the main one gets any.
    """
    parsed = parse_url(url)
    if not place.main or parsed.get_backend_name() != "sqlite":
        return
    file = Path(parsed.database or "")
    running = 0 if place.duty is Duty.ALONE else place.count
    for other in sorted(file.parent.glob(f"{file.stem}-*{file.suffix}")):
        number = re.fullmatch(r"[1-9][0-9]{0,2}", other.stem.removeprefix(f"{file.stem}-"))
        if number is not None and int(number[0]) > running:
            yield Place(duty=Duty.VERIFIER, number=int(number[0]))
