"""``elicense bench verify``: what a verification costs beside a bare call.

An insurer asks: it must give the name, and gets classes and validity.  Every
number is asked about in turn, so that no cache but the database's own helps.
Everything is on: mutual TLS, authorisation, quotas, metrics, log lines, and the
durable access log, unless a row says otherwise.

Under ingest: a city sends new licences at a steady rate for as long as a round of
calls lasts.  In each round it sends as many alone before, over the same time, and
what that took of CPU is taken off; the figure with nothing taken off stands beside.
"""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

from elicense.cli.bench.drive import Driver
from elicense.cli.bench.echo import METHOD, request_of
from elicense.cli.bench.house import House
from elicense.cli.bench.ingest import SteadyIngest
from elicense.cli.bench.people import name_of, number_of
from elicense.cli.bench.rounds import SERVER, Figure, Row, measure
from elicense.cli.bench.sending import SENDERS, SendingCity, join_sender
from elicense.cli.bench.usage import Processes, disk_bytes
from elicense.cli.demo.figures import ExpectationFailed
from elicense.cli.demo.processes import Child
from elicense.sql.embedded import database_bytes
from elicense.trust.credentials import Credentials
from elicense.v1 import license_pb2
from elicense.v1 import verification_pb2 as pb

VERIFY: Final = "/elicense.v1.VerificationService/VerifyLicense"
BATCH: Final = "/elicense.v1.VerificationService/BatchVerifyLicenses"
ROLE: Final = "insurer"
ECHO: Final = "bare echo"
EVERYTHING: Final = "VerifyLicense"
UNRECORDED: Final = "VerifyLicense, access log off"
INGEST: Final = "ingest alone"
UNDER_INGEST: Final = "VerifyLicense under ingest"
CHECK_EVERY: Final = 16
"""One answer in so many is read; the driver would be the slower one otherwise."""


class Questions:
    """Draws questions about a store's synthetic holders.

    Args:
        licenses: How many the store holds.
        seed: Seed of the order.
    """

    def __init__(self, licenses: int, seed: int = 1) -> None:
        self._licenses = licenses
        self._random = random.Random(seed)  # noqa: S311  # spreads the questions, hides nothing

    def one(self) -> bytes:
        """Return a serialized VerifyLicense request."""
        return pb.VerifyLicenseRequest(query=self._query(), context=_context()).SerializeToString()

    def many(self, count: int) -> bytes:
        """Return a serialized BatchVerifyLicenses request."""
        queries = [self._query() for _ in range(count)]
        return pb.BatchVerifyLicensesRequest(queries=queries, context=_context()).SerializeToString()

    def _query(self) -> pb.LicenseQuery:
        holder = self._random.randrange(self._licenses)
        document = license_pb2.IdentityDocument(type=license_pb2.DOCUMENT_TYPE_RESIDENT_ID, number=number_of(holder))
        return pb.LicenseQuery(document=document, holder_name=name_of(holder))


def _context() -> pb.LookContext:
    return pb.LookContext(purpose=pb.PURPOSE_INSURANCE)


def _checker(outcomes: Callable[[bytes], Sequence[pb.Verdict]]) -> Callable[[bytes], None]:
    seen = 0

    def check(answer: bytes) -> None:
        nonlocal seen
        seen += 1
        if seen % CHECK_EVERY == 0:
            for verdict in outcomes(answer):
                _require_valid(verdict)

    return check


def _require_valid(verdict: pb.Verdict) -> None:
    if verdict.outcome != pb.OUTCOME_VALID:
        outcome = pb.Outcome.Name(verdict.outcome)
        reasons = ", ".join(pb.VerdictReason.Name(reason) for reason in verdict.reasons)
        raise ExpectationFailed(f"the registry said {outcome} of a synthetic licence ({reasons or 'no reason'})")


def _single(answer: bytes) -> Sequence[pb.Verdict]:
    return [pb.VerifyLicenseResponse.FromString(answer).verdict]


def _several(answer: bytes) -> Sequence[pb.Verdict]:
    return pb.BatchVerifyLicensesResponse.FromString(answer).verdicts


@dataclass(frozen=True, slots=True)
class Size:
    """How much is measured.

    Attributes:
        calls: Calls a round.
        in_flight: Calls at once.
        batch: Questions of a batch.
        ingest: Records a second under which verifications are measured as well; 0 for not at all.
        ingest_s: How long a round under ingest lasts, in seconds.
    """

    calls: int
    in_flight: int
    batch: int
    ingest: int = 0
    ingest_s: float = 3.0


