"""A city's PostgreSQL: connections that end at the worst moment, and a server that refuses to write."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from functools import partial

import psycopg

from tests.faults.fault import Fault, Trial
from tests.faults.kinds.storage import REFUSING
from tests.faults.world import CHENGDU
from tests.support.postgres import PostgresServer

_COMMIT = b"COMMIT"
_AT_COMMIT = "PostgreSQL lost at COMMIT, carried out or not; every connection ended"


@asynccontextmanager
async def commit_unanswered(trial: Trial, *, arrives: bool) -> AsyncIterator[None]:
    """Cut the connection at a COMMIT: before it arrives, or before its answer does."""
    storage = trial.city.storage
    assert storage is not None
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


def _server(trial: Trial) -> tuple[PostgresServer, str]:
    assert trial.postgres is not None
    return trial.postgres, trial.city.database_url.partition("?")[0].rpartition("/")[2]


def _terminate(server: PostgresServer, database: str) -> None:
    server.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
        f"WHERE datname = '{database}' AND pid <> pg_backend_pid()"
    )


@asynccontextmanager
async def terminated(trial: Trial) -> AsyncIterator[None]:
    for _ in range(5):
        await trial.a_moment(0.05)
        await asyncio.to_thread(_terminate, *_server(trial))
    yield


@asynccontextmanager
async def read_only(trial: Trial) -> AsyncIterator[None]:
    """Every write is refused the way a server refuses it that has become a standby."""
    server, database = _server(trial)
    for statement in (
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
        "RAISE EXCEPTION 'read-only' USING ERRCODE = '25006'; END $$",
        "CREATE TRIGGER refuse BEFORE INSERT ON log_entry EXECUTE FUNCTION refuse()",
    ):
        # The city's connections run through this loop, and one may hold the lock that is waited for.
        await asyncio.to_thread(server.execute, statement, database)
    try:
        yield
    finally:
        await asyncio.to_thread(server.execute, "DROP FUNCTION refuse() CASCADE", database)


@asynccontextmanager
async def away(trial: Trial) -> AsyncIterator[None]:
    storage = trial.city.storage
    assert storage is not None
    storage.cut()
    try:
        yield
    finally:
        storage.heal()


@asynccontextmanager
async def crowded_out(trial: Trial) -> AsyncIterator[None]:
    """Others take every connection that the server has."""
    server, database = _server(trial)
    taken: list[psycopg.Connection] = []
    try:
        await asyncio.to_thread(_take_all, server, taken)
        # The city may be quicker to take one back.
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


POSTGRES = (
    Fault(
        "PostgreSQL lost at COMMIT, which did not arrive",
        partial(commit_unanswered, arrives=False),
        CHENGDU,
        long_rounds=30,
        group=_AT_COMMIT,
    ),
    Fault(
        "PostgreSQL lost at COMMIT, which was carried out",
        partial(commit_unanswered, arrives=True),
        CHENGDU,
        long_rounds=30,
        group=_AT_COMMIT,
    ),
    Fault("PostgreSQL ends every connection", terminated, CHENGDU, rounds=0, long_rounds=10, group=_AT_COMMIT),
    Fault("PostgreSQL read-only", read_only, CHENGDU, long_rounds=3, refusals=("STORE_UNAVAILABLE",), group=REFUSING),
    Fault(
        "PostgreSQL has no connection left",
        crowded_out,
        CHENGDU,
        rounds=0,
        long_rounds=3,
        refusals=("STORE_UNAVAILABLE",),
        group=REFUSING,
    ),
    Fault("PostgreSQL away", away, CHENGDU, rounds=0, long_rounds=3, refusals=("STORE_UNAVAILABLE",), group=REFUSING),
)
