"""Nodes of several processes each: any worker answers any call, and the death of one loses nothing."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import grpc
import pytest

from elicense.cli.demo.drivers import generate
from elicense.client import AsyncClient, Outcome, Purpose, Verdict, connect_async
from elicense.clock import china_date, utc_micros
from elicense.errors import Unavailable
from elicense.license.civil_date import date_to_message
from elicense.license.codec import license_to_message
from elicense.license.csv_format import parse_row
from elicense.rpc.channel import secure_channel
from elicense.rpc.errors import from_rpc_error
from elicense.sql.database import Database
from elicense.trust.credentials import load_credentials
from elicense.v1 import issuance_pb2 as pb
from elicense.v1 import issuance_pb2_grpc, license_pb2
from registry.store import access_store
from tests.support.postgres import PostgresServer
from tests.support.served import DEADLINE_S, SUZHOU, Pair, Served, pair, until

WORKERS = 2
CLERKS = 6
ISSUES_A_CLERK = 12
WATCHERS = 6


@pytest.fixture(params=["sqlite", "postgresql"])
def served(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Pair]:
    postgres: PostgresServer | None = request.getfixturevalue("postgres") if request.param == "postgresql" else None
    with pair(tmp_path, workers=WORKERS, postgres=postgres) as one:
        yield one


@dataclass
class Counter:
    """Clerks at work, each with a connection of its own, which the kernel gives to any worker."""

    stubs: list[issuance_pb2_grpc.IssuanceServiceStub]
    acknowledged: dict[str, str] = field(default_factory=dict)
    repeated: int = 0

    async def issue(self, clerk: int, license_: license_pb2.License) -> None:
        """Issue one licence as a client does: the same request again until there is an answer."""
        request = pb.CreateLicenseRequest(parent=f"cities/{SUZHOU}", license=license_, request_id=str(uuid.uuid4()))
        async with asyncio.timeout(DEADLINE_S):
            while True:
                try:
                    answer = await self.stubs[clerk].CreateLicense(request, timeout=20)
                except grpc.aio.AioRpcError as error:
                    if not isinstance(from_rpc_error(error), Unavailable):
                        raise
                    self.repeated += 1
                    await asyncio.sleep(0.05)
                else:
                    self.acknowledged[license_.holder.document.number] = answer.license.name
                    return

    async def issue_all(self, people: list[license_pb2.License]) -> None:
        async def at(clerk: int) -> None:
            for license_ in people[clerk :: len(self.stubs)]:
                await self.issue(clerk, license_)

        await asyncio.gather(*(at(clerk) for clerk in range(len(self.stubs))))


@asynccontextmanager
async def counter(served: Pair) -> AsyncIterator[Counter]:
    async with AsyncExitStack() as stack:
        channels = [
            await stack.enter_async_context(
                secure_channel(load_credentials(served.clerk), address=served.city.address, local_pool=True)
            )
            for _ in range(CLERKS)
        ]
        yield Counter([issuance_pb2_grpc.IssuanceServiceStub(channel) for channel in channels])


def people(count: int, seed: int) -> list[license_pb2.License]:
    rows = generate(SUZHOU, count, seed=seed, on=china_date(utc_micros()))
    return [license_to_message(parse_row(row)) for row, _ in rows]


async def asked(client: AsyncClient, number: str) -> Verdict:
    return await client.verify(number, purpose=Purpose.ROADSIDE_CHECK, case_number="R-1")


async def valid_nationwide(served: Pair, numbers: list[str]) -> None:
    """Ask over many connections until each worker of the registry says VALID of each."""
    async with asyncio.timeout(DEADLINE_S), AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(connect_async(served.police)) for _ in range(4)]
        for place, number in enumerate(numbers):
            client = clients[place % len(clients)]
            while (await asked(client, number)).outcome is not Outcome.VALID:  # noqa: ASYNC110  # told by others
                await asyncio.sleep(0.05)


def busy(node: Served, reader: Path, service: str) -> list[int]:
    """Return the numbers of the processes of a node that handled calls of a service."""
    processes = [each["worker"] for each in node.said("workers_ready")[0]["workers"]]
    first = min(processes)
    return [
        number
        for number in processes
        if node.metric(number - first, "grpc_server_handled_total", reader, grpc_service=service)
    ]


async def asked_of_each_worker(served: Pair, number: str) -> None:
    """Ask over one new connection after the other until each worker has answered: chance deals them out."""
    async with asyncio.timeout(DEADLINE_S):
        while len(await asyncio.to_thread(answering, served)) < WORKERS:
            async with connect_async(served.police) as client:
                await asked(client, number)


def answering(served: Pair) -> list[int]:
    return busy(served.registry, served.police, "elicense.v1.VerificationService")


async def reached(clerks: Counter, count: int, issuing: asyncio.Task[None]) -> None:
    async with asyncio.timeout(DEADLINE_S):
        while len(clerks.acknowledged) < count and not issuing.done():  # noqa: ASYNC110  # told by other processes
            await asyncio.sleep(0.01)


async def test_any_worker_answers_any_call_and_the_death_of_one_loses_nothing(served: Pair) -> None:
    drivers = people(CLERKS * ISSUES_A_CLERK, seed=3)
    async with counter(served) as clerks:
        issuing = asyncio.create_task(clerks.issue_all(drivers))
        await reached(clerks, 5, issuing)
        # Whoever led is among them, and so is a writer behind the others.
        has_writer = 0 in served.city.pids()
        victims = (
            ((served.city, 0), (served.registry, 0), (served.registry, 2))
            if has_writer
            else ((served.city, 1), (served.registry, 2), (served.city, 2))
        )
        for kill, (node, worker) in enumerate(victims, start=1):
            await asyncio.to_thread(node.kill, worker)
            await reached(clerks, len(drivers) * kill // 4, issuing)
        await issuing
        # A request that comes again, to whichever worker, is the same licence.
        assert len(set(clerks.acknowledged.values())) == len(drivers)
        await valid_nationwide(served, list(clerks.acknowledged))
        await all_watchers_hear(served, clerks, drivers[0].holder.document.number)
        await asked_of_each_worker(served, drivers[0].holder.document.number)
    assert len(answering(served)) == WORKERS
    await asyncio.to_thread(until, lambda: looks_not_listed(served.registry.folder) == 0, "every look is listed")
    for node in (served.city, served.registry):
        assert {line["lease"] for line in node.said("leads")} <= {f"city-{SUZHOU}", "registry"}
        assert node.stop() == 0
        node.run("fsck", "--config", node.config)


def looks_not_listed(folder: Path) -> int:
    """Return how many looks in the files of single processes are not in the index that holders' lists are made of."""
    store, left = access_store(), 0
    common = Database(f"sqlite:///{folder / 'access.db'}")
    try:
        indexed = {source.node: source.indexed_sequence for source in common.read_now(store.sources)}
        for number in range(1, WORKERS + 1):
            node, file = f"registry/{number}", folder / f"access-{number}.db"
            if file.exists():
                own = Database(f"sqlite:///{file}")
                try:
                    last = own.read_now(lambda conn: store.looks.last(conn, node))  # noqa: B023
                finally:
                    own.close()
                assert last.sequence, "every process has made looks"
                left += last.sequence - indexed.get(node, 0)
    finally:
        common.close()
    return left


async def all_watchers_hear(served: Pair, clerks: Counter, number: str) -> None:
    """Watch over several connections, suspend, and see that each hears of it."""
    letter = license_pb2.StatusLetter(
        letter="D", legal_basis="Article 91", start_date=date_to_message(china_date(utc_micros())), authority="Suzhou"
    )
    async with asyncio.timeout(DEADLINE_S), AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(connect_async(served.police)) for _ in range(WATCHERS)]
        watches = [client.watch(number, purpose=Purpose.ROADSIDE_CHECK, case_number="R-1") for client in clients]
        assert {(await anext(watch)).outcome for watch in watches} == {Outcome.VALID}
        name, request_id = clerks.acknowledged[number], str(uuid.uuid4())
        await clerks.stubs[1].SetStatus(pb.SetStatusRequest(name=name, add_letters=[letter], request_id=request_id))
        assert {(await anext(watch)).outcome for watch in watches} == {Outcome.INVALID}
        for watch in watches:
            await watch.aclose()
