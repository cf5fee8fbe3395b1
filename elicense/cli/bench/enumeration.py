"""``elicense bench enumeration``: can a caller tell an unknown number from a known one with another name, by time?

A registry and a city run as real processes.  A car rental enrolled at each asks,
in triples of random order: a number that nobody has; a number that somebody has,
with another name; and the latter once more with a delay of 20 µs planted into the
measured span.  The first two must not differ; the third must stand out, or the
measurement could not have seen a difference anyway.

Every number is asked about equally often, and no more often than a process counts
without a lease, so that quotas weigh alike on all.
"""

from __future__ import annotations

import asyncio
import json
import random
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import mkdtemp
from typing import Final

import click

from elicense.cli.bench.paired import MedianDifference, median_difference
from elicense.cli.demo.figures import ExpectationFailed
from elicense.cli.demo.nation import SUZHOU, Nation, plan_nation
from elicense.cli.demo.processes import Household, run_as_household
from elicense.cli.demo.rolls import make_roll
from elicense.clock import china_date, utc_micros
from elicense.license.model import License
from elicense.rpc.channel import secure_channel_sync
from elicense.trust.credentials import Credentials, load_credentials
from elicense.v1 import verification_pb2 as pb
from elicense.v1 import verification_pb2_grpc

PLANTED_US: Final = 20.0
"""Delay that the measurement must be able to see."""

ASKS_A_NUMBER: Final = 5
"""How often each number is asked about; quotas give that many without a lease."""

WARM_UP: Final = 300
"""Triples that are asked before any is measured."""

_DEADLINE_S: Final = 30.0


@dataclass(frozen=True, slots=True)
class Result:
    """What was measured at one node, in microseconds.

    Attributes:
        node: Which node was asked.
        typical: Median time of an answer.
        difference: A known number with another name, against an unknown number.
        planted: The same with the planted delay.
    """

    node: str
    typical: float
    difference: MedianDifference
    planted: MedianDifference

    @property
    def sees_planted(self) -> bool:
        """Whether the planted delay stands out."""
        return self.planted.low > 0