class Measurement:
    """The rows of one store.

    Args:
        house: The registry.
        size: How much is measured.

    Attributes:
        memory: Anonymous memory of the registry after everything was asked, in bytes.
    """

    def __init__(self, house: House, size: Size) -> None:
        self.memory = 0
        self._house = house
        self._size = size
        self._questions = Questions(house.licenses)
        self._drivers: list[Driver] = []
        self._cities: list[SendingCity] = []

    async def run(self, *, rounds: int, unrecorded: bool = True) -> list[Figure]:
        """Measure echo, single verifications, batches, and verifications under ingest.

        Args:
            rounds: Rounds that count.
            unrecorded: Measure without the access log afterwards.
        """
        try:
            echo, address = await self._house.echo()
            recorded = await self._recorded(echo, address, rounds)
            return [*recorded, await self._unrecorded(echo, address, rounds)] if unrecorded else recorded
        finally:
            closing: list[Driver | SendingCity] = [*self._drivers, *self._cities]
            for closed in closing:
                await closed.close()

    async def _recorded(self, echo: Child, address: str, rounds: int) -> list[Figure]:
        began = time.monotonic()
        serving = await self._house.serve()
        started_s = time.monotonic() - began
        start_bytes = Processes(serving.pid).anonymous_bytes()
        credentials = await self._house.admit(ROLE)
        verify = self._driver(credentials, VERIFY)
        batch = self._driver(credentials, BATCH, in_flight=2)
        rows = [
            await self._echo_row(echo, address, credentials, verify),
            Row(EVERYTHING, lambda: self._ask(verify), self._house.payers(serving), reference=ECHO),
            Row(
                f"batch of {self._size.batch}",
                lambda: self._ask_many(batch),
                self._house.payers(serving),
                unit="verdict",
                reference=EVERYTHING,
            ),
            *(await self._ingest_rows(serving, verify) if self._size.ingest else ()),
        ]
        bare, single, *others = await measure(rows, rounds=rounds)
        self.memory = Processes(serving.pid).anonymous_bytes()
        notes = {
            "s from start to serving": round(started_s, 2),
            "anonymous MiB then": round(start_bytes / 2**20),
            "at the end": round(self.memory / 2**20),
        }
        await serving.stop()
        return [bare, replace(single, notes=notes), *others]

    async def _ingest_rows(self, serving: Child, verify: Driver) -> list[Row]:
        city = await join_sender(self._house, SENDERS[0])
        self._cities.append(city)
        ingest = SteadyIngest(
            city, first_holder=self._house.licenses, rate=self._size.ingest, seconds=self._size.ingest_s
        )
        payers = self._house.payers(serving)
        return [
            Row(INGEST, ingest.run, payers, unit="record", prepare=ingest.prepare),
            Row(
                UNDER_INGEST,
                lambda: self._ask_during(ingest, verify),
                payers,
                reference=ECHO,
                besides=INGEST,
                prepare=ingest.prepare,
            ),
        ]

    async def _unrecorded(self, echo: Child, address: str, rounds: int) -> Figure:
        serving = await self._house.serve(recorded=False)
        credentials = await self._house.admit(ROLE)
        # A connection of its own: the one before would wait before it tries again.
        verify = self._driver(credentials, VERIFY)
        rows = [
            await self._echo_row(echo, address, credentials, verify),
            Row(UNRECORDED, lambda: self._ask(verify), self._house.payers(serving), reference=ECHO),
        ]
        _, single = await measure(rows, rounds=rounds)
        await serving.stop()
        return single

    def _driver(
        self, credentials: Credentials, method: str, *, address: str | None = None, in_flight: int | None = None
    ) -> Driver:
        driver = Driver(credentials, method, address=address, in_flight=in_flight or self._size.in_flight)
        self._drivers.append(driver)
        return driver

    async def _echo_row(self, echo: Child, address: str, credentials: Credentials, verify: Driver) -> Row:
        """Return the reference: a bare call with requests and answers of the same size."""
        question = self._questions.one()
        request = request_of(len(question), len(await verify.one(question)))
        bare = self._driver(credentials, METHOD, address=address)
        return Row(ECHO, lambda: bare.run([request] * self._size.calls), {SERVER: Processes(echo.pid)})

    async def _ask(self, driver: Driver) -> int:
        requests = [self._questions.one() for _ in range(self._size.calls)]
        return await driver.run(requests, _checker(_single))

    async def _ask_many(self, driver: Driver) -> int:
        batch = self._size.batch
        requests = [self._questions.many(batch) for _ in range(-(-self._size.calls // batch) * 2)]
        return await driver.run(requests, _checker(_several)) * batch

    async def _ask_during(self, ingest: SteadyIngest, driver: Driver) -> int:
        """Ask until everything is taken in."""
        ingesting = asyncio.create_task(ingest.run())

        def questions() -> Iterator[bytes]:
            while not ingesting.done():
                yield self._questions.one()

        made = await driver.run(questions(), _checker(_single))
        await ingesting
        return made


async def facts(house: House, *, keys: int) -> dict[str, str | int | float]:
    """Return what a run says of its store: size, disk, and that many raw look-ups in microseconds of CPU a person."""
    raw = json.loads(await house.raw_reads(keys))
    told: dict[str, str | int | float] = {"store": house.database.store, "licenses": house.licenses}
    told["filled in s"] = round(house.loaded_s)
    url = house.database.url
    size = disk_bytes(house.files()) if url is None else await asyncio.to_thread(database_bytes, url)
    told["bytes a license"] = round(size / house.licenses)
    return told | {f"raw look-up by {key}, µs": round(float(taken), 1) for key, taken in raw.items()}
