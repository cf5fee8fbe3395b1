"""What a fault is to the campaign: how it is brought about, how it ends, and what must be seen meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import TypeAlias

from tests.faults.audit import Findings
from tests.faults.bystanders import Felt
from tests.faults.processes import DEADLINE_S, until
from tests.faults.workload import Ledger
from tests.faults.world import CityNode, World
from tests.support.postgres import PostgresServer


class NotPossibleHere(Exception):
    """This machine can not bring the fault about; the message says what it lacks."""


@dataclass
class Trial:
    """One city under attack, and who asks it for licences.

    Attributes:
        world: The nation.
        city: The city under attack.
        ledger: What it is asked for.
        moments: Draws when things happen.
        round: Number of the round, from 0.
        postgres: The server behind Chengdu, if any.
        notes: What a fault has to say for the table.
        hits: How often the fault did strike; a round counts once unless the fault says otherwise.
        healthy: What a city is asked for that is left in peace.
        turns: How often times of peace and of attack take turns, where what others feel is measured.
        seconds_a_turn: How long each of them lasts.
        felt: What others felt.
        flips: Bits that are flipped in each column.
        long: Whether this is the long form.
    """

    world: World
    city: CityNode
    ledger: Ledger
    moments: Random
    postgres: PostgresServer | None
    healthy: Ledger
    turns: int = 1
    seconds_a_turn: float = 1.0
    round: int = 0
    hits: int = 0
    notes: list[str] = field(default_factory=list)
    felt: Sequence[Felt] = ()
    flips: int = 1
    long: bool = False

    async def a_moment(self, within_s: float) -> None:
        """Let a drawn time pass, so that the fault strikes at any point of the work."""
        await asyncio.sleep(self.moments.uniform(0, within_s))

    async def refused(self, *reasons: str, deadline_s: float = DEADLINE_S) -> None:
        """Wait, under load, until somebody is refused for one of these reasons."""
        before = sum(self.ledger.refusals[reason] for reason in reasons)
        await until(lambda: sum(self.ledger.refusals[reason] for reason in reasons) > before, deadline_s=deadline_s)


Break = Callable[[Trial], AbstractAsyncContextManager[None]]


@dataclass(frozen=True, slots=True)
class Fault:
    """Something that breaks while citizens are served.

    Attributes:
        name: Its line in the table.
        broken: Breaks on entry, unbreaks on exit.
        city: Which city is attacked.
        rounds: How often in the short form; 0 where that would take too long.
        long_rounds: How often in the long form.
        goes_on: Licences that must be acknowledged while it is broken: local control.
        refusals: Reasons one of which must be heard while it is broken.
        stride: Rounds between two audits.
        group: Line of the short table that it belongs to; its own name when empty.
    """

    name: str
    broken: Break
    city: int
    rounds: int = 1
    long_rounds: int = 5
    goes_on: int = 0
    refusals: Collection[str] = ()
    stride: int = 25
    group: str = ""

    @property
    def short(self) -> bool:
        """Whether the test suite runs it too."""
        return self.rounds > 0


@dataclass
class Tally:
    """What became of inputs that no node may accept.

    Attributes:
        tried: How many were sent.
        accepted: What was accepted all the same, in words.
    """

    tried: int = 0
    accepted: list[str] = field(default_factory=list)

    def refused(self, what: str, reason: str | None, *expected: str) -> None:
        """Count one try: ``reason`` is why it was refused, None if it was not."""
        self.tried += 1
        if reason is None:
            self.accepted.append(f"{what}: accepted")
        elif expected and reason not in expected:
            self.accepted.append(f"{what}: refused for {reason} instead of {' or '.join(expected)}")

    def holds(self, what: str, true: bool) -> None:
        """Count one try whose harm would be seen elsewhere."""
        self.tried += 1
        if not true:
            self.accepted.append(what)


@dataclass(frozen=True, slots=True)
class Attack:
    """Something that is sent to a node while citizens are served, and must change nothing.

    Attributes:
        name: Its line in the table.
        send: Sends everything, and says what became of it.
        city: Whose citizens are served meanwhile.
        short: Whether the test suite runs it too.
        group: Line of the short table that it belongs to; its own name when empty.
    """

    name: str
    send: Callable[[Trial], Awaitable[Tally]]
    city: int
    short: bool = True
    group: str = ""


@dataclass
class Aftermath:
    """What came of a fault that had a nation of its own.

    Attributes:
        times: How often it struck.
        findings: What the audits found; the worst of each.
        answering: Seconds until the first licence was acknowledged again, each time it was waited for.
        catching_up: Seconds from there until the registry held everything.
        broken: Expectations that did not hold.
    """

    times: int = 0
    findings: Findings = field(default_factory=Findings)
    answering: list[float] = field(default_factory=list)
    catching_up: list[float] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Apart:
    """Something that needs a nation of its own, because it leaves none that could go on.

    Attributes:
        name: Its line in the table.
        happen: Makes the nation, does it, and says what came of it.
        city: Whose name the nation's city under attack has.
        short: Whether the test suite runs it too.
        group: Line of the short table that it belongs to; its own name when empty.
    """

    name: str
    happen: Callable[[Trial], Awaitable[Aftermath]]
    city: int
    short: bool = True
    group: str = ""


Trouble: TypeAlias = Fault | Attack | Apart
"""Whatever has a line in the table."""


def log_of(folder: Path) -> str:
    """Return what a node has written so far."""
    return folder.with_suffix(".log").read_text(errors="replace")
