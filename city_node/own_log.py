"""The city's own log, put together: its writer, what was signed of it, and how that is compared."""

from __future__ import annotations

from city_node.citylog import CityLog
from city_node.commands import Command
from city_node.comparison import Comparison
from city_node.decider import CityDecider, Outcomes
from city_node.ground import Ground
from city_node.progress import open_log
from city_node.shared_head import SharedHead
from elicense.errors import EpochClosed
from elicense.log.anchor import Anchor
from elicense.log.metrics import LogMetrics
from elicense.log.writer import LogWriter


class OwnLog:
    """The log of one city, as one process writes it.

    Args:
        ground: What the node stands on.

    Attributes:
        anchor: The head that was signed last.
        comparison: Compares database, anchor and registry.
        writer: Writes the log.
        log: The log, as use cases see it.
    """

    def __init__(self, ground: Ground) -> None:
        database, store, key, clock = ground.database, ground.store, ground.key, ground.clock
        self._ground = ground
        origin = ground.epochs.origin(key.epoch)
        self.anchor = Anchor(ground.config.anchor_path, origin)
        self.comparison = Comparison(database=database, store=store, key=key, anchor=self.anchor, gate=ground.gate)
        self.writer: LogWriter[Command, Outcomes] = LogWriter(
            database=database,
            log_store=store.logs,
            key=key,
            signer=ground.keys.log.of(key.epoch),
            origin=origin,
            decider=CityDecider(
                store=store,
                persons=ground.keys.persons,
                gate=ground.gate,
                actor=str(ground.identity),
                clock=clock,
            ),
            clock=clock,
            random=ground.random,
            metrics=LogMetrics(ground.metrics),
            on_fatal=ground.gate.shut,
            before_answer=self.comparison.keep,
            signed_before=self.anchor.last,
        )
        shared = SharedHead(database=database, store=store.logs, key=key, clock=clock) if ground.place.shares else None
        self.log = CityLog(key=key, writer=self.writer, clock=clock, shared=shared)

    async def require_open(self) -> None:
        """Refuse once the epoch that this process was put together for is not the open one any more.

        Raises:
            EpochClosed: The next one was opened meanwhile.
            StoreUnavailable: The database is away.
        """
        ground = self._ground
        found = open_log(await ground.database.read(ground.store.logs.keys), ground.key.log)
        if found != ground.key:
            raise EpochClosed(
                f"epoch {found.epoch} of the city's log was opened while this process started; start it again",
                openEpoch=found.epoch,
            )
