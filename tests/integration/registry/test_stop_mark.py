"""A registry whose database reported damage signs nothing until its log was read from the disk again."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from sqlalchemy import Connection, exc

from elicense import errors
from elicense.log.model import REGISTRY_LOG
from elicense.sql.database import Database
from elicense.v1 import verification_pb2
from tests.integration.registry.world import SUZHOU, World, running_world
from tests.support.city import City

NUMBERS = ("11010519491231002X", "320500199003070134")


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with running_world(tmp_path) as world:
        yield world


async def grant(world: World, city: City, number: str) -> bool:
    await city.close()
    (claim,) = await city.claim(number)
    return claim.HasField("grant")


async def break_the_disk(world: World, city: City) -> None:
    """Have one commit end in an I/O error."""

    def fail(_: Database, __: Connection) -> None:
        error = sqlite3.OperationalError("disk I/O error")
        error.sqlite_errorcode = sqlite3.SQLITE_IOERR
        raise exc.OperationalError("COMMIT", {}, error)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Database, "_commit", fail)
        with pytest.raises(errors.StoreCorrupt):
            await city.claim(NUMBERS[1])
    # Whatever the disk does from now on.
    with pytest.raises(errors.StoreCorrupt):
        await city.claim(NUMBERS[1])


def swap(conn: Connection, record: bytes) -> bytes:
    """Put another record in the place of the registry's first decision; return the one that was there."""
    where = f"WHERE log = {REGISTRY_LOG} AND idx = 0"
    held: bytes = conn.exec_driver_sql(f"SELECT record FROM log_entry {where}").scalar_one()
    conn.exec_driver_sql(f"UPDATE log_entry SET record = ? {where}", (record,))
    return held


async def test_after_an_io_error_a_restart_reads_the_log_again_and_then_signs(world: World) -> None:
    city = await world.city(SUZHOU)
    assert await grant(world, city, NUMBERS[0])
    await break_the_disk(world, city)
    assert world.config.stop_mark_path.exists()
    await world.restart()
    assert not world.config.stop_mark_path.exists()
    assert await grant(world, city, NUMBERS[1])


async def test_a_log_that_is_damaged_after_an_io_error_is_not_signed_until_it_is_whole(world: World) -> None:
    city = await world.city(SUZHOU)
    assert await grant(world, city, NUMBERS[0])
    await break_the_disk(world, city)
    held = world.database.write_now(lambda conn: swap(conn, b"?"))
    for _ in range(2):
        await world.restart()
        with pytest.raises(errors.StoreCorrupt):
            await grant(world, city, NUMBERS[1])
    world.database.write_now(lambda conn: swap(conn, held))
    await world.restart()
    assert await grant(world, city, NUMBERS[1])


async def test_a_registry_whose_database_reported_damage_says_valid_of_nothing_until_its_log_is_whole(
    world: World,
) -> None:
    city, police = await world.city(SUZHOU), await world.verifier()
    city.issue(NUMBERS[0], claim=(await city.claim(NUMBERS[0]))[0])
    await city.replicate()
    assert (await police.ask(NUMBERS[0])).outcome == verification_pb2.OUTCOME_VALID
    await break_the_disk(world, city)
    assert (await police.ask(NUMBERS[0])).outcome == verification_pb2.OUTCOME_INDETERMINATE
    held = world.database.write_now(lambda conn: swap(conn, b"?"))
    await world.restart()
    assert (await police.ask(NUMBERS[0])).outcome == verification_pb2.OUTCOME_INDETERMINATE
    world.database.write_now(lambda conn: swap(conn, held))
    await world.restart()
    await city.replicate()
    assert (await police.ask(NUMBERS[0])).outcome == verification_pb2.OUTCOME_VALID
