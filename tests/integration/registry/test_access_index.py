"""The index of looks by subject: built once from what is held, whatever is repeated, and the alarms that come of it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator

import pytest
from prometheus_client import CollectorRegistry

from elicense.access.alarms import AccessAlarms, Alarm
from elicense.access.entry import DAY_US, AccessEntry, AccessPosition, RecordedAccess
from elicense.access.recorder import AccessRecorder
from elicense.errors import Aborted, Error, SequenceGap, StoreUnavailable
from elicense.sql.database import Database
from elicense.trust.roles import MAX_SEALING_US
from registry.access_index import SEALED_LOOKS_PER_DAY, SUBJECT_LOOKS_PER_DAY, AccessIndex
from registry.access_intake import AccessIntake
from registry.access_store import AccessIndexStore, SubjectLook
from registry.store import access_metadata, access_store
from tests.integration.access.test_recorder import LOOK
from tests.support.stores import EmptyStore

CITY = 320500
NODE = "city-320500"
NOW_US = LOOK.at_us
ANNA, BORIS = b"a" * 16, b"b" * 16


class World:
    """An access log with its index, on one kind of store."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.now_us = NOW_US
        self.store: AccessIndexStore = access_store()
        self.metrics = CollectorRegistry()
        alarms = AccessAlarms(self.metrics)
        clock: Callable[[], int] = lambda: self.now_us  # noqa: E731  # the test moves it
        self.recorder = AccessRecorder(database=database, store=self.store.looks, node="registry", clock=clock)
        self.intake = AccessIntake(database=database, store=self.store)
        self.index = AccessIndex(
            database=database, store=self.store, recorder=self.recorder, alarms=alarms, clock=clock, leads=lambda: True
        )

    def of(self, subject: bytes, limit: int = 10_000) -> list[SubjectLook]:
        now_us = self.now_us
        return self.database.read_now(
            lambda conn: self.store.of_subjects(conn, [subject], now_us=now_us, before=None, limit=limit)
        )

    def alarms(self, alarm: Alarm) -> float:
        return self.metrics.get_sample_value("elicense_access_alarms_total", {"kind": alarm.value}) or 0

    async def take(self, *looks: RecordedAccess, complete_us: int = 0) -> AccessPosition:
        return await self.intake.take(node=NODE, city=CITY, looks=looks, complete_us=complete_us)


@pytest.fixture
def world(empty_store: EmptyStore) -> Iterator[World]:
    database = Database(empty_store.create(access_metadata))
    yield World(database)
    database.close()