def measure(
    node: str, verify: Callable[[pb.VerifyLicenseRequest], pb.Verdict], people: People, *, triples: int, seed: int
) -> Result:
    """Ask a node in triples of random order.

    Raises:
        ExpectationFailed: An answer is something else than NO_MATCH.
    """
    order = random.Random(seed)  # noqa: S311  # spreads the order, hides nothing
    times: list[list[float]] = [[], [], []]
    for number in range(-WARM_UP, triples):
        requests = people.triple(number)
        kinds = [0, 1, 2]
        order.shuffle(kinds)
        taken = [0.0, 0.0, 0.0]
        for kind in kinds:
            began = time.perf_counter_ns()
            if kind == 2:
                _spin(began + int(PLANTED_US * 1_000))
            answer = verify(requests[kind])
            taken[kind] = (time.perf_counter_ns() - began) / 1_000
            if answer.outcome != pb.OUTCOME_NO_MATCH:
                raise ExpectationFailed(f"{node} answered outcome {answer.outcome} to a number without a match")
        if number >= 0:
            for kind in kinds:
                times[kind].append(taken[kind])
    unknown, mismatch, planted = times
    typical = sorted(unknown)[len(unknown) // 2]
    return Result(node, typical, median_difference(unknown, mismatch), median_difference(unknown, planted))


def _spin(until_ns: int) -> None:
    while time.perf_counter_ns() < until_ns:
        pass


class People:
    """Who is asked about.

    Args:
        known: Holders of licences; half of them are asked about with the planted delay.
        unknown: People without one, half as many as holders.
    """

    def __init__(self, known: Sequence[License], unknown: Sequence[License]) -> None:
        half = len(known) // 2
        self._arms = (unknown[:half], known[:half], known[half : 2 * half])
        self._names = unknown[:half]
        if len(self._names) < half:
            raise ExpectationFailed("there are too few people without a licence")

    def triple(self, number: int) -> list[pb.VerifyLicenseRequest]:
        """Return the three questions of a triple; each has the name of somebody without a licence."""
        place = number % len(self._names)
        return [_question(arm[place], self._names[place].holder.full_name) for arm in self._arms]


def _question(about: License, name: str) -> pb.VerifyLicenseRequest:
    document = about.holder.document
    request = pb.VerifyLicenseRequest()
    request.query.document.type = int(document.type)  # type: ignore[assignment]  # same numbers
    request.query.document.number = document.number
    # Nobody is called that, however many drivers there are.
    request.query.holder_name = f"{name}某"
    request.context.purpose = pb.PURPOSE_CAR_RENTAL
    return request


async def set_up(nation: Nation, triples: int) -> People:
    """Start a registry and Suzhou, import drivers there and enrol a car rental at each.

    Raises:
        ExpectationFailed: A node or a command failed.
    """
    half = -(-(triples + WARM_UP) // ASKS_A_NUMBER)
    file = nation.folder / "drivers.csv"
    # Some rows are refused, on purpose.
    roll = make_roll(file, SUZHOU, int(half * 2.1) + 50, half, seed=1, today=china_date(utc_micros()))
    await nation.found()
    await nation.enroll_city(SUZHOU)
    city = nation.nodes[SUZHOU]
    await nation.admit(city, nation.clerk_folder(SUZHOU), "clerk", "bench")
    await nation.admit(nation.registry, nation.people("registry-rental"), "verifier", "rental", "bench")
    await nation.admit(city, nation.people("city-rental"), "verifier", "rental", "bench")
    await nation.import_file(
        SUZHOU, file, rejects=nation.folder / "rejects.csv", progress=nation.folder / "progress.json"
    )
    return People(roll.imported[: 2 * half], roll.newcomers)


def ask_node(node: str, credentials: Credentials, people: People, *, triples: int) -> Result:
    """Measure one node with a caller of its own."""
    with secure_channel_sync(credentials) as channel:
        stub = verification_pb2_grpc.VerificationServiceStub(channel)

        def verify(request: pb.VerifyLicenseRequest) -> pb.Verdict:
            answer: pb.VerifyLicenseResponse = stub.VerifyLicense(request, timeout=_DEADLINE_S)
            return answer.verdict

        return measure(node, verify, people, triples=triples, seed=triples)


async def run(folder: Path, household: Household, *, triples: int) -> list[Result]:
    """Set up, measure the registry and the city, and stop everything."""
    nation = plan_nation(folder, household)
    try:
        people = await set_up(nation, triples)
        results = []
        for node, name in (("registry", "registry-rental"), ("city", "city-rental")):
            credentials = load_credentials(nation.people(name))
            results.append(await asyncio.to_thread(ask_node, node, credentials, people, triples=triples))
        return results
    finally:
        await nation.close()


@click.command()
@click.option("--pairs", type=click.IntRange(100, 1_000_000), default=20_000, show_default=True, help="Pairs a node.")
@click.option("--json", "as_json", is_flag=True, help="Print the figures as one JSON object.")
def enumeration(pairs: int, as_json: bool) -> None:
    """Try to tell unknown numbers from known ones by the time of the answer.

    Exit status 1 if the planted delay of 20 µs does not stand out: the machine is
    then too restless to say anything.
    """
    folder = Path(mkdtemp(prefix="elicense-bench-"))
    household = Household()
    try:
        results = run_as_household(run(folder, household, triples=pairs))
    finally:
        household.kill_all()
        shutil.rmtree(folder, ignore_errors=True)
    if as_json:
        click.echo(json.dumps([asdict(result) for result in results], indent=2))
    else:
        for result in results:
            click.echo(_lines(result))
    if not all(result.sees_planted for result in results):
        raise ExpectationFailed("the planted delay does not stand out; ask more pairs, or on a quieter machine")


def _lines(result: Result) -> str:
    found, planted = result.difference, result.planted
    return (
        f"{result.node}: {found.pairs} pairs, an answer takes {result.typical:.0f} µs\n"
        f"  known number with another name, against unknown: {found.median:+.2f} µs "
        f"(95 %: {found.low:+.2f} to {found.high:+.2f})"
        f"{'' if found.holds_zero else '  DIFFERENT'}\n"
        f"  with {PLANTED_US:.0f} µs planted: {planted.median:+.2f} µs "
        f"(95 %: {planted.low:+.2f} to {planted.high:+.2f})"
    )
