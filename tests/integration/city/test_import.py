"""Importing a city's existing drivers from a file, in process against a real node."""

from __future__ import annotations

import asyncio
import csv
import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from city_node.import_progress import Progress
from city_node.importer import Files, Importer, Summary
from elicense import errors
from elicense.cli.demo.drivers import generate
from elicense.clock import china_date, utc_micros
from elicense.license.codec import license_to_message
from elicense.license.csv_format import COLUMNS, parse_row
from elicense.rpc.channel import secure_channel
from elicense.v1 import issuance_pb2 as pb
from elicense.v1 import issuance_pb2_grpc, license_pb2
from tests.integration.city.test_outage import roots
from tests.support.cluster import DEADLINE_S, SUZHOU, City, Cluster, call

ROWS = 90
BAD_SHARE = 0.2


@dataclass
class Screen:
    """What the person at the terminal saw."""

    waits: list[str] = field(default_factory=list)
    went_on: int = 0
    on_wait: Callable[[], None] = lambda: None

    def settled(self, progress: Progress) -> None:
        return

    def waiting(self, why: errors.Error) -> None:
        self.waits.append(why.reason)
        self.on_wait()

    def going_on(self) -> None:
        self.went_on += 1


def write_drivers(file: Path, rows: int, *, seed: int = 3, on: date | None = None) -> set[int]:
    """Write a file of drivers and return the numbers of the rows that must be refused."""
    refused = set()
    with file.open("w", encoding="utf-8", newline="") as sink:
        writer = csv.DictWriter(sink, COLUMNS)
        writer.writeheader()
        day = on or china_date(utc_micros())
        for number, (row, good) in enumerate(generate(SUZHOU, rows, seed=seed, on=day, bad_share=BAD_SHARE), start=1):
            writer.writerow(row)
            if not good:
                refused.add(number)
    return refused


def files_in(folder: Path) -> Files:
    return Files(folder / "drivers.csv", folder / "rejects.csv", folder / "drivers.progress")


def refusals(files: Files) -> list[tuple[int, str]]:
    with files.rejects.open(encoding="utf-8", newline="") as lines:
        return [(int(row["row"]), row["reasons"]) for row in csv.DictReader(lines)]


@asynccontextmanager
async def importer(city: City, files: Files, screen: Screen, *, rows_per_call: int = 20) -> AsyncIterator[Importer]:
    async with secure_channel(
        city.clerk_credentials, address=city.running.address, retries=False, local_pool=True
    ) as channel:
        yield Importer(
            stub=issuance_pb2_grpc.IssuanceServiceStub(channel),
            parent=city.parent,
            files=files,
            display=screen,
            random=secrets.token_bytes,
            rows_per_call=rows_per_call,
        )


async def run(city: City, files: Files, screen: Screen | None = None) -> Summary:
    async with importer(city, files, screen or Screen()) as work:
        return await work.run()


async def licenses(city: City) -> list[license_pb2.License]:
    request = pb.ListLicensesRequest(parent=city.parent, page_size=1_000)
    page = await call(city.issuance().ListLicenses(request, timeout=DEADLINE_S))
    return list(page.licenses)


async def test_good_rows_are_imported_and_every_other_is_named_with_its_reasons(
    cluster: Cluster, suzhou: City, tmp_path: Path
) -> None:
    files = files_in(tmp_path)
    refused = write_drivers(files.source, ROWS)
    assert refused
    summary = await run(suzhou, files)
    assert (summary.rows, summary.imported, summary.refused) == (ROWS, ROWS - len(refused), len(refused))
    assert {number for number, _ in refusals(files)} == refused
    assert all(reasons for _, reasons in refusals(files))
    imported = await licenses(suzhou)
    assert len(imported) == ROWS - len(refused)
    assert not any(license_.provisional for license_ in imported)
    await suzhou.replicated()
    ours, theirs = roots(cluster, suzhou)
    assert ours == theirs
    assert ours[0] == len(imported)


async def test_a_finished_import_given_again_imports_nothing(suzhou: City, tmp_path: Path) -> None:
    files = files_in(tmp_path)
    write_drivers(files.source, 30)
    first = await run(suzhou, files)
    before = files.rejects.read_bytes()
    again = await run(suzhou, files)
    assert (again.rows, again.imported, again.refused) == (first.rows, first.imported, first.refused)
    assert again.resumed
    assert files.rejects.read_bytes() == before
    assert len(await licenses(suzhou)) == first.imported


class Cut(Exception):
    """The importer is cut off here."""


