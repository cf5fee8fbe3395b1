"""The client side of ``elicense-city import``: a file of drivers into the city's log, however long it takes.

Rows go to the node in batches, a few calls in flight, while the next batch is
read: the persons of one batch are claimed while the one before is committed.
Batches are settled in the order of the file, each in this order: the node's
answer, the rejects file, the progress file; each is durable before the next.
So a kill at any moment is followed by sending no more than what was in flight
again, under the same request ids.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import combinations, islice
from pathlib import Path
from typing import Final, Protocol

import grpc

from city_node.import_file import DriverFile, ReadRow, RejectsFile, reasons_of
from city_node.import_progress import Progress, RequestIds, advance, hold, open_progress, save_progress
from elicense.errors import AlreadyExists, Error, Exhausted, Malformed, Unavailable
from elicense.rpc.errors import from_rpc_error, from_status
from elicense.v1 import issuance_pb2, issuance_pb2_grpc

#: What the node takes in one call.
MAX_ROWS_PER_CALL: Final = 1_000
ROWS_PER_CALL: Final = MAX_ROWS_PER_CALL
#: One is judged, one claimed and one committed.
CALLS_IN_FLIGHT: Final = 3
#: A message may have 4 MiB; one row more than this still fits.
BYTES_PER_CALL: Final = 2 * 1024 * 1024
#: The node waits for the registry on its side before it answers.
CALL_SECONDS: Final = 90.0
FIRST_PAUSE_S: Final = 0.2
LONGEST_PAUSE_S: Final = 5.0


class Display(Protocol):
    """What a person sees while the import runs."""

    def settled(self, progress: Progress) -> None:
        """Show how far it is."""

    def waiting(self, why: Error) -> None:
        """Say that nothing goes on for now, and why."""

    def going_on(self) -> None:
        """Say that it goes on."""


@dataclass(frozen=True, slots=True)
class Summary:
    """What an import came to.

    Attributes:
        rows: Rows of the file.
        imported: Rows whose licence stands.
        refused: Rows in the rejects file.
        resumed: Whether an earlier run had begun it.
        rows_now: Rows that this run settled; the counts above are of all runs together.
        seconds: How long this run took.
    """

    rows: int
    imported: int
    refused: int
    resumed: bool
    rows_now: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Files:
    """The files of one import.

    Attributes:
        source: The drivers.
        rejects: Where refused rows go.
        progress: Where the import remembers how far it is.
    """

    source: Path
    rejects: Path
    progress: Path

    def check(self) -> None:
        """Refuse files that an import would destroy.

        Raises:
            Malformed: Two of the three are one file.
            AlreadyExists: A new import would write over a file that holds something.
        """
        for one, other in combinations((self.source, self.rejects, self.progress), 2):
            if one.resolve() == other.resolve() or (one.exists() and other.exists() and one.samefile(other)):
                raise Malformed(f"{one} and {other} are one file; drivers, rejects and progress need a file each")
        if not self.progress.exists() and self.rejects.exists() and self.rejects.stat().st_size:
            raise AlreadyExists(f"{self.rejects} holds something already; move it away or name another for --rejects")


@dataclass(frozen=True, slots=True)
class _Batch:
    """Rows of one call.

    Attributes:
        rows: The rows, those among them that can not be sent too.
        sent: Numbers of those that are sent.
        request: The call.
    """

    rows: Sequence[ReadRow]
    sent: Sequence[int]
    request: issuance_pb2.ImportLicensesRequest


class Importer:
    """Imports one file.

    Args:
        stub: The node's IssuanceService.
        parent: ``cities/{city}``.
        files: Source, rejects and progress.
        display: What a person sees.
        random: Gives this many random bytes.
        rows_per_call: Rows of one call.
    """

    def __init__(
        self,
        *,
        stub: issuance_pb2_grpc.IssuanceServiceStub,
        parent: str,
        files: Files,
        display: Display,
        random: Callable[[int], bytes],
        rows_per_call: int = ROWS_PER_CALL,
    ) -> None:
        self._stub = stub
        self._parent = parent
        self._files = files
        self._display = display
        self._random = random
        self._rows_per_call = rows_per_call
        self._waiting = 0

    async def run(self) -> Summary:
        """Import until every row is settled; waits for as long as the node or the registry is away.

        Raises:
            Malformed: The file or its progress can not be used.
            AlreadyExists: Another import of the file is running, or the rejects file holds something else.
            Error: The node refuses the whole import.
        """
        began = time.monotonic()
        files = self._files
        try:
            with files.source.open("rb") as source:
                hold(source)
                files.check()
                # Before progress is written: a file that is put right is another one, which that would refuse.
                drivers = DriverFile(source)
                progress = await asyncio.to_thread(open_progress, files.progress, files.source, random=self._random)
                began_at = progress.next_row
                resumed = progress.next_row > 1 or progress.finished
                if not progress.finished:
                    rejects = RejectsFile(files.rejects, progress.rejects_size)
                    try:
                        progress = await self._all(drivers, rejects, progress)
                    finally:
                        rejects.close()
        except OSError as error:
            raise Malformed(f"{error.filename or files.source}: {error.strerror}") from error
        return Summary(
            rows=progress.next_row - 1,
            imported=progress.imported,
            refused=progress.refused,
            resumed=resumed,
            rows_now=progress.next_row - began_at,
            seconds=time.monotonic() - began,
        )

    async def _all(self, drivers: DriverFile, rejects: RejectsFile, progress: Progress) -> Progress:
        batches = self._batches(drivers, progress)
        self._display.settled(progress)
        flying: deque[tuple[_Batch, asyncio.Task[dict[int, Error]]]] = deque()
        ahead = asyncio.create_task(_next(batches))
        try:
            while True:
                while len(flying) < CALLS_IN_FLIGHT and (batch := await ahead):
                    flying.append((batch, asyncio.create_task(self._send(batch))))
                    ahead = asyncio.create_task(_next(batches))
                if not flying:
                    break
                progress = await self._settle(flying[0][0].rows, await flying[0][1], rejects, progress)
                flying.popleft()
                self._display.settled(progress)
        finally:
            for _, sent in flying:
                sent.cancel()
            # The thread that reads must be done before the file is closed.
            await asyncio.gather(ahead, *(sent for _, sent in flying), return_exceptions=True)
        progress = replace(progress, finished=True)
        await asyncio.to_thread(save_progress, self._files.progress, progress)
        return progress

    def _batches(self, drivers: DriverFile, progress: Progress) -> Iterator[_Batch]:
        """Read the rows of one call after the other: a limited number, and no more than a message holds."""
        ids = RequestIds(progress.import_key)
        rows = drivers.rows(progress.next_row, progress.offset)
        while batch := _take(rows, self._rows_per_call):
            request = issuance_pb2.ImportLicensesRequest(parent=self._parent, columns=drivers.columns)
            sent = [row.number for row in batch if row.error is None]
            add = request.items.add
            for row in batch:
                if row.error is None:
                    add(row=row.line, request_id=ids.of(row.number))
            yield _Batch(batch, sent, request)

    async def _send(self, batch: _Batch) -> dict[int, Error]:
        """Have a batch imported, however long it takes; return why rows were refused, by row."""
        refused: dict[int, Error] = {row.number: row.error for row in batch.rows if row.error is not None}
        if batch.sent:
            response = await self._call(batch.request)
            for number, result in zip(batch.sent, response.results, strict=True):
                error = _error(result)
                if error is not None:
                    refused[number] = error
        return refused

    async def _settle(
        self, batch: Sequence[ReadRow], refused: dict[int, Error], rejects: RejectsFile, progress: Progress
    ) -> Progress:
        lines = [(number, reasons_of(error)) for number, error in sorted(refused.items())]
        size = await asyncio.to_thread(rejects.append, lines)
        progress = advance(
            progress,
            rows=len(batch),
            offset=batch[-1].end,
            imported=len(batch) - len(refused),
            refused=len(refused),
            rejects_size=size,
        )
        await asyncio.to_thread(save_progress, self._files.progress, progress)
        return progress

    async def _call(self, request: issuance_pb2.ImportLicensesRequest) -> issuance_pb2.ImportLicensesResponse:
        pause = FIRST_PAUSE_S
        waited = False
        while True:
            try:
                response: issuance_pb2.ImportLicensesResponse = await self._stub.ImportLicenses(
                    request, timeout=CALL_SECONDS
                )
            except grpc.RpcError as error:
                raised = from_rpc_error(error)
                if not isinstance(raised, (Unavailable, Exhausted)):
                    raise raised from error
            else:
                # A row whose fate is open is no refusal: the whole batch goes again.
                undecided = next(filter(_is_open, map(_error, response.results)), None)
                if undecided is None:
                    self._go_on(waited=waited)
                    if len(response.results) != len(request.items):
                        raise Malformed("the node's answer does not fit the rows that were sent")
                    return response
                raised = undecided
            if not waited:
                waited = True
                self._waiting += 1
            self._display.waiting(raised)
            await asyncio.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE_S)

    def _go_on(self, *, waited: bool) -> None:
        if not waited:
            return
        self._waiting -= 1
        if not self._waiting:
            self._display.going_on()


async def _next(batches: Iterator[_Batch]) -> _Batch | None:
    return await asyncio.to_thread(next, batches, None)


def _take(rows: Iterator[ReadRow], limit: int) -> list[ReadRow]:
    batch: list[ReadRow] = []
    size = 0
    for row in islice(rows, limit):
        batch.append(row)
        size += row.size
        if size > BYTES_PER_CALL:
            break
    return batch


def _error(result: issuance_pb2.ImportResult) -> Error | None:
    return from_status(result.status) if result.HasField("status") else None


def _is_open(error: Error | None) -> bool:
    return isinstance(error, (Unavailable, Exhausted))
