"""How PostgreSQL finds what a batch is about: by keys, never by reading a table whole, and anew if it came too late."""

from __future__ import annotations

import asyncio
import secrets

from sqlalchemy import Connection

from elicense.sql.database import Database
from elicense.sql.embedded import PostgresServer
from elicense.sql.schema import create_tables
from registry.model import Claim, ClaimState
from registry.store import RegistryStore, metadata
from tests.integration.registry.world import SUZHOU
from tests.support.cluster import eventually

PERSONS = 2_000
WAITS = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
READ_WHOLE = "SELECT relname, seq_scan FROM pg_stat_xact_user_tables WHERE seq_scan > 0"


def test_a_batch_reads_no_table_whole_however_few_licenses_there_are(postgres: PostgresServer) -> None:
    persons = sorted(secrets.token_bytes(16) for _ in range(PERSONS))
    claims = [Claim(key, SUZHOU, key, "request", ClaimState.LEASED, 1, 1, 1) for key in persons]
    rows = [(key, key, SUZHOU, 1, place, 1, 1, 0, bytes(32), b"", b"", 1) for place, key in enumerate(persons)]
    store = RegistryStore()

    def grant(conn: Connection) -> list[object]:
        store.claims.acquire(conn, claims, lapsed={})
        return list(conn.exec_driver_sql(READ_WHOLE))

    def fold(conn: Connection) -> list[object]:
        assert not store.view.links.of(conn, persons)
        assert len(store.claims.use_leases(conn, SUZHOU, persons)) == PERSONS
        store.view.add_values(conn, rows)
        assert len(store.view.by_person(conn, persons)) == PERSONS
        assert len(store.claims.of(conn, persons, lock=True)) == PERSONS
        store.claims.hold(conn, SUZHOU, dict.fromkeys(persons, bytes(16)))
        return list(conn.exec_driver_sql(READ_WHOLE))

    with postgres.database() as url:
        create_tables(url, metadata)
        database = Database(url)
        try:
            assert [database.write_now(grant), database.write_now(fold)] == [[], []]
        finally:
            database.close()


async def test_a_batch_that_finds_its_license_taken_meanwhile_looks_again(postgres: PostgresServer) -> None:
    person, license_id = bytes(16), bytes([1] * 16)
    row = (person, license_id, SUZHOU, 1, 0, 1, 1, 0, bytes(32), b"", b"", 1)
    store, locked, tries = RegistryStore(), asyncio.Event(), list[int]()
    loop, release = asyncio.get_running_loop(), asyncio.Event()

    def take_first(conn: Connection) -> None:
        store.claims.of(conn, [person], lock=True)
        loop.call_soon_threadsafe(locked.set)
        asyncio.run_coroutine_threadsafe(release.wait(), loop).result()
        store.view.add_values(conn, [row])

    def fold(conn: Connection) -> bool:
        used = store.claims.use_leases(conn, SUZHOU, [person])
        tries.append(len(used))
        store.view.add_values(conn, [row] if used else [])
        return bool(used)

    with postgres.database() as url:
        create_tables(url, metadata)
        database = Database(url)
        try:
            lease = Claim(person, SUZHOU, license_id, "request", ClaimState.LEASED, 1, 1, 1)
            await database.write(lambda conn: store.claims.acquire(conn, [lease], lapsed={}))
            first = asyncio.create_task(database.write(take_first))
            await locked.wait()
            second = asyncio.create_task(database.write(fold))

            async def waits() -> bool:
                return bool(await database.read(lambda conn: conn.exec_driver_sql(WAITS).scalar_one()))

            await eventually(waits)
            release.set()
            await first
            assert await second is False
            assert tries == [1, 0]
        finally:
            release.set()
            database.close()