class CutStub:
    """A stub whose n-th call has its answer lost after the node has done the work; several may be in flight."""

    def __init__(self, stub: issuance_pb2_grpc.IssuanceServiceStub, lost: int) -> None:
        self._stub = stub
        self._lost = lost

    async def ImportLicenses(self, request: pb.ImportLicensesRequest, **options: float) -> Any:  # noqa: N802
        self._lost -= 1
        lost = self._lost == 0
        answer = await self._stub.ImportLicenses(request, **options)
        if lost:
            raise Cut
        return answer


@pytest.mark.parametrize("lost", [1, 3])
async def test_an_import_that_was_cut_off_goes_on_without_a_duplicate_or_a_gap(
    suzhou: City, tmp_path: Path, lost: int
) -> None:
    files = files_in(tmp_path)
    refused = write_drivers(files.source, ROWS)
    async with importer(suzhou, files, Screen()) as work:
        work._stub = CutStub(work._stub, lost)  # type: ignore[assignment]
        with pytest.raises(Cut):
            await work.run()
    # What was written last is not settled: a line that a kill left half-way is cut off again.
    with files.rejects.open("ab") as sink:
        sink.write(b"99999,half a li")
    summary = await run(suzhou, files)
    assert summary.resumed == (lost > 1)
    assert (summary.imported, summary.refused) == (ROWS - len(refused), len(refused))
    numbers = [number for number, _ in refusals(files)]
    assert numbers == sorted(refused)
    assert len(await licenses(suzhou)) == ROWS - len(refused)


async def test_a_file_that_changed_meanwhile_is_refused(suzhou: City, tmp_path: Path) -> None:
    files = files_in(tmp_path)
    write_drivers(files.source, 30)
    await run(suzhou, files)
    write_drivers(files.source, 30, seed=4)
    with pytest.raises(errors.Malformed, match="has changed"):
        await run(suzhou, files)


async def test_a_second_import_of_the_same_file_at_once_is_refused(suzhou: City, tmp_path: Path) -> None:
    files = files_in(tmp_path)
    write_drivers(files.source, 30)
    results = await asyncio.gather(run(suzhou, files), run(suzhou, files), return_exceptions=True)
    assert sorted(type(result).__name__ for result in results) == ["AlreadyExists", "Summary"]


@pytest.mark.parametrize("content", [b"", b"a,b,c\n1,2,3\n", b'"unclosed'])
async def test_a_file_without_the_right_header_is_refused(suzhou: City, tmp_path: Path, content: bytes) -> None:
    files = files_in(tmp_path)
    files.source.write_bytes(content)
    with pytest.raises(errors.Malformed):
        await run(suzhou, files)


async def test_a_file_whose_header_was_put_right_is_imported(suzhou: City, tmp_path: Path) -> None:
    files = files_in(tmp_path)
    refused = write_drivers(files.source, 10)
    right = files.source.read_bytes()
    files.source.write_bytes(right.replace(b"document_number", b"number", 1))
    with pytest.raises(errors.Malformed, match="header"):
        await run(suzhou, files)
    assert not files.progress.exists()
    files.source.write_bytes(right)
    assert (await run(suzhou, files)).imported == 10 - len(refused)


async def test_rows_that_are_no_text_or_no_row_are_refused_and_the_others_imported(
    suzhou: City, tmp_path: Path
) -> None:
    files = files_in(tmp_path)
    write_drivers(files.source, 3, seed=11)
    lines = files.source.read_bytes().splitlines(keepends=True)
    lines[2:2] = [b"\xff\xfe" + lines[1], b"only,three,cells\n", b"\n", b'x"y",z\n']
    files.source.write_bytes(b"\xef\xbb\xbf" + b"".join(lines))
    summary = await run(suzhou, files)
    assert summary.rows == 6
    assert {number for number, _ in refusals(files)} >= {2, 3, 4}


async def test_an_unclosed_quote_spoils_its_own_row_and_no_other(suzhou: City, tmp_path: Path) -> None:
    files = files_in(tmp_path)
    day = china_date(utc_micros())
    with files.source.open("w", encoding="utf-8", newline="") as sink:
        writer = csv.DictWriter(sink, COLUMNS)
        writer.writeheader()
        writer.writerows(row for row, _ in generate(SUZHOU, 30, seed=5, on=day))
    lines = files.source.read_bytes().splitlines(keepends=True)
    lines[5] = b'"' + lines[5]
    lines[9] = lines[9].rstrip(b"\r\n") + b',"\r\n'
    files.source.write_bytes(b"".join(lines))
    summary = await run(suzhou, files)
    assert (summary.rows, summary.imported) == (30, 28)
    assert [number for number, _ in refusals(files)] == [5, 9]


