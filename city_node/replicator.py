"""Carrying the city's log to the registry: one call at a time, for as long as it takes.

The whole state is (epoch, next index).  A registry that holds an earlier epoch
open, because the city has just opened another or because the registry was set
back, is first brought to the end of that one.  Whatever has been committed since the
last call rides the next one; after an outage the backlog leaves the same way,
batch after batch, so catching up needs no mode of its own.  An idle node is
heard every few seconds.

The registry's word is checked before it is believed: both signatures of a
receipt, and its root against the city's own.  When the registry holds more than
this city has, or something else, the city stops signing: its database may have
been set back, and every further signature could be half of a fork.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Final

import grpc
import structlog

from city_node.batches import Batch, BatchReader
from city_node.comparison import Comparison, RegistryHead
from city_node.gate import SigningGate
from city_node.metrics import ReplicationMetrics
from city_node.pace import FEW_ENTRIES, Pace, wait_for
from city_node.read_ahead import ReadAhead
from city_node.receipts import Receipts
from city_node.registry_clock import RegistryClock
from city_node.replicated import OpensEpoch, OwnLog
from city_node.told_words import ToldWords
from elicense.clock import to_timestamp
from elicense.errors import (
    EpochClosed,
    EpochNotBound,
    Error,
    LogBehind,
    LogForked,
    Quarantined,
    RootMismatch,
    SequenceGap,
    Unavailable,
)
from elicense.log.model import LogKey
from elicense.rpc.errors import from_rpc_error
from elicense.rpc.telemetry import describe_exception
from elicense.v1 import replication_pb2, replication_pb2_grpc
from elicense.verification.told import Told

_log = structlog.stdlib.get_logger(__name__)

CALL_SECONDS: Final = 30.0
DISPOSITIONS_PER_ANSWER: Final = 1_000

#: What can only mean that this city's history and the one that the registry holds are two.
_TWO_HISTORIES: Final = (LogForked, LogBehind, RootMismatch, EpochClosed, EpochNotBound)


class Replicator:
    """Sends one city's log to the registry; start it with :meth:`run` as a task.

    Args:
        key: The log, in its open epoch.
        log: The city's log.
        batches: Reads what is to be sent.
        sign_told: Signs what the city says that it knows.
        stub: The registry's ReplicationService.
        opening: Opens an epoch at the registry.
        receipts: Where the registry's word is checked and kept.
        comparison: Compares database, anchor and registry.
        gate: Shut when the city's history is in doubt.
        metrics: Where lag is shown.
        heartbeat_s: How often the registry hears from an idle node.
        jitter: A value from 0 to 1 that spreads retries.
    """

    def __init__(
        self,
        *,
        key: LogKey,
        log: OwnLog,
        batches: BatchReader,
        sign_told: Callable[[Told], bytes],
        stub: replication_pb2_grpc.ReplicationServiceStub,
        opening: OpensEpoch,
        receipts: Receipts,
        comparison: Comparison,
        gate: SigningGate,
        metrics: ReplicationMetrics,
        heartbeat_s: float,
        jitter: Callable[[], float],
    ) -> None:
        self._key = key
        self._there = key
        self._log = log
        self._batches = batches
        self._ahead = ReadAhead(batches)
        self._stub = stub
        self._opening = opening
        self._receipts = receipts
        self._comparison = comparison
        self._gate = gate
        self._metrics = metrics
        self._pace = Pace(log=log, heartbeat_s=heartbeat_s, jitter=jitter)
        self._clock = RegistryClock()
        self._told = ToldWords(receipts, sign_told)
        self._next_index: int | None = None
        self._entries_wanted = 0
        self._carried = 0
        self._decision_due = False
        self._compare_due = False
        self._connected = False
        self._progress = asyncio.Event()

    @property
    def connected(self) -> bool:
        """Whether the last call to the registry succeeded."""
        return self._connected

    @property
    def backlog(self) -> int:
        """Entries without a receipt."""
        return max(0, self._log.size - self._receipts.size)

    def wake(self) -> None:
        """Say that there is something to send."""
        self._pace.wake()

    def compare_soon(self) -> None:
        """Compare with the registry before the next call: the database may be another one than before."""
        self._compare_due = True
        # What was read may be of another database.
        self._ahead.drop()
        self._receipts.doubt()
        self._pace.wake()

    async def wait_for_backlog(self, limit: int, timeout_s: float) -> bool:
        """Wait until at most ``limit`` entries lack a receipt; False when the time is over first."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout_s
        while self.backlog > limit:
            if loop.time() >= deadline:
                return False
            self._progress.clear()
            await wait_for(self._progress, deadline - loop.time())
        return True

    def heard_elsewhere(self, connected: bool) -> None:
        """Say that another process replicates, and whether the registry has confirmed something to it of late."""
        self._connected = connected
        self._progress.set()

    async def catch_up(self) -> None:
        """Send everything there is, once; for a node that does not run.

        Raises:
            Error: The registry refuses, or did not answer.
        """
        try:
            while await self._round():
                pass
        finally:
            self._ahead.drop()

    def stop(self) -> None:
        """End :meth:`run` after the call in flight."""
        self._pace.stop()

    async def run(self) -> None:
        """Replicate until :meth:`stop`; whatever goes wrong, it tries again.

        Of several processes one alone runs this; a task that is cancelled leaves nothing half done.
        """
        failures = 0
        # Another process may have led until now.
        self._next_index = None if self._log.shared else self._next_index
        clock = asyncio.get_running_loop().time
        try:
            while not self._pace.stopped:
                try:
                    began = clock()
                    if await self._round():
                        seconds, is_wanted = clock() - began, bool(self._entries_wanted)
                        await self._pace.after_batch(self._carried, seconds=seconds, is_wanted=is_wanted)
                    else:
                        await self._pace.idle(self._next_index or 0, decision_due=self._decision_due)
                except Exception as error:  # a bug here must not end replication for good, in silence
                    self._note_failure(error)
                    failures += 1
                    await self._pace.after_failure(failures)
                    continue
                failures = 0
        finally:
            self._ahead.drop()

    async def compare_if_due(self) -> None:
        """Compare, if there is reason to, though another process replicates."""
        if self._compare_due or self._gate.waits:
            self._compare_due = False
            await self.compare(CALL_SECONDS)

    async def compare(self, timeout_s: float) -> None:
        """Ask where the registry stands, and check that it holds this city's own history.

        Raises:
            Unavailable: The registry did not answer.
            LogBehind: The database was set back; the gate is shut.
            LogForked: City and registry hold two histories; the gate is shut.
        """
        try:
            state = await self._stub.GetReplicationState(
                replication_pb2.GetReplicationStateRequest(), timeout=timeout_s
            )
        except grpc.RpcError as error:
            raise from_rpc_error(error) from error
        self._clock.hear(state.registry_time)
        # A receipt of another epoch is signed with another key; that there is one says enough.
        known = state.epoch <= self._key.epoch
        head = self._receipts.open(state.epoch, state.receipt, state.next_index) if known else None
        await self._comparison.run(RegistryHead(state.epoch, head, state.receipt))
        if not known:
            raise EpochClosed(f"the registry holds epoch {state.epoch} open", openEpoch=state.epoch)
        # Whatever else is in doubt: what the database holds beyond a head of its own may be sent.
        await self._take(state.epoch, state.receipt, state.next_index)
        self._there = LogKey(self._key.log, state.epoch)
        self._next_index = state.next_index

    # -- one round -----------------------------------------------------------------------------------------------------

    async def _round(self) -> bool:
        """Make one call; return True when another should follow at once."""
        if self._next_index is None or self._compare_due:
            self._ahead.drop()
            self._compare_due = False
            await self._receipts.load()
            await self.compare(CALL_SECONDS)
        next_index = self._next_index or 0
        self._pace.began()
        if self._there.epoch < self._key.epoch:
            await self._finish_epoch(self._there, next_index)
            return True
        # Before anything is read: what is recorded from here on must not seem to be part of it.
        left = self._registry_us()
        city_us, tip_size = await self._log.durable()
        batch = await self._ahead.read(self._key, next_index, wanted=self._entries_wanted)
        self._metrics.waiting(tip_size - next_index, batch.oldest_us)
        if not self._entries_wanted and tip_size - batch.size >= FEW_ENTRIES:
            # A backlog.  Of single changes more are to gather first, and how many are wanted changes with every answer.
            self._ahead.begin(self._key, batch.size)
        response = await self._send(batch, next_index, city_us, max(tip_size, batch.size), left)
        self._carried = len(batch.entries)
        self._decision_due = response.decisions_pending
        self._note_success(response.next_index)
        feed_goes_on = len(response.dispositions) >= DISPOSITIONS_PER_ANSWER
        return feed_goes_on or response.next_index < max(tip_size, self._log.size)

    def _registry_us(self) -> int | None:
        """Return what the registry's clock showed, or less, when all that was begun here was durable and counted."""
        now_us = self._clock.now_us()
        return None if now_us is None else now_us - self._log.behind_us

    async def _finish_epoch(self, there: LogKey, next_index: int) -> None:
        """Bring the registry to the end of an epoch that has ended here, and open the next one there."""
        batch = await self._batches.read(there, next_index)
        if not batch.entries:
            # Whatever comes of it, ask: a registry that decides nothing yet may get this epoch back with its own log.
            self._next_index = None
            try:
                await self._opening(there.epoch + 1)
            except EpochNotBound as error:
                self._gate.shut(error)
                raise
            return
        # One more than it will ever have: nothing is vouched for while a later epoch is not there.  One more than this
        # batch has would come true with the next one.
        left = self._registry_us()
        city_us, _ = await self._log.durable()
        response = await self._send(batch, next_index, city_us, await self._batches.size(there) + 1, left)
        self._next_index = response.next_index

    async def _take(
        self,
        epoch: int,
        receipt: bytes,
        next_index: int,
        dispositions: Sequence[replication_pb2.Disposition] = (),
        *,
        whole_feed: bool = False,
    ) -> None:
        try:
            before = self._receipts.cursor
            await self._receipts.take(epoch, receipt, next_index, dispositions, whole_feed=whole_feed)
        except _TWO_HISTORIES as error:
            self._gate.shut(error)
            raise
        if self._receipts.cursor > before:
            # Another city's licence may wait for no more than to hear that this one has stored the word.
            self.wake()

    async def _send(
        self, batch: Batch, first_index: int, city_us: int, tip_size: int, left: int | None
    ) -> replication_pb2.AppendEntriesResponse:
        request = replication_pb2.AppendEntriesRequest(
            checkpoint=batch.checkpoint,
            epoch=self._there.epoch,
            first_index=first_index,
            entries=batch.entries,
            tip_size=tip_size,
            city_time=to_timestamp(city_us),
            dispositions_after=self._receipts.cursor,
            registry_time=None if left is None else to_timestamp(left),
            # Nothing while the city may sign nothing, or for a closed epoch.
            told=self._told.signed() if self._gate.reason is None and self._there == self._key else (),
            held_before=batch.held_before,
        )
        try:
            response: replication_pb2.AppendEntriesResponse = await self._stub.AppendEntries(
                request, timeout=CALL_SECONDS
            )
        except grpc.RpcError as error:
            raised = from_rpc_error(error)
            if isinstance(raised, SequenceGap | Quarantined):
                # The registry holds something else than we thought, or takes nothing but what it has lost: ask,
                # compare, and send from there.
                self._next_index = None
            elif isinstance(raised, EpochClosed):
                # Another process of this node was faster, or the registry was set back to before this
                # epoch: only the comparison can tell whether the city may go on signing.
                self._next_index = None
            elif isinstance(raised, _TWO_HISTORIES):
                self._gate.shut(raised)
            raise raised from error
        self._clock.hear(response.registry_time)
        self._entries_wanted = max(0, response.entries_wanted)
        words = response.dispositions
        # A registry that was set back may have said more than it knows of now.
        whole = len(words) < DISPOSITIONS_PER_ANSWER and not response.decisions_missing
        await self._take(request.epoch, response.receipt, response.next_index, words, whole_feed=whole)
        if await self._told.learn(response.unsigned):
            self.wake()
        return response

    def _note_success(self, next_index: int) -> None:
        if not self._connected:
            _log.info("registry_reached", next_index=next_index)
        self._connected = True
        self._next_index = next_index
        self._metrics.confirmed(max(0, self._log.size - next_index))
        self._progress.set()

    def _note_failure(self, error: Exception) -> None:
        if not isinstance(error, Error):
            _log.error("replication_failed", **describe_exception(error))
            self._metrics.failed("INTERNAL")
        else:
            if self._connected or not isinstance(error, Unavailable):
                _log.warning("registry_away", reason=error.reason, detail=error.message)
            self._metrics.failed(error.reason)
        if self._log.shared and not isinstance(error, Unavailable):
            # Another process may have taken in the registry's word: begin with what is stored.
            self._next_index = None
        self._connected = False
        self._progress.set()
