"""The task that decides what waits: licences without a grant, take-overs, and conflicts that need nobody's word.

What waits is a table, so nothing is lost with the process: the process that leads reads
it at start, and now and then while something waits for another city's lease.
Whichever process took in a batch that adds to it reads it at once.  A decision is made in the
transaction that writes it, so two processes never decide one licence twice.
Erasures that waited until the registry decides again (:mod:`registry.postponed`) are carried
out first.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Container, Sequence
from typing import TYPE_CHECKING, Final, Protocol

import structlog

from elicense.license.verdict import ViewFlags
from elicense.log.erased_store import Erased
from elicense.sql.database import Database
from registry.board import Outcome
from registry.claims import DecidePending
from registry.conflict_commands import SettleConflicts
from registry.conflict_metrics import ConflictMetrics
from registry.conflict_model import Conflict, ConflictState
from registry.model import Pending
from registry.store import RegistryStore
from registry.transfer_decider import DecideTransfers
from registry.transfer_model import Arrival
from registry.woken import Woken

if TYPE_CHECKING:
    from sqlalchemy import Connection

#: Licences decided in one commit.
PENDING_PER_COMMIT: Final = 256
#: How long nothing is looked at unless a batch says so.
RECHECK_S: Final = 5.0

_log = structlog.stdlib.get_logger(__name__)


class Deciding(Protocol):
    """Writes decisions to the registry's log."""

    async def decide(self, command: DecidePending | DecideTransfers) -> Outcome:
        """Decide and return once the decision is durable."""

    async def settle(self, command: SettleConflicts) -> Outcome:
        """End conflicts and return once that is durable."""


class PendingDecisions:
    """Decides what waits, in the background.

    Args:
        database: The registry's database.
        store: Its tables.
        deciding: Writes the decisions.
        leads: Whether this process looks unasked.
        metrics: Counts conflicts.
        clock: UTC microseconds.
        erase: Carries out erasures that were postponed; None where none are.
        on_erased: Called with slots that a decision has emptied, whose content the database's files may still hold.
        recheck_s: How often to look unasked, seconds.

    Attributes:
        task: Decides in the background.
    """

    def __init__(
        self,
        *,
        database: Database,
        store: RegistryStore,
        deciding: Deciding,
        leads: Callable[[], bool],
        metrics: ConflictMetrics,
        clock: Callable[[], int],
        erase: Callable[[], Awaitable[int]] | None = None,
        on_erased: Callable[[Sequence[Erased]], None] = lambda _: None,
        recheck_s: float = RECHECK_S,
    ) -> None:
        self._database = database
        self._store = store
        self._deciding = deciding
        self._leads = leads
        self._metrics = metrics
        self._clock = clock
        self._erase = erase
        self._on_erased = on_erased
        # Woken when a batch brings licences that wait.
        self.task = Woken(self._work, every_s=recheck_s, failed="waiting_not_decided")

    async def decide_all(self) -> int:
        """Go once through everything that waits and return how many were decided.

        Raises:
            Error: The decision could not be written.
        """
        decided = 0 if self._erase is None else await self._erase()
        decided += await self._settle()
        page = await self._page(None)
        while page:
            outcome = await self._deciding.decide(DecidePending(tuple(page)))
            decided += len(outcome.decided)
            page = await self._page(page[-1])
        return decided + await self._decide_transfers()

    async def _decide_transfers(self) -> int:
        decided = 0
        after: Arrival | None = None
        while page := await self._arrivals(after):
            outcome = await self._deciding.decide(DecideTransfers(tuple(page)))
            decided += len(outcome.transfers)
            if outcome.erased:
                self._on_erased(outcome.erased)
            after = page[-1]
        return decided

    async def _arrivals(self, after: Arrival | None) -> list[Arrival]:
        return await self._database.read(
            lambda conn: self._store.transfers.arrivals(conn, limit=PENDING_PER_COMMIT, after=after)
        )

    async def _settle(self) -> int:
        """End the conflicts that need nobody's word any more; what is left is counted for the metrics."""
        due, counts = await self._database.read(self._due)
        if self._leads():
            self._metrics.counted(*counts)
        if not due:
            return 0
        return len((await self._deciding.settle(SettleConflicts(tuple(due)))).conflicts)

    def _due(self, conn: Connection) -> tuple[list[bytes], tuple[int, int, int]]:
        conflicts = self._store.conflicts
        unsettled = conflicts.unsettled(conn, limit=PENDING_PER_COMMIT)
        rows = self._store.view.by_person(conn, {conflict.person_key for conflict in unsettled})
        cancelled = {row.license_id for held in rows.values() for row in held if row.flags & ViewFlags.CANCELLED}
        due = [conflict.license_id for conflict in unsettled if _is_due(conflict, cancelled)]
        return due, conflicts.counts(conn, city=None, now_us=self._clock())

    async def _page(self, after: Pending | None) -> list[Pending]:
        return await self._database.read(lambda conn: self._store.pending(conn, limit=PENDING_PER_COMMIT, after=after))

    async def _work(self, asked: bool) -> None:
        if not self._leads():
            self._metrics.forget()
        decided = await self.decide_all() if asked or self._leads() else 0
        if decided:
            _log.info("waiting_decided", licenses=decided)


def _is_due(conflict: Conflict, cancelled: Container[bytes]) -> bool:
    """Whether a conflict may be over by itself; the decision judges again."""
    if conflict.state == ConflictState.DECIDED:
        return not conflict.notice_seq
    return any(license_id in cancelled for license_id in conflict.licenses)
