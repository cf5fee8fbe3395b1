"""``elicense bench issue``: what a licence costs at the counter and in an import, beside a bare call.

A registry and one city run as processes of their own, over mutual TLS.  Every
licence is claimed at the registry, judged by every rule, durable and signed
before it is answered, and replicated meanwhile.

One licence after the other is set against what it can not do without: two bare
calls, the clerk's and the claim at the registry, and one flush of the store.  And
citizens come to the counter at a steady rate, once with nothing else going on and
once while a file is imported: what the import does to their waiting is what counts.
"""

from __future__ import annotations

import asyncio
import csv
import os
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from statistics import median
from typing import Final

from elicense.cli.bench.counter import Counter, percentile_ms
from elicense.cli.bench.drive import Driver
from elicense.cli.bench.echo import METHOD, request_of
from elicense.cli.bench.house import run_echo
from elicense.cli.bench.rounds import DATABASE, SERVER, Figure, Row, measure
from elicense.cli.bench.usage import Processes
from elicense.cli.demo.drivers import generate
from elicense.cli.demo.figures import ExpectationFailed
from elicense.cli.demo.nation import SUZHOU, Nation
from elicense.clock import china_date, utc_micros
from elicense.license.codec import license_to_message
from elicense.license.csv_format import COLUMNS, parse_row
from elicense.sql.flush import flush_rows
from elicense.trust.credentials import load_credentials
from elicense.v1 import issuance_pb2 as pb
from elicense.v1 import license_pb2

ECHO: Final = "bare echo"
ECHO_ALONE: Final = "bare echo, one at a time"
FLUSH: Final = "one flush of the store"
TOGETHER: Final = "CreateLicense, {} in flight"
ALONE: Final = "CreateLicense, one at a time"
IMPORT: Final = "import"
AT_COUNTER: Final = "CreateLicense, {} a second"
DURING_IMPORT: Final = "CreateLicense, {} a second, during an import"
REGISTRY_PART: Final = "registry"
_NODES: Final = ((SERVER, "city"), (REGISTRY_PART, "registry"))
_CREATE: Final = "/elicense.v1.IssuanceService/CreateLicense"
_SEED: Final = 20_210_601


