"""Taking in a city's batch: check, append, fold and cosign.

The steps, numbered in the code:

1. The city is enrolled, its epoch is open, its clock is sane, and it is not in quarantine; from one that is, only what
   the registry had cosigned and lost is taken, or what explains its unexplained head.
2. The checkpoint is in form, for this log, of the right size and signed by the city; so is what the city says it knows.
3. Held entries equal those sent, and so does the signed head where it says nothing new; a gap or a fork is refused.
4. The new entries lead to the signed root, recomputed from the record bytes, and those that come emptied were held
   before; an epoch begins where the last one ended.
5. Entries, head, fold and freshness are written in one transaction, guarded by
   compare-and-set on the head.
6. Only then the registry cosigns, and answers.

Only what is wrong with the batch as a whole is refused.  A well-signed record
that breaks a rule is kept, because the log is true, without national effect:
refusing it would stall its city for ever.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from elicense import errors
from elicense.log.checkpoint import Checkpoint, cosigner_verifier_key
from elicense.log.erased_store import Erased
from elicense.log.model import FIRST_EPOCH
from elicense.log.store import Head, LogKey, NewEntry
from elicense.log.tree import CompactRange
from elicense.sql.database import Database
from elicense.trust.signer import Signer
from elicense.view.opening import binds
from elicense.view.person import PersonIndex
from registry.batch import Batch, Taken
from registry.disputes import Disputes
from registry.empty_slots import require_held
from registry.epochs import previous_head
from registry.erasure import Erasures
from registry.explanation import explained_by, quarantine_over, require_worth_reading
from registry.feed_numbers import FeedNumbers
from registry.folding import Folding
from registry.given_receipts import GivenReceipts
from registry.heads import open_head
from registry.held_before import brings_back
from registry.held_entries import held_of, require_ours
from registry.model import City, NotedDisposition, no_fresher, state_heard
from registry.readers import Readers
from registry.reading import Reading
from registry.store import RegistryStore
from registry.told import open_all_told, take_told

if TYPE_CHECKING:
    from sqlalchemy import Connection

#: Beyond this a city's clock makes its times worthless.
MAX_CLOCK_SKEW_US: Final = 10 * 60 * 1_000_000


@dataclass(frozen=True, slots=True)
class _Held:
    """What a transaction found or made durable; cosigned after it."""

    head: Head
    cosigned: bytes | None
    dispositions: Sequence[NotedDisposition]
    undecided: bool
    explained: int = 0
    as_of_us: int = 0
    unsigned: Sequence[int] = ()
    lacking: bool = False


class Ingest:
    """Takes in batches of city logs.

    Args:
        database: The registry's database.
        store: Its tables.
        readers: Read batches.
        persons: Computes person tags.
        cosigner: Signs receipts.
        cosigner_name: Name of the cosigner's key.
        trust_domain: Prefix of log origins.
        disputes: Judges batches that do not fit.
        clock: UTC microseconds.
        on_erased: Called with slots that were emptied, whose content the database's files may still hold.
        count_erasures: Called with a city and what came of its erasures.
        log_is_whole: Whether the registry holds its own log whole; while it does not, erasures are postponed, and
            cities are told that decisions are missing.
    """

    def __init__(
        self,
        *,
        database: Database,
        store: RegistryStore,
        readers: Readers,
        persons: PersonIndex,
        cosigner: Signer,
        cosigner_name: str,
        trust_domain: str,
        disputes: Disputes,
        clock: Callable[[], int],
        on_erased: Callable[[Sequence[Erased]], None] | None = None,
        count_erasures: Callable[[int, Erasures], None] | None = None,
        log_is_whole: Callable[[], bool] = lambda: True,
    ) -> None:
        self._on_erased = on_erased
        self._count_erasures = count_erasures
        self._database = database
        self._store = store
        self._readers = readers
        self._log_is_whole = log_is_whole
        self._folding = Folding(store=store, persons=persons, log_is_whole=log_is_whole)
        self._receipts = GivenReceipts(store=store, cosigner=cosigner, name=cosigner_name)
        self._cosigner_name = cosigner_name
        self._cosigner = cosigner_verifier_key(cosigner_name, cosigner.public_key())
        self._trust_domain = trust_domain
        self._disputes = disputes
        self._clock = clock
        self._feeds = FeedNumbers(store, clock=clock)

    async def append(self, batch: Batch, *, doubted: bool = False) -> Taken:
        """Apply a batch, or compare it with what is held, and cosign the head.

        Args:
            batch: The batch.
            doubted: Whether the city may be in quarantine: then the records of a batch are not read unless it will
                be taken in all the same.

        Raises:
            CityNotFound: The city is not enrolled.
            EpochClosed: Another epoch is open.
            ClockSkewed: The city's clock is more than ten minutes off.
            CheckpointInvalid: The checkpoint's form, origin or size is wrong, or of what the city says it knows.
            SignatureInvalid: The city did not sign the checkpoint, or what it says it knows.
            RootMismatch: The entries do not lead to the signed root.
            SlotNotHeld: One comes emptied, and nothing shows that the registry has held it.
            SequenceGap: The batch starts beyond what is held, or the city says that it has less.
            EpochNotBound: The first entry of an epoch does not bind it to the one before.
            LogForked: A held entry differs from the one sent, or the signed head from the one held.
            Quarantined: The city's log is not taken in.
            QuotaExceeded: The city says too often that it has more words than it was answered; send the same later.
            StoreCorrupt: The registry's own log can not be derived again; nobody is accused.
            StoreUnavailable: The database is away; send again.
        """
        now_us = self._clock()
        skew_us = batch.city_us - now_us
        if abs(skew_us) > MAX_CLOCK_SKEW_US:
            seconds = skew_us // 1_000_000
            raise errors.ClockSkewed(f"the city's clock is {seconds} s off; set it and send again", skewSeconds=seconds)
        erased = Erasures()
        # Read on the thread that runs the transaction.
        clock = asyncio.get_running_loop().time
        began = 0.0

        def append(conn: Connection) -> _Held:
            nonlocal began
            began = clock()
            return self._append(conn, batch, reading, now_us, erased)

        def answer(held: _Held) -> Taken:
            seconds = clock() - began
            return replace(self._answer(held, now_us), seconds=seconds)

        try:
            if doubted:
                await self._database.read(lambda conn: self._require_worth_reading(conn, batch))
            # Cities come at the same time: what needs no database is done before the writer's turn.
            reading = await self._readers.read(batch)
            taken = await self._database.write_then(append, answer, gives_way=True)
            if erased.slots and self._on_erased is not None:
                self._on_erased(erased.slots)
            if self._count_erasures is not None:
                self._count_erasures(batch.city, erased)
        except (errors.LogForked, errors.RootMismatch, errors.Quarantined) as error:
            # In transactions of its own: the refused one leaves nothing behind.
            await self._disputes.raise_over(batch, error.reason)
            raise
        if taken.explained:
            await self._disputes.explained(batch.city, batch.epoch, taken.explained)
        return taken

    async def state(self, city: int) -> Taken:
        """Return what is held of a city's log.

        Raises:
            CityNotFound: The city is not enrolled.
        """
        now_us = self._clock()

        def read(conn: Connection) -> _Held:
            enrolled = self._enrolled(conn, city)
            return self._held(conn, self._head(conn, LogKey(city, enrolled.epoch), lock=False), ())

        return self._answer(await self._database.read(read), now_us)

    def _append(self, conn: Connection, batch: Batch, reading: Reading, now_us: int, erased: Erasures) -> _Held:
        enrolled = self._enrolled(conn, batch.city)  # (1)
        self._require_open(batch, enrolled)
        signed = self._open(batch, enrolled)  # (2)
        told = open_all_told(batch, enrolled)
        leaves = reading.leaves
        head = self._head(conn, LogKey(batch.city, batch.epoch), lock=True)
        if not self._store.has_one_writer(conn):
            # Who waited for the lock may have waited for the epoch's end.
            self._require_open(batch, self._enrolled(conn, batch.city))
        # Before the words: what was lacking when they were read must not seem to be among them.
        lacking = not self._log_is_whole()
        self._feeds.require_due(conn, batch.city, batch.dispositions_after)
        if signed is not None and signed.size <= head.size:
            require_ours(conn, self._store, head, signed)  # (3)
        fresh = held_of(conn, self._store, head, batch, leaves)
        explained = 0
        quarantine = quarantine_over(conn, self._store, batch)  # (1)
        is_lost = quarantine is not None and brings_back(
            batch, signed, enrolled, held=head.size, cosigner=self._cosigner
        )
        if quarantine is not None and not is_lost:
            explained = explained_by(conn, self._store, quarantine, head, leaves[fresh:])
        undecided = False
        erased.become(Erasures())  # the transaction may run again
        if signed is not None and fresh < len(leaves):
            frontier = head.frontier.append_leaves(leaves[fresh:])
            if frontier.root() != signed.root:  # (4)
                raise errors.RootMismatch("the entries do not lead to the signed root", size=signed.size)
            require_held(batch, signed, enrolled, held=batch.first_index + fresh, cosigner=self._cosigner)
            head, undecided, emptied = self._apply(
                conn, head, batch, reading, fresh, frontier=frontier, now_us=now_us
            )  # (5)
            erased.become(emptied)
        self._receipts.store_due(conn, head.key)
        before = self._store.state(conn, batch.city)
        state = state_heard(
            before,
            city=batch.city,
            epoch=batch.epoch,
            next_index=head.size,
            tip_size=batch.tip_size,
            city_clock_us=batch.city_us,
            received_us=batch.said_us(now_us),
        )
        if is_lost:
            # Whoever may say nothing more says nothing by what comes back of what was said.
            state = no_fresher(before, state)
        self._store.put_state(conn, state)
        # Behind everything that can refuse the call, and before anything goes by the numbers of words.
        answered = self._feeds.hear(conn, batch.city, batch.dispositions_after)
        # A bar that the city recorded before it stored the word must be here before the other licence counts.
        is_whole = head.size >= batch.tip_size and not is_lost
        if is_whole and self._store.conflicts.stored_by(conn, batch.city, batch.dispositions_after):
            undecided = True
        dispositions = self._feeds.answer(conn, batch.city, batch.dispositions_after, answered=answered)
        unsigned = () if is_lost else take_told(conn, self._store, batch, told, held=head.size)
        held = self._held(conn, head, dispositions, undecided=undecided)
        return replace(held, explained=explained, as_of_us=state.as_of_us, unsigned=unsigned, lacking=lacking)

    def _require_worth_reading(self, conn: Connection, batch: Batch) -> None:
        enrolled = self._enrolled(conn, batch.city)
        self._require_open(batch, enrolled)
        signed = self._open(batch, enrolled)
        require_worth_reading(conn, self._store, batch, signed, enrolled, self._cosigner)

    def _apply(
        self,
        conn: Connection,
        head: Head,
        batch: Batch,
        reading: Reading,
        fresh: int,
        *,
        frontier: CompactRange,
        now_us: int,
    ) -> tuple[Head, bool, Erasures]:
        """Append the new suffix and fold it.

        Returns:
            The new head, whether licences wait for a decision, and what came of erasures.
        """
        recorded_us = head.recorded_us
        if head.size == 0 and batch.epoch > FIRST_EPOCH:
            recorded_us = self._check_opening(conn, head.key, batch)
        received = reading.received.behind(head.size) if fresh else reading.received
        # When the city wrote its last record; never later than now, so that a
        # city with a fast clock can not make its records look fresher.  Records
        # that can not be read say nothing of when they were written.
        written_us = received.recorded_us()
        recorded_us = min(recorded_us if written_us is None else written_us, now_us)
        entries = [
            NewEntry(None, None, leaf) if sent.erased else NewEntry(sent.record, sent.salt, leaf)
            for sent, leaf in zip(batch.entries[fresh:], reading.leaves[fresh:], strict=True)
        ]
        moved = self._store.logs.advance(
            conn, head, entries, recorded_us=recorded_us, note=batch.checkpoint, frontier=frontier
        )
        undecided, erased = self._folding.take(conn, batch, received, now_us=now_us)
        return moved, undecided, erased

    def _check_opening(self, conn: Connection, key: LogKey, batch: Batch) -> int:
        """Check that a new epoch follows the one before; return when that one's last record was written."""
        previous, recorded_us = previous_head(conn, self._store, key, trust_domain=self._trust_domain)
        if not binds(batch.entries[0].record, city=key.log, epoch=key.epoch, previous=previous):
            raise errors.EpochNotBound(
                "the first entry of the epoch does not follow the head of the one before", heldSize=previous.size
            )
        return recorded_us

    def _enrolled(self, conn: Connection, city: int) -> City:
        enrolled = self._store.city(conn, city)
        if enrolled is None:
            raise errors.CityNotFound("this city is not enrolled; ask an operator for a join token", city=city)
        return enrolled

    @staticmethod
    def _require_open(batch: Batch, enrolled: City) -> None:
        if batch.epoch != enrolled.epoch:
            raise errors.EpochClosed(f"epoch {enrolled.epoch} is open", openEpoch=enrolled.epoch)

    def _open(self, batch: Batch, enrolled: City) -> Checkpoint | None:
        """Return the signed head; None for the heartbeat of an empty log."""
        if not batch.entries and not batch.checkpoint:
            return None
        return open_head(batch, enrolled, trust_domain=self._trust_domain, cosigner_name=self._cosigner_name)

    def _head(self, conn: Connection, key: LogKey, *, lock: bool) -> Head:
        head = self._store.logs.head(conn, key, lock=lock)
        if head is None:
            raise errors.StoreCorrupt("an enrolled city has no log; run fsck", city=key.log)
        return head

    def _held(
        self, conn: Connection, head: Head, dispositions: Sequence[NotedDisposition], *, undecided: bool = False
    ) -> _Held:
        return _Held(head, self._receipts.stored(conn, head), dispositions, undecided)

    def _answer(self, held: _Held, now_us: int) -> Taken:
        """Cosign the head, which is durable by now, unless that was done before."""  # (6)
        return Taken(
            held.head.size,
            self._receipts.receipt(held.head, held.cosigned, now_us=now_us),
            held.dispositions,
            now_us,
            held.undecided,
            held.explained,
            held.as_of_us,
            held.unsigned,
            held.lacking,
        )