def shipped(sequence: int, entry: AccessEntry = LOOK) -> RecordedAccess:
    return RecordedAccess(NODE, AccessPosition(entry.at_us // DAY_US, sequence), entry)


def at(*subjects: bytes, at_us: int = NOW_US, sealed_us: int = 0, caller: str = LOOK.caller) -> AccessEntry:
    count = len(subjects)
    return LOOK._replace(
        at_us=at_us,
        caller=caller,
        subjects=b"".join(subjects),
        outcomes=b"\x01" * count,
        fields=bytes(4 * count),
        sealed_until_us=at_us + sealed_us if sealed_us else 0,
    )


async def test_own_and_shipped_looks_are_indexed_once(world: World) -> None:
    await world.recorder.record(at(ANNA, BORIS, ANNA))
    await world.take(shipped(1, at(ANNA)), shipped(2, at(BORIS)))
    for _ in range(3):
        await world.index.catch_up()
        await world.take(shipped(1, at(ANNA)), shipped(2, at(BORIS)))
    assert sorted((look.node, look.sequence, look.place) for look in world.of(ANNA)) == [
        (NODE, 1, 0),
        ("registry", 1, 0),
        ("registry", 1, 2),
    ]
    assert len(world.of(BORIS)) == 2


async def test_indexers_side_by_side_index_each_look_once(world: World) -> None:
    for start in range(1, 1_000, 100):
        await world.take(*(shipped(n, at(ANNA)) for n in range(start, start + 100)))
    others = [World(world.database) for _ in range(2)]
    await asyncio.gather(
        *(each.index.catch_up() for each in [world, *others]), return_exceptions=True
    )  # a lost race is tried again with the next round
    await world.index.catch_up()
    assert len(world.of(ANNA)) == 1_000


async def test_looks_with_a_gap_are_not_taken(world: World) -> None:
    assert await world.take(shipped(1)) == shipped(1).position
    with pytest.raises(SequenceGap):
        await world.take(shipped(3))
    with pytest.raises(SequenceGap):
        await world.take(shipped(2), shipped(4))
    assert await world.take() == shipped(1).position


async def test_the_same_looks_sent_at_once_are_taken_once(world: World) -> None:
    looks = [shipped(n) for n in range(1, 51)]
    answers = await asyncio.gather(*(world.take(*looks) for _ in range(6)), return_exceptions=True)
    assert all(isinstance(each, AccessPosition | Aborted | StoreUnavailable | Error) for each in answers)
    assert await world.take(*looks) == looks[-1].position
    await world.index.catch_up()
    assert len(world.of(LOOK.subjects)) == 50


async def test_a_node_is_complete_only_once_its_looks_are_indexed(world: World) -> None:
    await world.take(shipped(1), complete_us=NOW_US + 5)

    def complete() -> int:
        (source,) = world.database.read_now(lambda conn: [s for s in world.store.sources(conn) if s.node == NODE])
        return source.indexed_complete_us

    assert complete() == 0
    await world.index.catch_up()
    assert complete() == NOW_US + 5
    await world.take(complete_us=NOW_US + 9)
    await world.index.catch_up()
    assert complete() == NOW_US + 9


async def test_a_sealed_look_is_hidden_until_then(world: World) -> None:
    await world.take(shipped(1, at(ANNA, sealed_us=DAY_US)))
    await world.index.catch_up()
    assert world.of(ANNA) == []
    world.now_us += DAY_US
    assert len(world.of(ANNA)) == 1


async def test_many_looks_at_one_person_alarm_once(world: World) -> None:
    half = SUBJECT_LOOKS_PER_DAY // 2
    for start in (0, half):
        await world.take(*(shipped(start + n, at(ANNA, BORIS)) for n in range(1, half + 1)))
        await world.index.catch_up()
    assert world.alarms(Alarm.SUBJECT_LOOKED_AT_OFTEN) == 0
    for n in (1, 2):
        await world.take(shipped(SUBJECT_LOOKS_PER_DAY + n, at(ANNA)))
        await world.index.catch_up()
    assert world.alarms(Alarm.SUBJECT_LOOKED_AT_OFTEN) == 1


async def test_a_verifier_who_seals_very_much_alarms_once(world: World) -> None:
    looks = [shipped(n, at(n.to_bytes(16, "big"), sealed_us=DAY_US)) for n in range(1, SEALED_LOOKS_PER_DAY + 3)]
    await world.take(*looks[:-2])
    await world.index.catch_up()
    assert world.alarms(Alarm.SEALED_TOO_OFTEN) == 0
    for look in looks[-2:]:
        await world.take(look)
        await world.index.catch_up()
    assert world.alarms(Alarm.SEALED_TOO_OFTEN) == 1


async def test_sealing_again_and_again_beyond_the_limit_alarms(world: World) -> None:
    step = MAX_SEALING_US // 2
    await world.take(
        shipped(1, at(ANNA, sealed_us=step)),
        shipped(2, at(ANNA, at_us=NOW_US + step - 1, sealed_us=step)),
        # The run of BORIS was broken in between.
        shipped(3, at(BORIS, at_us=NOW_US + step, sealed_us=DAY_US)),
    )
    await world.index.catch_up()
    await world.take(shipped(4, at(BORIS, at_us=NOW_US + step + 2 * DAY_US, sealed_us=MAX_SEALING_US)))
    await world.index.catch_up()
    assert world.alarms(Alarm.SEALING_EXTENDED) == 0
    await world.take(shipped(5, at(ANNA, at_us=NOW_US + 2 * step - 2, sealed_us=step)))
    await world.index.catch_up()
    assert world.alarms(Alarm.SEALING_EXTENDED) == 1


async def test_whole_days_are_dropped_with_their_index_and_numbers_go_on(world: World) -> None:
    await world.recorder.record(at(ANNA))
    await world.recorder.record(at(ANNA))
    await world.index.catch_up()
    day = NOW_US // DAY_US
    world.database.write_now(lambda conn: world.store.drop_before(conn, day))
    assert len(world.of(ANNA)) == 2
    world.database.write_now(lambda conn: world.store.drop_before(conn, day + 1))
    assert world.of(ANNA) == []
    world.now_us += 400 * DAY_US
    again = await world.recorder.record(at(BORIS, at_us=world.now_us))
    assert again is not None
    assert again.position.sequence == 3
