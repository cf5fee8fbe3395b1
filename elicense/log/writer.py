"""Group commit: whatever waits for the log goes into one transaction under one signature.

A lone request is committed at once; while that runs, others gather and ride
together, so the cost of each falls as the load rises.  A caller is answered
only when its records are durable and their head is signed.  Bulk work gives way to
whoever waits for a commit of their own (:mod:`elicense.log.pace`).

When something goes wrong:

==========================  ====================================================================
lost compare-and-set        the transaction runs again upon the new head
COMMIT not answered         the head is read again under its lock: answered as done, or refused
no room, database away      the requests of that commit are refused; later ones are tried
one command fails           its commit is tried in halves until it fails alone
damage, fork                nothing is signed any more: every request is refused until restart
==========================  ====================================================================
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Generic, TypeVar

from elicense.errors import DataLoss, Error, Exhausted, ShuttingDown, StoreUnavailable, Unavailable
from elicense.log.answers import answer, fresh, refuse
from elicense.log.appender import Appender
from elicense.log.commit import Committer
from elicense.log.decision import Committed, Decider, Listener, SignedHead
from elicense.log.entry import SALT_SIZE
from elicense.log.pace import BulkPace
from elicense.log.request_queue import BULK_ENTRIES_PER_COMMIT, Request, RequestQueue

if TYPE_CHECKING:
    from elicense.log.appender import Outcome
    from elicense.log.checkpoint import Checkpoint
    from elicense.log.metrics import LogMetrics
    from elicense.log.model import LogKey
    from elicense.log.store import LogStore
    from elicense.sql.database import Database
    from elicense.trust.signer import Signer

C = TypeVar("C")
R = TypeVar("R")

_USUAL_RECORD = 1_024  # bytes; a licence record takes about half
_Group = Sequence[Request[C, R]]


class LogWriter(Generic[C, R]):
    """The one task that appends to a log in this process.

    Several processes may have one for the same log: each transaction locks
    the head, so they take turns and can not fork it.

    Args:
        database: Where the log is.
        log_store: Its tables.
        key: Which log; it was created before.
        signer: The log's key.
        origin: Origin of its checkpoints.
        decider: Turns commands into records.
        clock: UTC microseconds.
        random: Gives this many random bytes.
        metrics: What to count; nothing when None.
        on_fatal: Called once when signing stops for good.
        before_answer: Called on a writer thread with each signed head before any caller hears of it.
        signed_before: Gives the last head that was kept elsewhere, or None; what is appended must follow it.
    """

    def __init__(
        self,
        *,
        database: Database,
        log_store: LogStore,
        key: LogKey,
        signer: Signer,
        origin: str,
        decider: Decider[C, R],
        clock: Callable[[], int],
        random: Callable[[int], bytes],
        metrics: LogMetrics | None = None,
        on_fatal: Callable[[Error], None] | None = None,
        before_answer: Callable[[SignedHead], None] | None = None,
        signed_before: Callable[[], Checkpoint | None] | None = None,
    ) -> None:
        self._database = database
        self._store = log_store
        self._key = key
        self._appender: Appender[C, R] = Appender(
            store=log_store,
            key=key,
            origin=origin,
            signer=signer,
            decider=decider,
            clock=clock,
            random=random,
            before_answer=before_answer,
            signed_before=signed_before,
        )
        self._committer = Committer(database, self._appender)
        self._metrics = metrics
        self._on_fatal = on_fatal
        self._queue: RequestQueue[C, R] = RequestQueue()
        self._pace = BulkPace(clock=_loop_time, most=BULK_ENTRIES_PER_COMMIT)
        self._taken: _Group[C, R] = ()
        self._listeners: list[Listener] = []
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._refusal: Error | None = None
        self._signed: SignedHead | None = None
        self._unsaved: SignedHead | None = None

    async def start(self) -> SignedHead:
        """Read and sign the durable head, then take requests.

        Returns:
            The signed head.

        Raises:
            NotFound: The log was never created.
            StoreUnavailable: The database can not be used.
            StoreCorrupt: The stored head contradicts itself.
            SigningFailed: The key can not be used now.
        """
        signed = await self.head_signed()
        self._task = asyncio.create_task(self._run(), name="log-writer")
        self._task.add_done_callback(self._ended)
        return signed

    async def close(self) -> None:
        """Refuse new requests, finish those that wait, and store the note of the last commit."""
        if self._refusal is None:
            self._refusal = ShuttingDown("this server is draining; send the request to another")
        self._wake.set()
        if self._task is not None:
            await asyncio.wait((self._task,))
        refuse(self._queue.take_all(), self._refusal)
        unsaved, self._unsaved = self._unsaved, None
        if unsaved is not None and not isinstance(self._refusal, DataLoss):
            # The note can be made again from the durable head, so failing to keep it loses nothing.
            with suppress(Unavailable, Exhausted):
                await self._database.write(
                    lambda conn: self._store.commits.store_note(conn, self._key, unsaved.size, unsaved.note)
                )

    async def submit(self, command: C, *, weight: int, size: int | None = None, bulk: bool = False) -> Committed[R]:
        """Have a command decided, and wait until it is durable and signed.

        A caller that stops waiting does not undo what was taken up already.

        Args:
            command: What the decider decides.
            weight: Most records that it may come to.
            size: Most bytes that they may come to; an estimate of 1 KiB each when left out.
            bulk: It yields to requests that are not.

        Returns:
            Result, position, checkpoint and, on demand, inclusion proofs.

        Raises:
            Error: The decision's own error.
            Malformed: It is more than one commit may hold.
            QueueFull: Too much waits already.
            ShuttingDown: The writer was closed.
            StoreUnavailable: The database is away or did not say whether it committed; ask again with the same id.
            StoreFull: There is no room.
            SigningFailed: The key can not be used now; the records may be durable all the same.
            StoreCorrupt: Signing has stopped; so for LogForked.
        """
        return await self.queue(command, weight=weight, size=size, bulk=bulk)

    def queue(
        self, command: C, *, weight: int, size: int | None = None, bulk: bool = False
    ) -> asyncio.Future[Committed[R]]:
        """Like :meth:`submit`, without the wait; whoever cancels what is returned takes the command back."""
        if self._refusal is not None:
            raise fresh(self._refusal)
        estimate = (weight * _USUAL_RECORD if size is None else size) + weight * SALT_SIZE
        request: Request[C, R] = Request(command, weight, estimate, bulk, asyncio.get_running_loop().create_future())
        self._queue.add(request)
        if not bulk:
            self._pace.note_urgent()
        self._count_waiting()
        self._wake.set()
        return request.done

    def add_listener(self, listener: Listener) -> None:
        """Have ``listener`` called after each commit, on the event loop, with the new size."""
        self._listeners.append(listener)

    def halt(self, reason: Error) -> None:
        """Sign nothing any more: another process found the log in doubt."""
        self._stop(reason)

    async def resume(self) -> None:
        """Take requests again after :meth:`halt`: the caller knows that nothing is in doubt any more.

        Raises:
            StoreUnavailable: The database can not be used; the writer stays halted.
            StoreCorrupt: The stored head contradicts itself.
        """
        refusal, self._refusal = self._refusal, None
        # What is stored may have grown by other hands.
        self._signed = self._unsaved = None
        try:
            await self.head_signed()
        except Error:
            self._refusal = refusal
            raise
        if self._metrics is not None:
            self._metrics.stopped.set(0)
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._run(), name="log-writer")
            self._task.add_done_callback(self._ended)

    @property
    def last_signed(self) -> SignedHead | None:
        """The head that this process signed last; None before the first."""
        return self._signed

    @property
    def is_urgent(self) -> bool:
        """Whether somebody waits for a commit of their own, or did a moment ago."""
        return self._pace.is_urgent

    @property
    def failure(self) -> Error | None:
        """Why signing has stopped for good, or None."""
        return self._refusal if isinstance(self._refusal, DataLoss) else None

    async def head_signed(self) -> SignedHead:
        """Return the durable head of now, signed; also when another process appended to it.

        Raises:
            StoreCorrupt: Signing has stopped, or what is stored contradicts itself; so for LogForked.
            StoreUnavailable: The database can not be used.
            SigningFailed: The key can not be used now.
        """
        if self.failure is not None:
            raise fresh(self.failure)
        known = self._signed
        try:
            head = await self._database.read(lambda conn: self._appender.read_head(conn, signed=known))
            if known is not None and known.size == head.size:
                return known
            signed = await asyncio.to_thread(self._appender.seal, head)
        except DataLoss as error:
            self._stop(error)
            raise
        self._remember(signed)
        return signed

    async def _run(self) -> None:
        while True:
            # Who ends does not pause.
            pause_s = 0.0 if self._refusal is not None else self._pace.pause_s
            batch = self._queue.take(0 if pause_s else self._pace.room)
            if batch:
                self._count_waiting()
                self._taken = batch
                await self._settle(batch)
            elif self._refusal is not None and not len(self._queue):
                return
            elif not len(self._queue) or pause_s:
                self._wake.clear()
                with suppress(TimeoutError):
                    async with asyncio.timeout(pause_s or None):
                        await self._wake.wait()

    async def _settle(self, batch: _Group[C, R]) -> None:
        """Commit a batch and answer every request in it."""
        groups = deque([batch])
        while groups:
            group = groups.popleft()
            started = _loop_time()
            try:
                outcome, sealed, took_s = await self._committer.commit(
                    [request.command for request in group],
                    signed=self._signed,
                    unsaved=self._unsaved,
                    gives_way=all(request.bulk for request in group),
                )
            except DataLoss as error:
                refuse([request for waiting in (group, *groups) for request in waiting], error)
                self._stop(error)
                return
            except (Unavailable, Exhausted) as error:
                refuse(group, error)
            except Exception as error:  # whatever a decider raises is its caller's, not this task's
                if len(group) == 1:
                    refuse(group, error)
                else:
                    middle = len(group) // 2
                    groups.extendleft((group[middle:], group[:middle]))
            else:
                self._finish(group, outcome, sealed, took_s, _loop_time() - started)

    def _finish(
        self, group: _Group[C, R], outcome: Outcome[R], sealed: SignedHead | Error, took_s: float, seconds: float
    ) -> None:
        """Answer what is committed; nothing from here on may run the commit again.

        Args:
            group: The requests.
            outcome: What was committed.
            sealed: Its signed head, or why there is none.
            took_s: How long the transaction took.
            seconds: The same with the wait for its turn.
        """
        if outcome.leaf_hashes:
            self._unsaved = None  # stored by this commit
        if isinstance(sealed, Error):
            refuse(group, sealed)
            if isinstance(sealed, DataLoss):
                self._stop(sealed)
            return
        self._remember(sealed)
        answer(group, outcome, sealed)
        # To wait is no work: commits must not become shorter because others are long.
        self._pace.note_commit(sum(request.weight for request in group if request.bulk), took_s)
        if outcome.leaf_hashes:
            self._unsaved = sealed
            self._count_commit(outcome, seconds)
            loop = asyncio.get_running_loop()
            for listener in self._listeners:
                # By way of the loop: what a listener does wrong is its own.
                loop.call_soon(listener, sealed.size)

    def _remember(self, signed: SignedHead) -> None:
        if self._signed is None or self._signed.size < signed.size:
            self._signed = signed

    def _ended(self, task: asyncio.Task[None]) -> None:
        """A writer that ended by a fault of its own must not leave callers waiting for ever."""
        if not task.cancelled() and (cause := task.exception()) is not None:
            error = StoreUnavailable("the log writer has ended; restart this server")
            error.__cause__ = cause
            refuse(self._taken, error)
            self._stop(error)

    def _stop(self, error: Error) -> None:
        if self.failure is not None:
            return
        self._refusal = error
        refuse(self._queue.take_all(), error)
        if self._metrics is not None:
            self._metrics.stopped.set(1)
        if self._on_fatal is not None:
            self._on_fatal(error)

    def _count_waiting(self) -> None:
        if self._metrics is not None:
            self._metrics.waiting.set(len(self._queue))

    def _count_commit(self, outcome: Outcome[R], seconds: float) -> None:
        if self._metrics is not None:
            self._metrics.commit_entries.observe(len(outcome.leaf_hashes))
            self._metrics.commit_seconds.observe(seconds)
            self._metrics.size.set(outcome.after.size)
            self._metrics.checkpoint_time.set(outcome.after.recorded_us / 1_000_000)


def _loop_time() -> float:
    return asyncio.get_running_loop().time()