@dataclass(frozen=True, slots=True)
class Size:
    """How much is measured.

    Attributes:
        calls: Licences a round at the counter.
        in_flight: Calls at once.
        rows: Rows of a file; each round imports one alone and one while citizens come.
        citizens: How many a second come to the counter.
        counter_s: How long they do so with nothing else going on, in seconds.
    """

    calls: int
    in_flight: int
    rows: int
    citizens: int
    counter_s: float

    @property
    def alone(self) -> int:
        """Calls a round, one at a time."""
        return max(1, self.calls // 16)


class Issuing:
    """The rows of one city.

    Args:
        nation: Laid out; nothing runs yet.
        size: How much is measured.
        database_pid: Process id of the PostgreSQL server of both nodes, whose CPU counts; None for SQLite.
    """

    def __init__(self, nation: Nation, size: Size, *, database_pid: int | None = None) -> None:
        self._nation = nation
        self._database_pid = database_pid
        self._size = size
        self._drivers: Iterator[dict[str, str]] = (
            row for row, _ in generate(SUZHOU.code, 10_000_000, seed=_SEED, on=china_date(utc_micros()))
        )
        self._callers: list[Driver] = []
        self._files = 0
        self._waits: dict[str, list[list[float]]] = {}

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
        nodes = dict(payers)
        if self._database_pid is not None:
            payers[DATABASE] = Processes(self._database_pid)
        credentials = load_credentials(folder)
        together, alone = (Driver(credentials, _CREATE, in_flight=count) for count in (size.in_flight, 1))
        echo, address = await run_echo(nation.household, city.folder / "credentials", nation.folder / "echo.log")
        bare, bare_alone = (
            Driver(credentials, METHOD, address=address, in_flight=count) for count in (size.in_flight, 1)
        )
        self._callers = [together, alone, bare, bare_alone]
        question = self._request()
        request = request_of(len(question), len(await together.one(question)))
        files = [self._write() for _ in range(2 * (rounds + 1))]
        echoes, own = {SERVER: Processes(echo.pid)}, {SERVER: Processes(os.getpid(), below=False)}
        counter = Counter(lambda: self._create_one(together), size.citizens)
        at_counter, during = (name.format(size.citizens) for name in (AT_COUNTER, DURING_IMPORT))
        rows = [
            Row(ECHO, lambda: bare.run([request] * size.calls), echoes),
            Row(ECHO_ALONE, lambda: bare_alone.run([request] * size.alone), echoes),
            Row(FLUSH, lambda: self._flush(size.alone), own, unit="flush"),
            Row(TOGETHER.format(size.in_flight), lambda: self._create(together, size.calls), payers, reference=ECHO),
            Row(ALONE, lambda: self._create(alone, size.alone), payers, reference=ECHO_ALONE),
            # Not right behind an import: the registry is busy with it for a while after its last row was answered.
            Row(at_counter, lambda: self._serve(at_counter, counter), payers, reference=ECHO),
            Row(IMPORT, lambda: self._import(files.pop()), payers, unit="driver"),
            Row(
                during,
                lambda: self._serve(during, counter, files.pop()),
                payers,
                reference=ECHO,
                besides=IMPORT,
            ),
        ]
        try:
            figures = await measure(rows, rounds=rounds)
            memory = {
                f"anonymous MiB of the {name}": round(nodes[part].anonymous_bytes() / 2**20) for part, name in _NODES
            }
        finally:
            for caller in self._callers:
                await caller.close()
            await echo.stop()
        return self._noted({figure.name: figure for figure in figures}, at_counter, during, memory)

    def _noted(
        self, figures: dict[str, Figure], at_counter: str, during: str, memory: Mapping[str, float]
    ) -> list[Figure]:
        """Say beside the figures what is derived from several of them."""
        needed = _Needed(figures[ECHO_ALONE], figures[FLUSH])
        quiet, busy = (self._percentiles(name) for name in (at_counter, during))
        notes = {
            ALONE: needed.notes(figures[ALONE]),
            at_counter: quiet,
            during: {**busy, "times the p99 without an import": round(busy["p99 ms"] / quiet["p99 ms"], 2), **memory},
        }
        for name, figure in figures.items():
            own = dict(figure.notes)
            if REGISTRY_PART in figure.rounds[0].cpu_s:
                own["registry's part, µs"] = round(figure.part_us(REGISTRY_PART), 1)
            figures[name] = replace(figure, notes={**own, **notes.get(name, {})})
        return list(figures.values())

    def _percentiles(self, name: str) -> dict[str, float]:
        # The first round warms up.
        waits = [wait for each in self._waits[name][1:] for wait in each]
        return {f"p{percent} ms": round(percentile_ms(waits, percent), 1) for percent in (50, 99)}

    async def _flush(self, count: int) -> int:
        await asyncio.to_thread(flush_rows, self._nation.folder / "flushed.db", count)
        return count

    async def _serve(self, name: str, counter: Counter, file: Path | None = None) -> int:
        """Let citizens come, for as long as a file is imported if there is one."""
        if file is None:
            waits = await counter.serve_for(self._size.counter_s)
        else:
            importing = asyncio.create_task(self._import(file))
            waits = await counter.serve(importing.done)
            await importing
        self._waits.setdefault(name, []).append(waits)
        return len(waits)

    async def _create_one(self, driver: Driver) -> None:
        _check_granted(await driver.one(self._request()))

    def _licenses(self, count: int) -> list[license_pb2.License]:
        return [license_to_message(parse_row(row)) for row in islice(self._drivers, count)]

    def _request(self) -> bytes:
        (license_,) = self._licenses(1)
        return pb.CreateLicenseRequest(
            parent=SUZHOU.parent, license=license_, request_id=str(uuid.uuid4())
        ).SerializeToString()

    async def _create(self, driver: Driver, count: int) -> int:
        return await driver.run([self._request() for _ in range(count)], _check_granted)

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


def _check_granted(answer: bytes) -> None:
    if pb.CreateLicenseResponse.FromString(answer).license.provisional:
        raise ExpectationFailed("a licence was issued without a grant")


@dataclass(frozen=True, slots=True)
class _Needed:
    """What one licence can not do without.

    Attributes:
        bare: Bare calls, one at a time.
        flush: Flushes, one at a time.
    """

    bare: Figure
    flush: Figure

    def notes(self, alone: Figure) -> dict[str, float]:
        """Return the sum of two bare calls and one flush, and how many times as much a licence takes."""
        rounds = list(zip(alone.rounds, self.bare.rounds, self.flush.rounds, strict=True))
        cpu = [2 * bare.cost_us + flush.cost_us for _, bare, flush in rounds]
        took = [2 * bare.unit_s + flush.unit_s for _, bare, flush in rounds]
        return {
            "two bare calls and one flush, µs of CPU": round(median(cpu), 1),
            "times their CPU": round(
                median(ours.cost_us / sum_ for (ours, _, _), sum_ in zip(rounds, cpu, strict=True)), 2
            ),
            "two bare calls and one flush, ms": round(median(took) * 1_000, 2),
            "a licence, ms": round(median(ours.unit_s for ours, _, _ in rounds) * 1_000, 2),
            "times their time": round(
                median(ours.unit_s / sum_ for (ours, _, _), sum_ in zip(rounds, took, strict=True)), 2
            ),
        }
