"""PostgreSQL of a city or of the registry: connections that end at the worst moment, a server that does not write."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from functools import partial

import psycopg

from tests.faults.fault import Break, Fault, Trial
from tests.faults.kinds.kills import registry_killed
from tests.faults.kinds.storage import REFUSING
from tests.faults.world import CHENGDU, SUZHOU, Node
from tests.support.postgres import PostgresServer
from tests.support.proxy import Proxy

_COMMIT = b"COMMIT"
_AT_COMMIT = "PostgreSQL lost at COMMIT, carried out or not; every connection ended"
_REGISTRY = "registry on PostgreSQL: kill -9, lost at COMMIT, every connection ended, read-only, away"

Whose = Callable[[Trial], Node]


def of_city(trial: Trial) -> Node:
    """Return the city under attack."""
    return trial.city


def of_registry(trial: Trial) -> Node:
    """Return the registry."""
    return trial.world.registry


def _storage(node: Node) -> Proxy:
    assert node.storage is not None
    return node.storage


@asynccontextmanager
async def commit_unanswered(trial: Trial, *, whose: Whose, arrives: bool) -> AsyncIterator[None]:
    """Cut the connection at a COMMIT: before it arrives, or before its answer does."""
    storage = _storage(whose(trial))
    cut = 0

    def passes(piece: bytes) -> bool:
        nonlocal cut
        if _COMMIT not in piece:
            return True
        cut += 1
        return False

    if arrives:
        storage.inspect_after = passes
    else:
        storage.inspect = passes
    try:
        before = cut
        while cut == before:
            await trial.a_moment(0.02)
    finally:
        storage.heal()
    yield


def _server(trial: Trial, whose: Whose) -> tuple[PostgresServer, str]:
    assert trial.postgres is not None
    return trial.postgres, whose(trial).database_url.partition("?")[0].rpartition("/")[2]


def _terminate(server: PostgresServer, database: str) -> None:
    server.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
        f"WHERE datname = '{database}' AND pid <> pg_backend_pid()"
    )


@asynccontextmanager
async def terminated(trial: Trial, *, whose: Whose) -> AsyncIterator[None]:
    for _ in range(5):
        await trial.a_moment(0.05)
        await asyncio.to_thread(_terminate, *_server(trial, whose))
    yield


@asynccontextmanager
async def read_only(trial: Trial, *, whose: Whose) -> AsyncIterator[None]:
    """Every write is refused the way a server refuses it that has become a standby."""
    server, database = _server(trial, whose)
    for statement in (
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
        "RAISE EXCEPTION 'read-only' USING ERRCODE = '25006'; END $$",
        "CREATE TRIGGER refuse BEFORE INSERT ON log_entry EXECUTE FUNCTION refuse()",
    ):
        # The node's connections run through this loop, and one may hold the lock that is waited for.
        await asyncio.to_thread(server.execute, statement, database)
    try:
        yield
    finally:
        await asyncio.to_thread(server.execute, "DROP FUNCTION refuse() CASCADE", database)


@asynccontextmanager
async def away(trial: Trial, *, whose: Whose) -> AsyncIterator[None]:
    storage = _storage(whose(trial))
    storage.cut()
    try:
        yield
    finally:
        storage.heal()


@asynccontextmanager
async def crowded_out(trial: Trial, *, whose: Whose) -> AsyncIterator[None]:
    """Others take every connection that the server has."""
    server, database = _server(trial, whose)
    taken: list[psycopg.Connection] = []
    try:
        await asyncio.to_thread(_take_all, server, taken)
        # The node may be quicker to take one back.
        while await asyncio.to_thread(_end_those_of, taken[0], database):
            await asyncio.to_thread(_take_all, server, taken)
        yield
    finally:
        for connection in taken:
            await asyncio.to_thread(connection.close)


def _take_all(server: PostgresServer, taken: list[psycopg.Connection]) -> None:
    with suppress(psycopg.OperationalError):
        while True:
            taken.append(psycopg.connect(f"host={server.folder} user=postgres", autocommit=True))


def _end_those_of(one: psycopg.Connection, database: str) -> int:
    """End every connection to a database; return how many there were."""
    return one.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", (database,)
    ).rowcount


@asynccontextmanager
async def left_behind(trial: Trial, broken: Break) -> AsyncIterator[None]:
    """See to it that the registry stored nothing of what a city acknowledged meanwhile."""
    async with broken(trial):
        yield
        held_by_city, held_by_registry = await asyncio.to_thread(trial.world.sizes, trial.city)
        assert held_by_city > held_by_registry, "the registry's store was not harmed"


POSTGRES = (
    Fault(
        "PostgreSQL lost at COMMIT, which did not arrive",
        partial(commit_unanswered, whose=of_city, arrives=False),
        CHENGDU,
        long_rounds=30,
        group=_AT_COMMIT,
    ),
    Fault(
        "PostgreSQL lost at COMMIT, which was carried out",
        partial(commit_unanswered, whose=of_city, arrives=True),
        CHENGDU,
        long_rounds=30,
        group=_AT_COMMIT,
    ),
    Fault(
        "PostgreSQL ends every connection",
        partial(terminated, whose=of_city),
        CHENGDU,
        rounds=0,
        long_rounds=10,
        group=_AT_COMMIT,
    ),
    Fault(
        "PostgreSQL read-only",
        partial(read_only, whose=of_city),
        CHENGDU,
        long_rounds=3,
        refusals=("STORE_UNAVAILABLE",),
        group=REFUSING,
    ),
    Fault(
        "PostgreSQL has no connection left",
        partial(crowded_out, whose=of_city),
        CHENGDU,
        rounds=0,
        long_rounds=3,
        refusals=("STORE_UNAVAILABLE",),
        group=REFUSING,
    ),
    Fault(
        "PostgreSQL away",
        partial(away, whose=of_city),
        CHENGDU,
        rounds=0,
        long_rounds=3,
        refusals=("STORE_UNAVAILABLE",),
        group=REFUSING,
    ),
)

#: Whatever happens to the registry's store, a city goes on.
_GOES_ON = 3

REGISTRY_ON_POSTGRES = (
    Fault("kill -9 of a registry on PostgreSQL", registry_killed, SUZHOU, long_rounds=60, group=_REGISTRY),
    Fault(
        "registry's PostgreSQL lost at COMMIT, which did not arrive",
        partial(commit_unanswered, whose=of_registry, arrives=False),
        SUZHOU,
        rounds=2,
        long_rounds=60,
        group=_REGISTRY,
    ),
    Fault(
        "registry's PostgreSQL lost at COMMIT, which was carried out",
        partial(commit_unanswered, whose=of_registry, arrives=True),
        SUZHOU,
        rounds=2,
        long_rounds=60,
        group=_REGISTRY,
    ),
    Fault(
        "registry's PostgreSQL ends every connection",
        partial(terminated, whose=of_registry),
        SUZHOU,
        long_rounds=20,
        group=_REGISTRY,
    ),
    Fault(
        "registry's PostgreSQL read-only",
        partial(left_behind, broken=partial(read_only, whose=of_registry)),
        SUZHOU,
        long_rounds=5,
        goes_on=_GOES_ON,
        group=_REGISTRY,
    ),
    Fault(
        "registry's PostgreSQL has no connection left",
        partial(crowded_out, whose=of_registry),
        SUZHOU,
        rounds=0,
        long_rounds=5,
        goes_on=_GOES_ON,
        group=_REGISTRY,
    ),
    Fault(
        "registry's PostgreSQL away",
        partial(left_behind, broken=partial(away, whose=of_registry)),
        SUZHOU,
        long_rounds=5,
        goes_on=_GOES_ON,
        group=_REGISTRY,
    ),
)
"""Of a nation whose registry is on PostgreSQL; that of all other faults is on SQLite."""
