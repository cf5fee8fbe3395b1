"""The city's log as its use cases see it: submit a command, and know what is durable."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from city_node.commands import Command
from city_node.decider import Outcomes
from city_node.shared_head import SharedHead
from elicense.clock import SECOND_US
from elicense.errors import StoreCorrupt
from elicense.log.decision import Committed
from elicense.log.model import LogKey
from elicense.log.writer import LogWriter


class CityLog:
    """One epoch of the city's log, its writer, and what is under way.

    Args:
        key: The log.
        writer: Its writer.
        clock: UTC microseconds.
        shared: The head, when other processes write the log too; None while this one alone does.
    """

    def __init__(
        self,
        *,
        key: LogKey,
        writer: LogWriter[Command, Outcomes],
        clock: Callable[[], int],
        shared: SharedHead | None = None,
    ) -> None:
        self.key = key
        self._writer = writer
        self._clock = clock
        self._shared = shared
        #: When each was submitted, by the clock and by the monotonic one, in seconds.
        self._under_way: dict[asyncio.Future[Committed[Outcomes]], tuple[int, float]] = {}

    @property
    def size(self) -> int:
        """Number of durable entries, as far as this process knows."""
        signed = self._writer.last_signed
        return max(0 if signed is None else signed.size, 0 if self._shared is None else self._shared.size)

    @property
    def shared(self) -> bool:
        """Whether other processes write the log too."""
        return self._shared is not None

    @property
    def is_urgent(self) -> bool:
        """Whether somebody waits for a commit of their own, or may in another process, or did a moment ago."""
        return self._shared is not None or self._writer.is_urgent

    @property
    def behind_us(self) -> int:
        """Since how many microseconds something has been under way here; 0 when nothing is.

        For whoever tells the time by another clock than this node's: what is under way may be durable
        already, while :attr:`size` counts it only once it is signed.
        """
        oldest_s = next((since_s for _, since_s in self._under_way.values()), None)
        return 0 if oldest_s is None else int((asyncio.get_running_loop().time() - oldest_s) * SECOND_US) + 1

    async def durable(self) -> tuple[int, int]:
        """Return a time (UTC microseconds) up to which every record is durable by now, and the log's size.

        Raises:
            StoreUnavailable: The database is away.
        """
        if self._shared is not None:
            return await self._shared.read()
        # The time is read before the size: what is recorded later has a later time.
        return self._complete_until(), self.size

    async def recently_durable(self) -> tuple[int, int]:
        """Like :meth:`durable`, for whoever asks often: as it was a moment ago, if other processes write too."""
        return await self.durable() if self._shared is None else await self._shared.recent()

    async def peek(self) -> int:
        """Return the log's size, without waiting for a commit that is under way."""
        return self.size if self._shared is None else await self._shared.peek()

    async def close(self) -> None:
        """Wait for what is under way."""
        if self._shared is not None:
            await self._shared.close()

    def _complete_until(self) -> int:
        """Return a time up to which every record is durable by now.

        A record gets its time inside a commit that is submitted before, so
        nothing that is still under way can have a time before its submission.
        Ask for the size afterwards, never before.
        """
        return min(self._clock(), min((at_us for at_us, _ in self._under_way.values()), default=self._clock()))

    async def submit(self, command: Command, *, entries: int, size: int, bulk: bool = False) -> Committed[Outcomes]:
        """Have a command decided; returns once it is durable and signed.

        A caller that goes away does not take the command with it: it may be in
        a commit already.

        Raises:
            Error: As :meth:`elicense.log.writer.LogWriter.submit`.
        """
        # Read before the command is in anybody's hands: nothing that it comes to has an earlier time.
        at = self._clock(), asyncio.get_running_loop().time()
        done = self._writer.queue(command, weight=entries, size=size, bulk=bulk)
        self._under_way[done] = at
        done.add_done_callback(self._finished)
        return await asyncio.shield(done)

    async def signed_head(self) -> tuple[int, bytes]:
        """Return size and signed checkpoint of the durable head.

        Raises:
            StoreUnavailable: The database can not be used.
            DataLoss: Signing has stopped.
        """
        head = await self._writer.head_signed()
        return head.size, head.note

    def _finished(self, done: asyncio.Future[Committed[Outcomes]]) -> None:
        del self._under_way[done]
        if not done.cancelled():
            done.exception()  # seen here, in case nobody waits for it any more


def entry_hash_of(committed: Committed[Outcomes], index: int) -> bytes:
    """Return the leaf hash of a record that ``committed`` appended.

    Raises:
        StoreCorrupt: It is not in that commit.
    """
    batch = committed.batch
    if batch is None or not 0 <= index - batch.before.size < len(batch.leaf_hashes):
        raise StoreCorrupt("the commit does not hold the record that it was asked for")
    return batch.leaf_hashes[index - batch.before.size]
