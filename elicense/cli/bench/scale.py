"""``elicense bench scale``: what a verification and a start cost against the number of licences and of cities.

Every point is a registry of its own, filled with what a verification reads.  Points
are measured one after the other and minutes apart, so each has a bare call beside it:
what is compared between points is the cost as a multiple of that, which a machine that
has become slower meanwhile leaves as it is.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Final

from elicense.cli.bench.drive import Driver
from elicense.cli.bench.house import House
from elicense.cli.bench.usage import Processes
from elicense.cli.bench.verify import ECHO, EVERYTHING, ROLE, VERIFY, Measurement, Questions, Size
from elicense.cli.demo.figures import ExpectationFailed
from elicense.v1 import verification_pb2 as pb

STARTS: Final = 3
"""How often a registry is started anew; the first start of all reads files that later ones find in memory."""


@dataclass(frozen=True, slots=True)
class Start:
    """From the start of a process until it has answered its first verification.

    Attributes:
        seconds: How long that took, median of all starts.
        cpu_s: CPU that it took, median of all starts.
        memory: Anonymous memory then, in bytes, the most of all starts.
    """

    seconds: float
    cpu_s: float
    memory: int


@dataclass(frozen=True, slots=True)
class Point:
    """One registry.

    Attributes:
        licenses: How many it held.
        cities: Of how many.
        filled_s: How long filling it took.
        echo_us: CPU of a bare call, in microseconds.
        verify_us: CPU of server and database a verification, in microseconds.
        verdict_us: The same a verdict of a batch.
        times_echo: A verification as a multiple of a bare call of the same round, median.
        start: How it starts.
        memory: Its anonymous memory after everything was asked, in bytes.
    """

    licenses: int
    cities: int
    filled_s: float
    echo_us: float
    verify_us: float
    verdict_us: float
    times_echo: float
    start: Start
    memory: int

    def times(self, smallest: Point) -> float:
        """Return how many times as much a verification costs as at another point, both beside their bare calls."""
        return self.times_echo / smallest.times_echo


async def measure_point(house: House, size: Size, *, rounds: int) -> Point:
    """Measure a registry that is filled and does not run."""
    measurement = Measurement(house, size)
    bare, single, batch, *_ = await measurement.run(rounds=rounds, unrecorded=False)
    if (bare.name, single.name) != (ECHO, EVERYTHING):
        raise ExpectationFailed("the figures are not those of a verification")
    return Point(
        licenses=house.licenses,
        cities=house.cities,
        filled_s=house.loaded_s,
        echo_us=bare.cost_us,
        verify_us=single.cost_us,
        verdict_us=batch.cost_us,
        times_echo=1 / median(single.cheaper),
        start=await _start(house),
        memory=measurement.memory,
    )


async def _start(house: House) -> Start:
    credentials = house.admitted(ROLE)
    question = Questions(house.licenses).one()
    seconds, cpu_s, memory = [], [], []
    for _ in range(STARTS):
        began = time.monotonic()
        serving = await house.serve()
        driver = Driver(credentials, VERIFY, in_flight=1)
        try:
            verdict = pb.VerifyLicenseResponse.FromString(await driver.one(question)).verdict
        finally:
            await driver.close()
        if verdict.outcome != pb.OUTCOME_VALID:
            raise ExpectationFailed("the registry did not say VALID after its start")
        process = Processes(serving.pid)
        seconds.append(time.monotonic() - began)
        cpu_s.append(process.cpu_s())
        memory.append(process.anonymous_bytes())
        await serving.stop()
    return Start(median(seconds), median(cpu_s), max(memory))


@dataclass(frozen=True, slots=True)
class Scale:
    """What came out.

    Attributes:
        store: Which database.
        by_licenses: Points with ever more licences, of the same number of cities.
        by_cities: Points with ever more cities, with the same number of licences.
    """

    store: str
    by_licenses: Sequence[Point]
    by_cities: Sequence[Point]

    def markdown(self) -> str:
        """Return two tables."""
        parts = [f"### Cost against size ({self.store})"]
        for title, points, key in (
            ("licences", self.by_licenses, _licenses),
            ("cities", self.by_cities, _cities),
        ):
            if points:
                parts.append("\n".join(_table(title, points, key)))
        return "\n\n".join(parts)


def _licenses(point: Point) -> int:
    return point.licenses


def _cities(point: Point) -> int:
    return point.cities


def _table(title: str, points: Sequence[Point], key: Callable[[Point], int]) -> list[str]:
    smallest = points[0]
    head = (
        f"| {title} | bare call, µs | VerifyLicense, µs | × a bare call | against the first line "
        "| a verdict of a batch, µs | start to first answer, s | CPU of a start, s | anonymous MiB, start | end |"
    )
    return [head, "|---" * 10 + "|"] + [
        f"| {key(each):,} | {each.echo_us:.0f} | {each.verify_us:.0f} | {each.times_echo:.2f} "
        f"| {each.times(smallest):.2f} | {each.verdict_us:.1f} | {each.start.seconds:.2f} | {each.start.cpu_s:.2f} "
        f"| {each.start.memory / 2**20:.0f} | {each.memory / 2**20:.0f} |"
        for each in points
    ]
