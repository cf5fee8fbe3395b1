"""Batches are read in other processes: what comes of it is the same, also when those processes are killed."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sys
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest

from elicense.errors import Malformed
from elicense.v1 import license_pb2 as pb
from elicense.view.person import PersonIndex
from elicense.workers.assistants import MOST, PAUSE_S, assistants_for
from elicense.workers.place import ALONE, Duty, Place
from registry.batch import Batch, SentEntry
from registry.readers import LARGE, Readers
from registry.reading import answer_to, question_of, read_here, reading_from
from tests.integration.registry.test_plain_firsts import NUMBERS, SUZHOU, batch, license_of
from tests.integration.registry.test_plain_firsts import record as first_record
from tests.support.cluster import eventually

KEY = bytes(range(32))
PERSONS = PersonIndex(KEY)
ERASES = pb.LicenseRecord(city=SUZHOU, epoch=1, license_id=license_of(1), revision=3, event=pb.LICENSE_EVENT_ERASED)
OPENS = pb.LicenseRecord(city=SUZHOU, epoch=1, opening=pb.EpochOpening(previous_origin="o"))


def plain(number: int) -> bytes:
    """Return a first revision of somebody of whom nothing else is sent."""
    message = pb.LicenseRecord.FromString(first_record(number % len(NUMBERS)))
    message.license.holder.document.number = f"32050019900101{number:04d}"
    return message.SerializeToString()


class Clock:
    """Seconds that a test sets."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def large(seed: int = 1, *, salt: bytes = bytes(32)) -> Batch:
    """Return a batch of all sorts of records; with links in it when the seed is odd, since then none is plain."""
    draw = random.Random(seed)  # a test that comes out the same each time
    records = [ERASES.SerializeToString(), OPENS.SerializeToString(), *batch(draw, links=bool(seed % 2))]
    records += [plain(number) for number in range(LARGE)]
    entries = [SentEntry(record, salt) for record in records]
    entries[7] = SentEntry(b"", b"", bytes(32))
    assert len(entries) >= LARGE
    return Batch(SUZHOU, 1, 5, entries, b"", 0, 0, None, 0)


@pytest.fixture
async def clock() -> Clock:
    return Clock()


@pytest.fixture
async def readers(clock: Clock) -> AsyncIterator[Readers]:
    readers = Readers(KEY, count=1, clock=clock)
    yield readers
    await readers.close()


async def started(readers: Readers) -> int:
    """Have a reader started, and return its process."""
    await readers.read(large())

    async def is_up() -> bool:
        return bool(readers.pids)

    await eventually(is_up)
    return readers.pids[0]


@pytest.mark.parametrize("seed", range(4))
def test_what_crosses_between_processes_comes_out_as_it_was_read(seed: int) -> None:
    sent = large(seed)
    assert bool(read_here(sent, PERSONS).received.plain) is not bool(seed % 2)
    assert reading_from(answer_to(question_of(sent), PERSONS), sent, PERSONS) == read_here(sent, PERSONS)


async def test_a_batch_is_read_in_another_process_as_it_is_here(readers: Readers) -> None:
    await started(readers)
    for seed in range(3):
        assert await readers.read(large(seed)) == read_here(large(seed), PERSONS)


async def test_many_batches_at_a_time_are_all_read_by_the_one_reader_there_is(readers: Readers) -> None:
    await started(readers)
    sent = [large(seed) for seed in range(8)]
    assert await asyncio.gather(*map(readers.read, sent)) == [read_here(each, PERSONS) for each in sent]
    assert len(readers.pids) == 1


async def test_a_batch_that_is_malformed_is_refused_as_it_is_here(readers: Readers) -> None:
    await started(readers)
    for wrong in (b"", bytes(31), bytes(33)):
        with pytest.raises(Malformed):
            await readers.read(large(salt=wrong))
    assert readers.pids


async def test_a_batch_is_read_though_its_reader_was_killed_and_another_one_starts(
    readers: Readers, clock: Clock
) -> None:
    killed = await started(readers)
    os.kill(killed, signal.SIGKILL)
    sent = [large(seed) for seed in range(4)]
    assert await asyncio.gather(*map(readers.read, sent)) == [read_here(each, PERSONS) for each in sent]
    assert killed not in readers.pids
    clock.now += PAUSE_S
    assert await started(readers) != killed


@pytest.mark.parametrize("command", [("false",), ("no-such-command",), (sys.executable, "-c", "print('ready')")])
async def test_batches_are_read_where_no_reader_can_run(command: Sequence[str]) -> None:
    readers = Readers(KEY, count=1, command=lambda _: command)
    for seed in range(3):
        assert await readers.read(large(seed)) == read_here(large(seed), PERSONS)
    await readers.close()
    assert not readers.pids


async def test_the_index_key_stands_neither_in_the_command_nor_in_the_environment(readers: Readers) -> None:
    process = Path("/proc") / str(await started(readers))
    shown = (process / "cmdline").read_bytes() + (process / "environ").read_bytes()
    assert KEY[1:] not in shown
    assert KEY.hex().encode() not in shown


async def test_a_reader_ends_with_the_process_that_asks_it_though_that_is_killed() -> None:
    program = (
        "import asyncio, sys\n"
        "from registry.readers import Readers\n"
        "from tests.integration.registry.test_readers import KEY, large, started\n"
        "async def main():\n"
        "    readers = Readers(KEY, count=1)\n"
        "    print(await started(readers), file=sys.stderr)\n"
        "    await asyncio.sleep(3600)\n"
        "asyncio.run(main())\n"
    )
    asking = await asyncio.create_subprocess_exec(sys.executable, "-c", program, stderr=asyncio.subprocess.PIPE)
    assert asking.stderr is not None
    reader = Path("/proc") / (await asking.stderr.readline()).decode().strip()
    assert reader.exists()
    asking.kill()
    await asking.wait()

    async def is_gone() -> bool:
        try:
            return b"registry.reader" not in (reader / "cmdline").read_bytes()
        except OSError:  # it ended between two looks
            return True

    await eventually(is_gone)


def test_a_process_has_readers_for_the_cores_that_its_equals_leave() -> None:
    def equal(count: int) -> Place:
        return Place(duty=Duty.EQUAL, count=count)

    assert [assistants_for(ALONE, cores) for cores in (1, 2, 3, 64)] == [0, 1, 2, MOST]
    assert [assistants_for(equal(2), cores) for cores in (1, 2, 4, 64)] == [0, 0, 1, MOST]
    assert assistants_for(Place(duty=Duty.WRITER, count=2), 2) == 1