@pytest.mark.parametrize("twice", ["rejects", "progress", "both"])
async def test_an_import_never_writes_over_its_own_source(suzhou: City, tmp_path: Path, twice: str) -> None:
    files = files_in(tmp_path)
    write_drivers(files.source, 5)
    before = files.source.read_bytes()
    link = tmp_path / "link.csv"
    link.hardlink_to(files.source)
    clashing = {
        "rejects": replace(files, rejects=link),
        "progress": replace(files, progress=tmp_path / "." / "x" / ".." / files.source.name),
        "both": replace(files, progress=files.rejects),
    }
    with pytest.raises(errors.Malformed, match="are one file"):
        await run(suzhou, clashing[twice])
    assert files.source.read_bytes() == before
    assert not files.rejects.exists()


async def test_a_new_import_writes_over_no_file_that_holds_something(suzhou: City, tmp_path: Path) -> None:
    files = files_in(tmp_path)
    write_drivers(files.source, 5)
    files.rejects.write_text("last year's accounts\n")
    with pytest.raises(errors.AlreadyExists, match="rejects"):
        await run(suzhou, files)
    assert not files.progress.exists()
    assert files.rejects.read_text() == "last year's accounts\n"
    # Nor does one that goes on, with another name for its rejects.
    other = replace(files, rejects=tmp_path / "other.csv")
    await run(suzhou, other)
    other.progress.write_text(other.progress.read_text().replace('"finished": true', '"finished": false'))
    with pytest.raises(errors.Malformed, match="not a file of refused rows"):
        await run(suzhou, files)
    assert files.rejects.read_text() == "last year's accounts\n"


async def test_an_import_whose_rejects_were_removed_meanwhile_does_not_go_on(suzhou: City, tmp_path: Path) -> None:
    files = files_in(tmp_path)
    write_drivers(files.source, ROWS)
    async with importer(suzhou, files, Screen()) as work:
        work._stub = CutStub(work._stub, 3)  # type: ignore[assignment]
        with pytest.raises(Cut):
            await work.run()
    files.rejects.unlink()
    with pytest.raises(errors.Malformed, match="shorter than the last run"):
        await run(suzhou, files)


async def test_a_summary_tells_the_rows_of_this_run_from_those_of_all(suzhou: City, tmp_path: Path) -> None:
    files = files_in(tmp_path)
    write_drivers(files.source, ROWS)
    async with importer(suzhou, files, Screen()) as work:
        work._stub = CutStub(work._stub, 3)  # type: ignore[assignment]
        with pytest.raises(Cut):
            await work.run()
    summary = await run(suzhou, files)
    assert (summary.rows, summary.rows_now, summary.resumed) == (ROWS, ROWS - 40, True)


async def test_an_import_waits_while_the_registry_is_away_and_issues_nothing_provisional(
    cluster: Cluster, suzhou: City, tmp_path: Path
) -> None:
    files = files_in(tmp_path)
    refused = write_drivers(files.source, 40)
    await cluster.stop_registry()
    waited = asyncio.Event()
    screen = Screen(on_wait=waited.set)
    working = asyncio.create_task(run(suzhou, files, screen))
    await waited.wait()
    assert await licenses(suzhou) == []
    await cluster.start_registry()
    summary = await working
    assert summary.imported == 40 - len(refused)
    assert set(screen.waits) == {"REGISTRY_UNREACHABLE"}
    assert screen.went_on == 1
    assert not any(license_.provisional for license_ in await licenses(suzhou))


async def test_an_import_waits_while_the_node_is_away(cluster: Cluster, suzhou: City, tmp_path: Path) -> None:
    files = files_in(tmp_path)
    refused = write_drivers(files.source, 40)
    waited = asyncio.Event()
    screen = Screen(on_wait=waited.set)
    async with importer(suzhou, files, screen) as work:
        await suzhou.stop()
        working = asyncio.create_task(work.run())
        await waited.wait()
        await suzhou.start()
        summary = await working
    assert summary.imported == 40 - len(refused)
    assert set(screen.waits) == {"PEER_UNREACHABLE"}


async def test_an_import_stops_when_the_caller_may_not_import(cluster: Cluster, suzhou: City, tmp_path: Path) -> None:
    files = files_in(tmp_path)
    write_drivers(files.source, 5)
    window = await cluster.enroll_at(suzhou, ("city", str(SUZHOU), "verifier", "traffic-window", "w"), tmp_path / "w")
    suzhou.clerk_credentials = window
    with pytest.raises(errors.CallerNotAllowed):
        await run(suzhou, files)


async def test_a_single_issue_gets_through_while_an_import_runs(suzhou: City, tmp_path: Path) -> None:
    files = files_in(tmp_path)
    write_drivers(files.source, 200)
    newcomers = [row for row, _ in generate(SUZHOU, 3, seed=99, on=china_date(utc_micros()))]
    working = asyncio.create_task(run(suzhou, files))
    for row in newcomers:
        assert (await suzhou.issue(license_to_message(parse_row(row)))).license.name
    await working
