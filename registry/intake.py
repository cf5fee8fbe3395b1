"""What cities send, put together: their batches, what is decided on them and what is counted."""

from __future__ import annotations

from collections.abc import Callable

from elicense.log.scrubber import Scrubber
from elicense.workers.assistants import assistants_for, available_cores
from registry.admission import Admission
from registry.breaches import Breaches
from registry.decisions import PendingDecisions
from registry.disputes import Disputes
from registry.erasure import Erasures
from registry.freshness import Freshness
from registry.ground import Ground
from registry.ingest import Ingest
from registry.metrics import CityMetrics
from registry.readers import Readers
from registry.replication import DecisionLog, Replication


class Intake:
    """Takes in the logs of cities.

    Args:
        ground: What the registry stands on.
        log: Writes decisions.
        decisions: What is still to be decided.
        disputes: Which cities are in quarantine.
        freshness: How far behind each city the view is.
        on_change: Called after something was taken in.
        scrubber: Wipes what was erased from the database's files.
        log_is_whole: Whether the registry holds its own log whole.
        count_erasures: Called with a city and what came of its erasures.

    Attributes:
        breaches: Judges records without custody.
        readers: Read large batches.
        replication: What cities ask for.
    """

    def __init__(
        self,
        ground: Ground,
        *,
        log: DecisionLog,
        decisions: PendingDecisions,
        disputes: Disputes,
        freshness: Freshness,
        on_change: Callable[[], None],
        scrubber: Scrubber,
        log_is_whole: Callable[[], bool],
        count_erasures: Callable[[int, Erasures], None],
    ) -> None:
        self._ground = ground
        self._metrics = CityMetrics(registry=ground.metrics, clock=ground.clock)
        self.readers = Readers(ground.keys.index_key, count=assistants_for(ground.place, available_cores()))
        self.breaches = Breaches(
            database=ground.database,
            store=ground.store,
            trust_domain=ground.trust_domain,
            public_key=ground.keys.log.public_key(),
            leads=ground.leads,
            metrics=ground.metrics,
            clock=ground.clock,
        )
        self.replication = Replication(
            database=ground.database,
            store=ground.store,
            ingest=Ingest(
                database=ground.database,
                store=ground.store,
                readers=self.readers,
                persons=ground.keys.persons,
                cosigner=ground.keys.cosigner,
                cosigner_name=ground.cosigner_name,
                trust_domain=ground.trust_domain,
                disputes=disputes,
                clock=ground.clock,
                on_erased=scrubber.due,
                log_is_whole=log_is_whole,
                count_erasures=count_erasures,
            ),
            admission=Admission(),
            decisions=decisions,
            log=log,
            freshness=freshness,
            on_without_custody=self.breaches.task.wake,
            on_change=on_change,
            metrics=self._metrics,
        )

    async def reseed(self) -> None:
        """Count from what the database holds: from the start, and what other processes took in since.

        Raises:
            StoreUnavailable: The database is away.
        """
        self._metrics.seed(await self._ground.database.read(self._ground.store.states))
