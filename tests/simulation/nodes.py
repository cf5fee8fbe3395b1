"""What registry and cities of a simulated nation have in common.

They are the real parts, without sockets, threads or clocks of their own; what is
left out (servers, certificates, access logs, quotas, watches) does not touch a log.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from contextvars import Context
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any, cast

from prometheus_client import CollectorRegistry

from city_node.decider import CityDecider
from city_node.keys import LogSigners
from city_node.verification import CityAnswers
from elicense.clock import SECOND_US
from elicense.log.anchor import Anchor
from elicense.rpc.looks import Answering, Looks
from elicense.trust.signer import Signer
from elicense.view.person import PersonIndex
from registry.ingest import Ingest
from registry.transfer_decider import TransferDecider
from registry.verification import NationalAnswers
from tests.simulation.database import Fate, SimDatabase
from tests.simulation.loop import OWNER, VirtualLoop
from tests.simulation.network import Network
from tests.simulation.template import START_US, Template


class WatchedAnchor(Anchor):
    """Knows what of its file would survive a power cut."""

    def __init__(self, path: Path, origin: str) -> None:
        super().__init__(path, origin)
        # A city may start without it.
        self.durable = path.read_bytes() if path.exists() else None

    def flush(self) -> None:
        super().flush()
        self.durable = self.path.read_bytes()


@dataclass
class Doubles:
    """Parts that a test may put in place of the real ones, to see whether the simulation notices.

    Attributes:
        clock_off_s: How far the cities' clocks are off at first.
    """

    database: type[SimDatabase] = SimDatabase
    city_decider: type[CityDecider] = CityDecider
    ingest: type[Ingest] = Ingest
    transfers: type[TransferDecider] = TransferDecider
    national: type[NationalAnswers] = NationalAnswers
    city_answers: type[CityAnswers] = CityAnswers
    clock_off_s: float = 0.0


@dataclass
class Surroundings:
    """What every node of a run shares.

    Attributes:
        witness: Wraps each signer, so that nothing is signed unseen.
        doubles: What takes the place of real parts.
        fate: What becomes of the next COMMIT.
    """

    template: Template
    loop: VirtualLoop
    random: Random
    network: Network
    witness: Callable[[Signer], Signer]
    doubles: Doubles = field(default_factory=Doubles)
    fate: Callable[[], Fate] = lambda: Fate.HEARD

    def watched(self, signers: LogSigners) -> LogSigners:
        """Return the keys of a city's log, so that nothing is signed unseen."""
        return cast("LogSigners", _WatchedSigners(signers, self.witness))


@dataclass(frozen=True, slots=True)
class _WatchedSigners:
    signers: LogSigners
    witness: Callable[[Signer], Signer]

    def of(self, epoch: int) -> Signer:
        return self.witness(self.signers.of(epoch))


@dataclass(eq=False)
class Node:
    """One life of a node, from a start to a crash.

    Attributes:
        name: Its name, the same over all its lives.
        clock_off_s: How far its clock is off.
    """

    around: Surroundings
    name: str
    database_path: Path
    clock_off_s: float = 0.0
    alive: bool = True
    services: list[Any] = field(default_factory=list)
    tasks: list[asyncio.Task[Any]] = field(default_factory=list)
    anchor: WatchedAnchor = field(init=False)
    context: Context = field(default_factory=Context)

    def __post_init__(self) -> None:
        self.context.run(OWNER.set, self)
        self.database = self.around.template.database(self.around.doubles.database, self.database_path)
        self.database.fate = self.around.fate
        self.metrics = CollectorRegistry()
        self.build()

    def build(self) -> None:
        raise NotImplementedError

    async def begin(self) -> None:
        raise NotImplementedError

    def clock(self) -> int:
        return START_US + int((self.around.loop.time() + self.clock_off_s) * SECOND_US)

    def bytes_of(self, count: int) -> bytes:
        return self.around.random.randbytes(count)

    def spawn(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        task = self.around.loop.create_task(work, context=self.context.copy())
        self.tasks.append(task)
        return task

    def crash(self, *, power: bool = False) -> None:
        """End at once: nothing of it runs again, and what it had not committed is gone.

        Args:
            power: The machine loses power: what was written and not flushed is gone as well.  SQLite
                flushes each commit, so that this touches only files beside the database.
        """
        self.alive = False
        durable = self.anchor.durable
        self.anchor.close()
        if power and durable is not None:
            self.anchor.path.write_bytes(durable)


class _Uncounted:
    """Neither counts looks nor records them."""

    async def spend(self, *_: object) -> None:
        """Let everybody look."""

    async def record(self, _entry: object) -> None:
        """Forget it."""

    async def record_all(self, entries: Sequence[object]) -> Sequence[None]:
        """Forget them."""
        return [None] * len(entries)


def looks_of(answers: Answering, subjects: PersonIndex, clock: Callable[[], int]) -> Looks:
    """Return how verifiers look at what a node knows; they follow nothing here."""
    uncounted = _Uncounted()
    return Looks(
        answering=answers,
        watching=cast("Any", None),
        quotas=cast("Any", uncounted),
        recorder=uncounted,
        subjects=subjects,
        clock=clock,
    )
