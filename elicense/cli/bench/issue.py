"""``elicense bench issue``: what a licence costs at the counter and in an import, beside a bare call.

A registry and one city run as processes of their own, over mutual TLS.  Every
licence is claimed at the registry, judged by every rule, durable and signed
before it is answered, and replicated meanwhile.
"""

from __future__ import annotations

import csv
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Final

from elicense.cli.bench.drive import Driver
from elicense.cli.bench.echo import METHOD, request_of
from elicense.cli.bench.house import run_echo
from elicense.cli.bench.rounds import SERVER, Figure, Row, measure
from elicense.cli.bench.usage import Processes
from elicense.cli.demo.drivers import generate
from elicense.cli.demo.figures import ExpectationFailed
from elicense.cli.demo.nation import SUZHOU, Nation
from elicense.clock import china_date, utc_micros
from elicense.license.codec import license_to_message
from elicense.license.csv_format import COLUMNS, parse_row
from elicense.trust.credentials import load_credentials
from elicense.v1 import issuance_pb2 as pb
from elicense.v1 import license_pb2

ECHO: Final = "bare echo"
TOGETHER: Final = "CreateLicense, {} in flight"
ALONE: Final = "CreateLicense, one at a time"
IMPORT: Final = "import"
REGISTRY_PART: Final = "registry"
_CREATE: Final = "/elicense.v1.IssuanceService/CreateLicense"
_SEED: Final = 20_210_601


@dataclass(frozen=True, slots=True)
class Size:
    """How much is measured.

    Attributes:
        calls: Licences a round at the counter.
        in_flight: Calls at once.
        rows: Rows of the file that each round imports.
    """

    calls: int
    in_flight: int
    rows: int


class Issuing:
    """The rows of one city.

    Args:
        nation: Laid out; nothing runs yet.
        size: How much is measured.
    """

    def __init__(self, nation: Nation, size: Size) -> None:
        self._nation = nation
        self._size = size
        self._drivers: Iterator[dict[str, str]] = (
            row for row, _ in generate(SUZHOU.code, 10_000_000, seed=_SEED, on=china_date(utc_micros()))
        )
        self._callers: list[Driver] = []
        self._files = 0

    async def run(self, *, rounds: int) -> list[Figure]:
        """Start the nodes and measure."""
        nation, size = self._nation, self._size
        await nation.found()
        await nation.enroll_city(SUZHOU)
        city, registry = nation.nodes[SUZHOU], nation.registry
        folder = nation.clerk_folder(SUZHOU)
        await nation.admit(city, folder, "clerk", "window-1")
        assert city.child is not None and registry.child is not None  # noqa: S101, PT018  # both were started
        payers = {SERVER: Processes(city.child.pid), REGISTRY_PART: Processes(registry.child.pid)}
        credentials = load_credentials(folder)
        together, alone = (Driver(credentials, _CREATE, in_flight=count) for count in (size.in_flight, 1))
        echo, address = await run_echo(nation.household, city.folder / "credentials", nation.folder / "echo.log")
        bare = Driver(credentials, METHOD, address=address, in_flight=size.in_flight)
        self._callers = [together, alone, bare]
        question = self._request()
        request = request_of(len(question), len(await together.one(question)))
        files = [self._write() for _ in range(rounds + 1)]
        rows = [
            Row(ECHO, lambda: bare.run([request] * size.calls), {SERVER: Processes(echo.pid)}),
            Row(TOGETHER.format(size.in_flight), lambda: self._create(together, size.calls), payers, reference=ECHO),
            Row(ALONE, lambda: self._create(alone, max(1, size.calls // 16)), payers, reference=ECHO),
            Row(IMPORT, lambda: self._import(files.pop()), payers, unit="driver"),
        ]
        try:
            figures = await measure(rows, rounds=rounds)
        finally:
            for caller in self._callers:
                await caller.close()
            await echo.stop()
        return [
            replace(figure, notes={"registry's part, µs": round(figure.part_us(REGISTRY_PART), 1)})
            if figure.name != ECHO
            else figure
            for figure in figures
        ]

    def _licenses(self, count: int) -> list[license_pb2.License]:
        return [license_to_message(parse_row(row)) for row in islice(self._drivers, count)]

    def _request(self) -> bytes:
        (license_,) = self._licenses(1)
        return pb.CreateLicenseRequest(
            parent=SUZHOU.parent, license=license_, request_id=str(uuid.uuid4())
        ).SerializeToString()

    async def _create(self, driver: Driver, count: int) -> int:
        def check(answer: bytes) -> None:
            if pb.CreateLicenseResponse.FromString(answer).license.provisional:
                raise ExpectationFailed("a licence was issued without a grant")

        return await driver.run([self._request() for _ in range(count)], check)

    def _write(self) -> Path:
        self._files += 1
        path = self._nation.folder / f"drivers-{self._files}.csv"
        with path.open("w", encoding="utf-8", newline="") as sink:
            writer = csv.DictWriter(sink, COLUMNS)
            writer.writeheader()
            writer.writerows(islice(self._drivers, self._size.rows))
        return path

    async def _import(self, file: Path) -> int:
        said = await self._nation.import_file(
            SUZHOU, file, rejects=file.with_suffix(".rejects"), progress=file.with_suffix(".progress")
        )
        if f"{self._size.rows:,} imported" not in said:
            raise ExpectationFailed(f"not every driver was imported: {said.strip()}")
        return self._size.rows
