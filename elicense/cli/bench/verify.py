"""``elicense bench verify`` and ``batch``: what a verification costs beside a bare call.

An insurer asks: it must give the name, and gets classes and validity.  Every
number is asked about in turn, so that no cache but the database's own helps.
Everything is on: mutual TLS, authorisation, quotas, metrics, log lines, and the
durable access log, unless a row says otherwise.
"""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final

from elicense.cli.bench.drive import Driver
from elicense.cli.bench.echo import METHOD, request_of
from elicense.cli.bench.house import House
from elicense.cli.bench.people import name_of, number_of
from elicense.cli.bench.rounds import SERVER, Figure, Row, measure
from elicense.cli.bench.usage import Processes, disk_bytes
from elicense.cli.demo.figures import ExpectationFailed
from elicense.cli.demo.processes import Child
from elicense.trust.credentials import Credentials
from elicense.v1 import license_pb2
from elicense.v1 import verification_pb2 as pb

VERIFY: Final = "/elicense.v1.VerificationService/VerifyLicense"
BATCH: Final = "/elicense.v1.VerificationService/BatchVerifyLicenses"
ROLE: Final = "insurer"
ECHO: Final = "bare echo"
EVERYTHING: Final = "VerifyLicense"
UNRECORDED: Final = "VerifyLicense, access log off"
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
        if seen % CHECK_EVERY == 0 and any(each.outcome != pb.OUTCOME_VALID for each in outcomes(answer)):
            raise ExpectationFailed("the registry did not say VALID of a synthetic licence")

    return check


def _single(answer: bytes) -> Sequence[pb.Verdict]:
    return [pb.VerifyLicenseResponse.FromString(answer).verdict]


def _several(answer: bytes) -> Sequence[pb.Verdict]:
    return pb.BatchVerifyLicensesResponse.FromString(answer).verdicts


class Measurement:
    """The rows of one store.

    Args:
        house: The registry.
        calls: Calls a round.
        in_flight: Calls at once.
        batch: Questions of a batch.
    """

    def __init__(self, house: House, *, calls: int, in_flight: int, batch: int) -> None:
        self._house = house
        self._calls = calls
        self._in_flight = in_flight
        self._batch = batch
        self._questions = Questions(house.licenses)
        self._drivers: list[Driver] = []

    async def run(self, *, rounds: int) -> list[Figure]:
        """Measure echo, single verifications and batches, with and without the access log."""
        try:
            echo, address = await self._house.echo()
            recorded = await self._recorded(echo, address, rounds)
            return [*recorded, await self._unrecorded(echo, address, rounds)]
        finally:
            for driver in self._drivers:
                await driver.close()

    async def _recorded(self, echo: Child, address: str, rounds: int) -> list[Figure]:
        began = time.monotonic()
        serving = await self._house.serve()
        started_s = time.monotonic() - began
        credentials = await self._house.admit(ROLE)
        verify = self._driver(credentials, VERIFY)
        batch = self._driver(credentials, BATCH, in_flight=2)
        rows = [
            await self._echo_row(echo, address, credentials, verify),
            Row(EVERYTHING, lambda: self._ask(verify), self._house.payers(serving), reference=ECHO),
            Row(
                f"batch of {self._batch}",
                lambda: self._ask_many(batch),
                self._house.payers(serving),
                unit="verdict",
                reference=EVERYTHING,
            ),
        ]
        bare, single, many = await measure(rows, rounds=rounds)
        memory = Processes(serving.pid).anonymous_bytes() / 2**20
        await serving.stop()
        return [
            bare,
            replace(single, notes={"s from start to serving": round(started_s, 1), "anonymous MiB": round(memory)}),
            many,
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
        driver = Driver(credentials, method, address=address, in_flight=in_flight or self._in_flight)
        self._drivers.append(driver)
        return driver

    async def _echo_row(self, echo: Child, address: str, credentials: Credentials, verify: Driver) -> Row:
        """Return the reference: a bare call with requests and answers of the same size."""
        question = self._questions.one()
        request = request_of(len(question), len(await verify.one(question)))
        bare = self._driver(credentials, METHOD, address=address)
        return Row(ECHO, lambda: bare.run([request] * self._calls), {SERVER: Processes(echo.pid)})

    async def _ask(self, driver: Driver) -> int:
        requests = [self._questions.one() for _ in range(self._calls)]
        return await driver.run(requests, _checker(_single))

    async def _ask_many(self, driver: Driver) -> int:
        requests = [self._questions.many(self._batch) for _ in range(-(-self._calls // self._batch) * 2)]
        return await driver.run(requests, _checker(_several)) * self._batch


async def facts(house: House, *, keys: int) -> dict[str, str | int | float]:
    """Return what a run says of its store: size, disk, and that many raw look-ups in microseconds of CPU a person."""
    raw = json.loads(await house.raw_reads(keys))
    told: dict[str, str | int | float] = {"licenses": house.licenses, "filled in s": round(house.loaded_s)}
    if house.database.url is None:
        told["store"] = "SQLite"
        told["bytes a license"] = round(disk_bytes(house.files()) / house.licenses)
    else:
        told["store"] = "PostgreSQL"
    return told | {f"raw look-up by {size}, µs": round(float(taken), 1) for size, taken in raw.items()}
