"""Group commit, on every kind of store."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence

import pytest
from prometheus_client import CollectorRegistry
from sqlalchemy import Connection, select

from elicense.errors import LicenseNotFound, Malformed, NotFound, QueueFull, ShuttingDown
from elicense.log.checkpoint import open_checkpoint
from elicense.log.decision import Decision, SignedHead
from elicense.log.entry import SALT_SIZE
from elicense.log.metrics import LogMetrics
from elicense.log.request_queue import (
    BULK_ENTRIES_PER_COMMIT,
    BYTES_PER_COMMIT,
    ENTRIES_PER_COMMIT,
    MAX_WAITING_ENTRIES,
)
from elicense.log.store import Head, LogKey
from elicense.log.writer import LogWriter
from tests.integration.log.world import (
    KEY,
    NAMES,
    ORIGIN,
    VERIFIER_KEY,
    LogWorld,
    NamesDecider,
    check_answer,
    record_name,
    signer,
)


class Gate(NamesDecider):
    """Holds its first commit until it is opened, so that requests gather behind it."""

    def __init__(self) -> None:
        super().__init__()
        self.reached = threading.Event()
        self.opened = threading.Event()

    def decide(self, conn: Connection, head: Head, commands: Sequence[bytes]) -> Sequence[Decision[bytes]]:
        self.reached.set()
        assert self.opened.wait(30)
        return super().decide(conn, head, commands)

    async def wait_until_reached(self) -> None:
        assert await asyncio.to_thread(self.reached.wait, 30)


async def gathered(
    writer: LogWriter[bytes, bytes], gate: Gate, *requests: tuple[bytes, bool]
) -> list[asyncio.Task[object]]:
    """Submit one request, which the gate holds, and these behind it; then open the gate."""
    tasks = [asyncio.create_task(writer.submit(b"first", weight=1))]
    await gate.wait_until_reached()
    for command, bulk in requests:
        weight = int(command.split(b":")[1]) if command.startswith(b"many:") else 1
        tasks.append(asyncio.create_task(writer.submit(command, weight=weight, bulk=bulk)))
    await asyncio.sleep(0)
    gate.opened.set()
    await asyncio.wait(tasks)
    return tasks  # type: ignore[return-value]


async def test_a_lone_request_is_committed_at_once_and_proved(world: LogWorld) -> None:
    writer = await world.started()
    answer = await writer.submit(b"alone", weight=1)
    assert (answer.result, answer.first_index, answer.count, answer.size) == (b"alone", 0, 1, 1)
    entry = world.database.read_now(lambda conn: world.store.entries(conn, KEY, 0, 1))[0]
    check_answer(answer, entry.leaf_hash)
    world.check()


async def test_requests_that_wait_together_ride_in_one_commit(world: LogWorld) -> None:
    gate = Gate()
    writer = await world.started(decider=gate)
    tasks = await gathered(writer, gate, *[(b"waiting %d" % i, False) for i in range(300)])
    answers = [task.result() for task in tasks]
    assert {answer.size for answer in answers} == {1, 301}  # type: ignore[attr-defined]
    assert [answer.first_index for answer in answers] == list(range(301))  # type: ignore[attr-defined]
    entries = world.database.read_now(lambda conn: world.store.entries(conn, KEY, 0, 400))
    for answer, entry in zip(answers, entries, strict=True):
        check_answer(answer, entry.leaf_hash)  # type: ignore[arg-type]
    world.check()


async def test_urgent_requests_do_not_wait_behind_a_bulk_queue(world: LogWorld) -> None:
    gate = Gate()
    writer = await world.started(decider=gate)
    bulk = [(b"many:500:%d" % i, True) for i in range(8)]
    tasks = await gathered(writer, gate, *bulk, (b"urgent", False))
    urgent = tasks[-1].result()
    assert urgent.first_index == 1  # type: ignore[attr-defined]
    assert urgent.size <= 2 + BULK_ENTRIES_PER_COMMIT  # type: ignore[attr-defined]
    assert [task.result().first_index for task in tasks[1:-1]] == list(range(2, 4_002, 500))  # type: ignore[attr-defined]
    assert world.check().size == 4_002


async def test_a_commit_holds_at_most_its_limit_of_entries(world: LogWorld) -> None:
    gate = Gate()
    writer = await world.started(decider=gate)
    tasks = await gathered(writer, gate, *[(b"many:1024:%d" % i, False) for i in range(3)])
    assert sorted({task.result().size for task in tasks}) == [1, 1 + ENTRIES_PER_COMMIT, 1 + 3 * 1_024]  # type: ignore[attr-defined]


async def test_a_refused_command_fails_alone_and_takes_no_index(world: LogWorld) -> None:
    gate = Gate()
    writer = await world.started(decider=gate)
    tasks = await gathered(writer, gate, (b"one", False), (b"refuse", False), (b"nothing", False), (b"two", False))
    _, one, refused, nothing, two = tasks
    assert isinstance(refused.exception(), LicenseNotFound)
    assert (one.result().first_index, two.result().first_index) == (1, 2)  # type: ignore[attr-defined]
    unchanged = nothing.result()
    assert (unchanged.first_index, unchanged.count, unchanged.batch) == (None, 0, None)  # type: ignore[attr-defined]
    with pytest.raises(IndexError):
        unchanged.proof()  # type: ignore[attr-defined]
    assert world.records() == [b"first", b"one", b"two"]


async def test_a_command_that_can_not_be_decided_fails_alone(world: LogWorld) -> None:
    gate = Gate()
    writer = await world.started(decider=gate)
    commands = [b"raise" if i == 37 else b"good %d" % i for i in range(100)]
    tasks = await gathered(writer, gate, *[(command, False) for command in commands])
    failures = [task.exception() for task in tasks if task.exception() is not None]
    assert [str(failure) for failure in failures] == ["a fault in the rules"]
    assert world.records() == [b"first", *[command for command in commands if command != b"raise"]]
    world.check()


async def test_a_command_that_changes_nothing_is_answered_under_the_head_as_it_is(world: LogWorld) -> None:
    writer = await world.started()
    before = await writer.submit(b"a", weight=1)
    answer = await writer.submit(b"nothing", weight=0)
    assert (answer.checkpoint, answer.size, answer.result) == (before.checkpoint, 1, b"nothing")


async def test_an_answer_about_an_empty_log_is_signed_too(world: LogWorld) -> None:
    writer = await world.started()
    answer = await writer.submit(b"nothing", weight=0)
    assert open_checkpoint(answer.checkpoint, origin=ORIGIN, key=VERIFIER_KEY).size == 0


async def test_one_command_may_append_several_records_each_with_its_proof(world: LogWorld) -> None:
    writer = await world.started()
    await writer.submit(b"before", weight=1)
    answer = await writer.submit(b"many:3:x", weight=3)
    assert (answer.first_index, answer.count) == (1, 3)
    for number in range(3):
        index = 1 + number
        expected = world.database.read_now(lambda conn, i=index: world.store.inclusion_proof(conn, KEY, i, 4))  # type: ignore[misc]
        assert answer.proof(number) == expected
    for outside in (-1, 3):
        with pytest.raises(IndexError):
            answer.proof(outside)


async def test_the_decider_writes_in_the_same_transaction(world: LogWorld) -> None:
    writer = await world.started()
    await writer.submit(b"many:2:x", weight=2)
    rows = world.database.read_now(lambda conn: conn.execute(select(NAMES.c.name, NAMES.c.idx)).all())
    assert {tuple(row) for row in rows} == {(record_name(b"many:2:x#0"), 0), (record_name(b"many:2:x#1"), 1)}


async def test_the_note_of_a_commit_is_stored_with_the_next_one_or_on_close(world: LogWorld) -> None:
    writer = await world.started()

    def note(size: int) -> bytes | None:
        row = world.database.read_now(lambda conn: world.store.commits.at(conn, KEY, size))
        assert row is not None
        return row.note

    first = await writer.submit(b"a", weight=1)
    assert note(1) is None
    second = await writer.submit(b"b", weight=1)
    assert note(1) == first.checkpoint
    assert note(2) is None
    await writer.close()
    assert note(2) == second.checkpoint == world.head().note


async def test_a_durable_head_is_signed_again_with_the_same_bytes(world: LogWorld) -> None:
    writer = await world.started()
    answer = await writer.submit(b"a", weight=1)
    assert world.head().note is None, "as after a crash before the note was stored"
    again = world.writer(database=world.open())
    signed = await again.start()
    assert signed == SignedHead(1, world.head().root, answer.checkpoint)


async def test_the_signed_head_follows_appends_of_another_process(world: LogWorld) -> None:
    one = await world.started()
    two = await world.started(database=world.open())
    answer = await two.submit(b"a", weight=1)
    assert (await one.head_signed()).note == answer.checkpoint
    assert one.last_signed is not None
    assert one.last_signed.size == 1


async def test_two_writers_on_one_database_take_turns_and_do_not_fork_the_log(world: LogWorld) -> None:
    writers = [await world.started(database=world.open()) for _ in range(2)]
    answers = await asyncio.gather(
        *[writers[i % 2].submit(b"record %d" % i, weight=1) for i in range(120)],
        *[writers[i % 2].submit(b"bulk %d" % i, weight=1, bulk=True) for i in range(120)],
    )
    for writer in writers:
        await writer.close()
    head = world.check()
    assert head.size == 240
    indices = [answer.first_index for answer in answers]
    assert sorted(index for index in indices if index is not None) == list(range(240))
    roots: dict[int, set[bytes]] = {}
    for answer in answers:
        opened = open_checkpoint(answer.checkpoint, origin=ORIGIN, key=VERIFIER_KEY)
        roots.setdefault(opened.size, set()).add(opened.root)
    assert all(len(found) == 1 for found in roots.values()), "two roots of one size are a fork"


async def test_listeners_hear_of_each_commit_that_appends(sqlite_world: LogWorld) -> None:
    writer = await sqlite_world.started()
    heard: asyncio.Queue[int] = asyncio.Queue()
    writer.add_listener(heard.put_nowait)
    await writer.submit(b"a", weight=1)
    await writer.submit(b"nothing", weight=0)
    await writer.submit(b"many:2:x", weight=2)
    assert [await heard.get(), await heard.get()] == [1, 3]


async def test_the_log_must_exist(sqlite_world: LogWorld) -> None:
    writer: LogWriter[bytes, bytes] = LogWriter(
        database=sqlite_world.database,
        log_store=sqlite_world.store,
        key=LogKey(310000, 1),
        signer=signer(),
        origin=ORIGIN,
        decider=NamesDecider(),
        clock=lambda: 1,
        random=bytes,
    )
    with pytest.raises(NotFound):
        await writer.start()


async def test_the_times_of_a_log_never_step_back(sqlite_world: LogWorld) -> None:
    times = iter([100, 50, 200])
    writer = await sqlite_world.started(clock=lambda: next(times))
    recorded = []
    for command in (b"a", b"b", b"c"):
        await writer.submit(command, weight=1)
        recorded.append(sqlite_world.head().recorded_us)
    assert recorded == [100, 100, 200]


async def test_each_record_gets_a_salt_of_its_own(sqlite_world: LogWorld) -> None:
    drawn: list[int] = []

    def random(count: int) -> bytes:
        drawn.append(count)
        return bytes(i % 251 for i in range(count))

    writer = await sqlite_world.started(random=random)
    await writer.submit(b"many:3:x", weight=3)
    entries = sqlite_world.database.read_now(lambda conn: sqlite_world.store.entries(conn, KEY, 0, 3))
    assert drawn == [96]
    assert len({entry.salt for entry in entries}) == 3


async def test_a_caller_that_left_before_its_turn_is_dropped_and_one_that_left_later_is_not_missed(
    sqlite_world: LogWorld,
) -> None:
    gate = Gate()
    writer = await sqlite_world.started(decider=gate)
    leaving = asyncio.create_task(writer.submit(b"leaves while it is decided", weight=1))
    await gate.wait_until_reached()
    waiting = asyncio.create_task(writer.submit(b"leaves the queue", weight=1))
    staying = asyncio.create_task(writer.submit(b"stays", weight=1))
    await asyncio.sleep(0)
    leaving.cancel()
    waiting.cancel()
    await asyncio.wait((leaving, waiting))
    gate.opened.set()
    assert (await staying).first_index == 1
    assert sqlite_world.records() == [b"leaves while it is decided", b"stays"]


async def test_close_finishes_what_waits_and_refuses_what_comes_later(sqlite_world: LogWorld) -> None:
    gate = Gate()
    writer = await sqlite_world.started(decider=gate)
    tasks = [asyncio.create_task(writer.submit(b"%d" % i, weight=1, bulk=i > 3)) for i in range(8)]
    await gate.wait_until_reached()
    closing = asyncio.create_task(writer.close())
    await asyncio.sleep(0)
    with pytest.raises(ShuttingDown):
        await writer.submit(b"late", weight=1)
    gate.opened.set()
    await closing
    assert sorted(answer.first_index or 0 for answer in await asyncio.gather(*tasks)) == list(range(8))
    await writer.close()


async def test_what_waits_for_a_writer_that_never_started_is_refused_on_close(sqlite_world: LogWorld) -> None:
    writer = sqlite_world.writer()
    task = asyncio.create_task(writer.submit(b"a", weight=1))
    await asyncio.sleep(0)
    await writer.close()
    with pytest.raises(ShuttingDown):
        await task


async def test_a_request_larger_than_a_commit_is_refused(sqlite_world: LogWorld) -> None:
    writer = await sqlite_world.started()
    for arguments in (
        {"weight": ENTRIES_PER_COMMIT + 1},
        {"weight": BULK_ENTRIES_PER_COMMIT + 1, "bulk": True},
        {"weight": 1, "size": BYTES_PER_COMMIT + 1},
        {"weight": 2, "size": BYTES_PER_COMMIT - 2 * SALT_SIZE + 1},
    ):
        with pytest.raises(Malformed):
            await writer.submit(b"large", **arguments)  # type: ignore[arg-type]


async def test_the_salts_of_a_commit_count_so_that_one_replication_call_can_carry_it(sqlite_world: LogWorld) -> None:
    writer = await sqlite_world.started()
    command = b"many:2000:" + b"x" * (BYTES_PER_COMMIT // 2_000 - SALT_SIZE // 2 - 10)
    with pytest.raises(Malformed):
        await writer.submit(command, weight=2_000, size=1)


async def test_a_command_that_understated_its_records_fails_alone_when_it_is_too_large(
    sqlite_world: LogWorld,
) -> None:
    gate = Gate()
    writer = await sqlite_world.started(decider=gate)
    tasks = [asyncio.create_task(writer.submit(b"first", weight=1))]
    await gate.wait_until_reached()
    commands = [b"many:1500:a", b"many:2049:b", b"many:1500:c"]
    tasks += [asyncio.create_task(writer.submit(command, weight=1)) for command in commands]
    await asyncio.sleep(0)
    gate.opened.set()
    await asyncio.wait(tasks)
    assert isinstance(tasks[2].exception(), Malformed)
    assert [tasks[i].result().first_index for i in (1, 3)] == [1, 1_501]


async def test_too_many_waiting_requests_are_refused_at_once(sqlite_world: LogWorld) -> None:
    gate = Gate()
    writer = await sqlite_world.started(decider=gate)
    first = asyncio.create_task(writer.submit(b"first", weight=1))
    await gate.wait_until_reached()
    waiting = [
        asyncio.create_task(writer.submit(b"nothing", weight=BULK_ENTRIES_PER_COMMIT, size=1, bulk=True))
        for _ in range(MAX_WAITING_ENTRIES // BULK_ENTRIES_PER_COMMIT)
    ]
    await asyncio.sleep(0)
    with pytest.raises(QueueFull):
        await writer.submit(b"one more", weight=1, bulk=True)
    urgent = asyncio.create_task(writer.submit(b"urgent", weight=1))
    await asyncio.sleep(0)
    gate.opened.set()
    assert (await urgent).first_index == 1
    await asyncio.gather(first, *waiting)


async def test_metrics_tell_batch_size_waiting_requests_and_the_age_of_the_head(sqlite_world: LogWorld) -> None:
    registry = CollectorRegistry()
    gate = Gate()
    writer = await sqlite_world.started(decider=gate, metrics=LogMetrics(registry), clock=lambda: 7_000_000)
    await gathered(writer, gate, (b"a", False), (b"b", False))

    def value(name: str) -> float | None:
        return registry.get_sample_value(f"elicense_log_{name}")

    assert value("commit_entries_count") == 2
    assert value("commit_entries_sum") == 3
    assert value("commit_seconds_count") == 2
    assert (value("size"), value("waiting_requests"), value("stopped")) == (3, 0, 0)
    assert value("checkpoint_timestamp_seconds") == 7


async def test_what_a_commit_waits_for_its_turn_is_not_counted_as_its_work(
    sqlite_world: LogWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = sqlite_world  # one thread writes here, so a commit waits; where there are several, it begins at once
    writer = await world.started()
    counted: list[float] = []
    monkeypatch.setattr(writer._pace, "note_commit", lambda _entries, seconds: counted.append(seconds))
    began, opened = threading.Event(), threading.Event()

    def hold(_conn: Connection) -> bool:
        began.set()
        return opened.wait(30)

    held = asyncio.create_task(world.database.write(hold))
    assert await asyncio.to_thread(began.wait, 30)
    task = asyncio.create_task(writer.submit(b"waits", weight=1, bulk=True))
    while not world.database._write_lanes._yielding:  # noqa: ASYNC110  # what is waited for sets no event
        await asyncio.sleep(0)
    clock = asyncio.get_running_loop().time
    let_go = clock()
    opened.set()
    await asyncio.gather(held, task)
    assert [seconds <= clock() - let_go for seconds in counted] == [True]
    await writer.close()
