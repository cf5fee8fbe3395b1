"""The calls that a load test makes, each with what it brings."""

from __future__ import annotations

import uuid
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from random import Random
from typing import Final

from elicense.cli.demo.drivers import generate
from elicense.cli.load.scenario import MixSection
from elicense.client import AsyncClient, Outcome, Purpose, Question
from elicense.clock import china_date, utc_micros
from elicense.errors import Error
from elicense.license.codec import license_to_message
from elicense.license.csv_format import parse_row
from elicense.v1 import issuance_pb2, issuance_pb2_grpc, license_pb2

CASE_NUMBER: Final = "LOAD"
PEOPLE_OF_A_CITY: Final = 9_000_000
"""Who may come to the counters of a city: as many as have different numbers, in one with a single county too."""


class NobodyLeft(Error):
    """Everybody of a city has a licence."""

    reason = "NOBODY_LEFT"


class WrongAnswer(Error):
    """A licence that must be known was not, so whatever else was measured is worth nothing."""

    reason = "WRONG_ANSWER"


Call = Callable[[int], Awaitable[int]]


@dataclass(frozen=True, slots=True)
class Asked:
    """Whom verifications ask about, and how.

    Attributes:
        people: Holders of licences.
        purpose: Why.
    """

    people: Sequence[Question]
    purpose: Purpose = Purpose.ROADSIDE_CHECK


def verifying(clients: Sequence[AsyncClient], asked: Asked) -> Call:
    """Return a call that verifies one licence."""

    async def call(number: int) -> int:
        # In turn, so that nobody is looked at much more often than others.
        question = asked.people[number % len(asked.people)]
        verdict = await clients[number % len(clients)].verify(
            question.number,
            document_type=question.document_type,
            name=question.name,
            purpose=asked.purpose,
            case_number=CASE_NUMBER,
        )
        if verdict.outcome is Outcome.NO_MATCH:
            raise WrongAnswer("a licence that was issued is not known")
        return 1

    return call


def verifying_batches(clients: Sequence[AsyncClient], asked: Asked, size: int) -> Call:
    """Return a call that verifies ``size`` licences at once."""

    async def call(number: int) -> int:
        people = asked.people
        start = number * size
        questions = [people[place % len(people)] for place in range(start, start + size)]
        verdicts = await clients[number % len(clients)].verify_batch(
            questions, purpose=asked.purpose, case_number=CASE_NUMBER
        )
        if any(verdict.outcome is Outcome.NO_MATCH for verdict in verdicts):
            raise WrongAnswer("a licence that was issued is not known")
        return len(verdicts)

    return call


@dataclass(slots=True)
class Counter:
    """A counter of one city: connections of its clerk and people who come to it.

    Attributes:
        city: Division code.
        stubs: Its connections.
        people: Those who come, one after the other.
    """

    city: int
    stubs: Sequence[issuance_pb2_grpc.IssuanceServiceStub]
    people: Iterator[license_pb2.License]


def newcomers(city: int, seed: int) -> Iterator[license_pb2.License]:
    """Yield people who may get a licence in a city: made when they are needed, since it takes a while."""
    for row, _ in generate(city, PEOPLE_OF_A_CITY, seed=seed, on=china_date(utc_micros())):
        yield license_to_message(parse_row(row))


def issuing(counters: Sequence[Counter], *, timeout_s: float) -> Call:
    """Return a call that issues one licence, city by city in turn."""

    async def call(number: int) -> int:
        counter = counters[number % len(counters)]
        person = next(counter.people, None)
        if person is None:
            raise NobodyLeft(
                f"all {PEOPLE_OF_A_CITY:,} people of city {counter.city} that this test knows have a licence"
            )
        request = issuance_pb2.CreateLicenseRequest(
            parent=f"cities/{counter.city}", license=person, request_id=str(uuid.uuid4())
        )
        await counter.stubs[number // len(counters) % len(counter.stubs)].CreateLicense(request, timeout=timeout_s)
        return 1

    return call


def mixing(calls: Sequence[tuple[float, Call]], seed: int) -> Call:
    """Return a call that makes one of several, by their shares."""
    weights, choices = [weight for weight, _ in calls], [call for _, call in calls]
    random = Random(seed)  # noqa: S311  # a mix, no secret
    numbers = [0] * len(calls)
    places = range(len(calls))

    async def call(_: int) -> int:
        (place,) = random.choices(places, weights)
        numbers[place] += 1
        return await choices[place](numbers[place] - 1)

    return call


def shares(mix: MixSection, *, verify: Call, batch: Call, issue: Call) -> list[tuple[float, Call]]:
    """Return the calls of a mix with their shares, without those that have none."""
    everything = ((mix.verify, verify), (mix.batch, batch), (mix.issue, issue))
    return [(weight, call) for weight, call in everything if weight]
