"""What a city asks of the registry: take in its log, say what is held, grant persons."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final

from elicense.errors import CityNotFound
from elicense.log.pace import BulkPace
from elicense.log.request_queue import ENTRIES_PER_COMMIT
from elicense.log.writer import LogWriter
from elicense.sql.database import Database
from elicense.v1 import replication_pb2
from registry.acknowledged import NOTES_BYTES, NOTES_PER_ENTRY, KeepTold
from registry.admission import Admission, to_its_end
from registry.batch import Batch, Taken
from registry.board import Outcome
from registry.claims import CLAIMS_PER_ENTRY, ClaimOutcome, DecidePending, GrantClaims
from registry.conflict_commands import DecideConflict, SettleConflicts, StatePosition
from registry.decider import Command
from registry.decisions import PendingDecisions
from registry.epochs import OpenEpoch
from registry.freshness import Freshness
from registry.head_vector import PublishHeads
from registry.ingest import Ingest
from registry.metrics import CityMetrics
from registry.quarantine import QuarantineCommand
from registry.quarantine_model import Quarantine
from registry.store import RegistryStore
from registry.transfer_decider import DecideTransfers

_NOT_IN_CUSTODY: Final = replication_pb2.DISPOSITION_KIND_NOT_IN_CUSTODY
#: Most bytes that one entry of the registry's log adds to what it is about: its times, actor and framing.
_ENTRY_BYTES: Final = 512
#: Most bytes of a vector: some thousand cities, and what an entry may hold at all.
_VECTOR_BYTES: Final = 65_536
#: Most bytes of one person in an entry: a tag, two identifiers and framing.
_PERSON_BYTES: Final = 96
#: Most bytes of an entry about a conflict: grounds of 500 characters, names and identifiers.
_CONFLICT_BYTES: Final = 4_096


#: Most bytes of a log's key in an entry.
_KEY_BYTES: Final = 512

#: How long a batch may hold up the claims of those who wait at a counter, seconds.
_SHORT_BATCH_S: Final = 0.015
#: Persons that an import claims in one go while somebody waits at a counter; else as many as an entry holds.
CLAIMS_IN_TURN: Final = 64
#: Entries that a batch may always have: what it costs to sign, send and store one must not outweigh them.
_FEWEST_ENTRIES: Final = 64


class DecisionLog:
    """Writes the registry's decisions through its log writer.

    Args:
        writer: Group commit of the registry's own log.
    """

    def __init__(self, writer: LogWriter[Command, Outcome]) -> None:
        self._writer = writer

    async def decide(self, command: DecidePending | DecideTransfers) -> Outcome:
        """Decide waiting licences or take-overs; the decisions are durable on return.

        Raises:
            StoreUnavailable: The database is away.
        """
        entries = len(command.arrivals if isinstance(command, DecideTransfers) else command.pending)
        size = entries * (_ENTRY_BYTES + _PERSON_BYTES)
        # Behind the claims that cities wait for.
        return (await self._writer.submit(command, weight=entries, size=size, bulk=True)).result

    async def open_epoch(self, command: OpenEpoch) -> Outcome:
        """Open the next epoch of a city's log; the one before is closed on return.

        Raises:
            EpochClosed: It is not the next one.
            EpochNotBound: It does not follow the head that is held.
            StoreUnavailable: The database is away.
        """
        return (await self._writer.submit(command, weight=1, size=_ENTRY_BYTES + _KEY_BYTES)).result

    async def settle(self, command: SettleConflicts) -> Outcome:
        """End conflicts that need nobody's word; durable on return.

        Raises:
            StoreUnavailable: The database is away.
        """
        # At most two entries each.
        entries = 2 * len(command.conflicts)
        return (await self._writer.submit(command, weight=entries, size=entries * _CONFLICT_BYTES, bulk=True)).result

    async def speak(self, command: StatePosition | DecideConflict) -> None:
        """Note what a city says, or what an operator decides; durable on return.

        Raises:
            ConflictNotFound: There is no such conflict, or not for this city.
            Error: It can not be said or decided now; see :mod:`registry.conflicts`.
            StoreUnavailable: The database is away.
        """
        # A statement, the resolution that may follow, and the settlement.
        await self._writer.submit(command, weight=3, size=3 * _CONFLICT_BYTES)

    @property
    def is_urgent(self) -> bool:
        """Whether somebody waits for a decision, or did a moment ago."""
        return self._writer.is_urgent

    async def grant(self, command: GrantClaims, *, bulk: bool = False) -> Outcome:
        """Grant persons to a city; the grants are durable on return.

        Args:
            command: The persons.
            bulk: Whether others go first.

        Raises:
            StoreUnavailable: The database is away.
        """
        entries = -(-len(command.wanted) // CLAIMS_PER_ENTRY)
        size = entries * _ENTRY_BYTES + len(command.wanted) * _PERSON_BYTES
        return (await self._writer.submit(command, weight=entries, size=size, bulk=bulk)).result

    async def quarantine(self, command: QuarantineCommand) -> Quarantine | None:
        """Decide about a quarantine; what was decided is durable on return.  None when nothing changes.

        Raises:
            NotFound: The city is not in quarantine.
            Refused: It may not end, or not by this operator.
            StoreUnavailable: The database is away.
        """
        return (await self._writer.submit(command, weight=1, size=2 * _ENTRY_BYTES)).result.quarantine

    async def publish(self) -> bool:
        """Write the vector of city heads if one is due; tell whether it was.

        Raises:
            StoreUnavailable: The database is away.
        """
        written = await self._writer.submit(PublishHeads(), weight=1, size=_VECTOR_BYTES, bulk=True)
        return bool(written.result.published)

    async def keep_told(self) -> bool:
        """Write what cities signed that they know; tell whether there may be more.

        Raises:
            StoreUnavailable: The database is away.
        """
        written = await self._writer.submit(KeepTold(), weight=1, size=_ENTRY_BYTES + NOTES_BYTES, bulk=True)
        return len(written.result.told) == NOTES_PER_ENTRY


class Replication:
    """The registry's side of replication.

    Args:
        database: The registry's database.
        store: Its tables.
        ingest: Takes in batches.
        admission: Lets them in.
        decisions: Decides licences without a grant and take-overs.
        log: Writes the registry's own decisions.
        freshness: Told of each city that is heard.
        on_without_custody: Called when a city was told of a record that it wrote without custody.
        on_change: Called when the view may have changed.
        metrics: Counts batches, lag and skew by city.
    """

    def __init__(
        self,
        *,
        database: Database,
        store: RegistryStore,
        ingest: Ingest,
        admission: Admission,
        decisions: PendingDecisions,
        log: DecisionLog,
        freshness: Freshness,
        on_without_custody: Callable[[], None],
        on_change: Callable[[], None],
        metrics: CityMetrics,
    ) -> None:
        self._database = database
        self._store = store
        self._ingest = ingest
        self._admission = admission
        self._decisions = decisions
        self._log = log
        self._freshness = freshness
        self._on_without_custody = on_without_custody
        self._on_change = on_change
        self._metrics = metrics
        self._pace = BulkPace(clock=_loop_time, most=ENTRIES_PER_COMMIT, short_s=_SHORT_BATCH_S)

    @property
    def entries_wanted(self) -> int:
        """How many entries a batch should have, so that claims need not wait for long; 0 while there are none."""
        return max(_FEWEST_ENTRIES, self._pace.size) if self._log.is_urgent else 0

    async def append(self, batch: Batch) -> Taken:
        """Take in a batch; see :meth:`registry.ingest.Ingest.append`.

        Raises:
            QueueFull: The city sends several at once.
        """
        async with self._admission.turn(batch.city) as doubted:
            taken = await to_its_end(self._ingest.append(batch, doubted=doubted))
            # What others wait for is the transaction; to read a batch, and to wait for its turn, keeps nobody waiting.
            self._pace.note_commit(len(batch.entries), taken.seconds)
        self._metrics.took(batch, taken)
        self._freshness.heard(batch.city)
        self._on_change()
        if taken.undecided:
            self._decisions.task.wake()
        if any(word.kind == _NOT_IN_CUSTODY for word in taken.dispositions):
            self._on_without_custody()
        return taken

    async def state(self, city: int) -> tuple[int, Taken]:
        """Return the open epoch of a city and what is held of its log.

        Raises:
            CityNotFound: The city is not enrolled.
        """
        enrolled = await self._database.read(lambda conn: self._store.city(conn, city))
        if enrolled is None:
            raise CityNotFound("this city is not enrolled; ask an operator for a join token", city=city)
        return enrolled.epoch, await self._ingest.state(city)

    async def claim(self, command: GrantClaims, *, bulk: bool = False) -> Sequence[ClaimOutcome]:
        """Grant or refuse each person of a claim, in the order asked.

        Args:
            command: The persons.
            bulk: Whether others go first; then in parts, so that they get in between.

        Raises:
            StoreUnavailable: The database is away; ask again.
        """
        if not bulk:
            return (await self._log.grant(command)).claims
        count = CLAIMS_IN_TURN if self._log.is_urgent else CLAIMS_PER_ENTRY
        parts = [
            replace(command, wanted=command.wanted[start : start + count])
            for start in range(0, len(command.wanted), count)
        ]
        outcomes = await asyncio.gather(*(self._log.grant(part, bulk=True) for part in parts))
        return [claim for outcome in outcomes for claim in outcome.claims]


def _loop_time() -> float:
    return asyncio.get_running_loop().time()
