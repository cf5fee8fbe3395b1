"""What the log writer does when something breaks."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import pytest
from sqlalchemy import Connection, func, select, update

from elicense.errors import Error, LogBehind, LogForked, StoreCorrupt, StoreFull, StoreUnavailable
from elicense.log.appender import SigningFailed
from elicense.log.checkpoint import open_checkpoint, parse_checkpoint
from elicense.log.decision import Decision, SignedHead
from elicense.log.entry import leaf_hashes
from elicense.log.store import Head, LogKey, LogStore
from elicense.sql.database import CommitUnknown, Database
from elicense.trust.signer import FileSigner
from tests.integration.log.world import (
    KEY,
    LOG_TABLES,
    NAMES,
    ORIGIN,
    VERIFIER_KEY,
    LogWorld,
    NamesDecider,
    check_answer,
    entries_of,
    signer,
)


class BreakingDatabase(Database):
    """Loses the answer to a COMMIT: after it happened, or instead of it."""

    next_commit = "works"

    def _commit(self, connection: Connection) -> None:
        how, self.next_commit = self.next_commit, "works"
        if how == "not persisted":
            connection.rollback()
        else:
            super()._commit(connection)
        if how != "works":
            raise CommitUnknown("the connection was lost")


@dataclass
class HookedSigner:
    """The city's key, with something to happen before it signs."""

    hook: Callable[[bytes], None]
    key: FileSigner

    @property
    def algorithm(self) -> str:
        return self.key.algorithm

    def public_key(self) -> bytes:
        return self.key.public_key()

    def sign(self, message: bytes) -> bytes:
        self.hook(message)
        return self.key.sign(message)


def sizes(world: LogWorld) -> dict[str, int]:
    tables = (LOG_TABLES.entry, LOG_TABLES.tile, LOG_TABLES.checkpoint, NAMES)
    return world.database.read_now(
        lambda conn: {
            table.name: conn.execute(select(func.count()).select_from(table)).scalar_one() for table in tables
        }
    )


def refuse_record(world: LogWorld, record: bytes, sqlstate: str = "P0001") -> None:
    """Have the database refuse one record by a trigger."""
    literal = record.hex()
    if world.engine == "sqlite":
        statements = [
            f"CREATE TRIGGER refuse BEFORE INSERT ON log_entry WHEN NEW.record = x'{literal}' "
            "BEGIN SELECT RAISE(ABORT, 'refused'); END"
        ]
    else:
        statements = [
            "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
            f"IF NEW.record = '\\x{literal}' THEN RAISE EXCEPTION 'refused' USING ERRCODE = '{sqlstate}'; END IF; "
            "RETURN NEW; END $$",
            "CREATE TRIGGER refuse BEFORE INSERT ON log_entry FOR EACH ROW EXECUTE FUNCTION refuse()",
        ]
    for statement in statements:
        world.database.write_now(lambda conn, s=statement: conn.exec_driver_sql(s))  # type: ignore[misc]


async def test_signing_comes_after_durability(world: LogWorld) -> None:
    other = world.open()
    seen: list[int] = []

    def durable(message: bytes) -> None:
        size = parse_checkpoint(message.decode()).size
        head = other.read_now(lambda conn: world.store.head(conn, KEY))
        assert head is not None
        assert head.size == size
        seen.append(size)

    writer = await world.started(signer=HookedSigner(durable, signer()))
    for command in (b"a", b"many:300:b", b"c"):
        await writer.submit(command, weight=300)
    assert seen == [0, 1, 301, 302]


async def test_an_insert_that_fails_in_mid_batch_leaves_nothing(world: LogWorld) -> None:
    world.append([b"before"])
    before, counted = world.head(), sizes(world)
    refuse_record(world, b"bad")
    records = [b"good %d" % i for i in range(600)]
    records[300] = b"bad"
    with pytest.raises(Exception, match="refused"):
        world.append(records)
    assert world.head() == before
    assert sizes(world) == counted


async def test_an_insert_that_fails_in_mid_batch_fails_its_own_command_alone(world: LogWorld) -> None:
    refuse_record(world, b"bad")
    signatures: list[int] = []
    watching = HookedSigner(lambda message: signatures.append(parse_checkpoint(message.decode()).size), signer())
    writer = await world.started(signer=watching)
    commands = [b"bad" if i == 11 else b"good %d" % i for i in range(40)]
    answers = await asyncio.gather(*[writer.submit(c, weight=1) for c in commands], return_exceptions=True)
    assert [c for c, a in zip(commands, answers, strict=True) if isinstance(a, Exception)] == [b"bad"]
    assert world.records() == [command for command in commands if command != b"bad"]
    assert max(signatures) == 39
    assert world.check().size == 39


@pytest.mark.parametrize("how", ["persisted", "not persisted"])
async def test_a_commit_that_was_not_answered_is_looked_up(world: LogWorld, how: str) -> None:
    database = world.open(BreakingDatabase)
    assert isinstance(database, BreakingDatabase)
    writer = await world.started(database=database)
    before = await writer.submit(b"before", weight=1)
    database.next_commit = how
    results = await asyncio.gather(*[writer.submit(b"r%d" % i, weight=1) for i in range(3)], return_exceptions=True)
    if how == "persisted":
        assert [result.first_index for result in results] == [1, 2, 3]  # type: ignore[union-attr]
        entries = world.database.read_now(lambda conn: world.store.entries(conn, KEY, 1, 3))
        for result, entry in zip(results, entries, strict=True):
            check_answer(result, entry.leaf_hash)  # type: ignore[arg-type]
    else:
        assert all(isinstance(result, StoreUnavailable) for result in results)
        assert world.records() == [b"before"]
    await writer.submit(b"after", weight=1)
    await writer.close()
    world.check()
    row = world.database.read_now(lambda conn: world.store.commits.at(conn, KEY, 1))
    assert row is not None
    assert row.note == before.checkpoint, "the note is stored by whichever commit came through"


async def test_an_unanswered_commit_is_found_even_when_another_process_went_on(world: LogWorld) -> None:
    database = world.open(BreakingDatabase)
    assert isinstance(database, BreakingDatabase)

    class Overtaking(LogStore):
        """Before the outcome is looked up, another process appends."""

        overtaken = False

        def head(self, conn: Connection, key: LogKey, *, lock: bool = False) -> Head | None:
            head = super().head(conn, key, lock=lock)
            if head is not None and head.size == 2 and not self.overtaken:
                self.overtaken = True
                self.advance(conn, head, entries_of([b"theirs"]), recorded_us=1)
            return head

    writer = await world.started(database=database, store=Overtaking(LOG_TABLES))
    await writer.submit(b"before", weight=1)
    database.next_commit = "persisted"
    answer = await writer.submit(b"mine", weight=1)
    assert (answer.first_index, answer.size) == (1, 2)
    assert world.records() == [b"before", b"mine", b"theirs"]
    world.check()


async def test_an_unanswered_commit_without_records_is_said_to_be_unknown(world: LogWorld) -> None:
    database = world.open(BreakingDatabase)
    assert isinstance(database, BreakingDatabase)
    writer = await world.started(database=database)
    database.next_commit = "persisted"
    with pytest.raises(CommitUnknown):
        await writer.submit(b"nothing", weight=0)
    await writer.submit(b"a", weight=1)


async def test_a_lost_compare_and_set_runs_again_upon_the_new_head(world: LogWorld) -> None:
    if world.engine == "sqlite":
        pytest.skip("on SQLite no other process can write between the two statements; see test_store")
    other = world.open()

    class Unlocked(LogStore):
        """Reads the head without its lock; another process then appends."""

        rounds = 2

        def head(self, conn: Connection, key: LogKey, *, lock: bool = False) -> Head | None:
            head = super().head(conn, key)
            if lock and head is not None and self.rounds:
                self.rounds -= 1
                other.write_now(lambda c: self.advance(c, head, entries_of([b"theirs"]), recorded_us=1))
            return head

    writer = await world.started(store=Unlocked(LOG_TABLES))
    answer = await writer.submit(b"mine", weight=1)
    assert answer.first_index == 2
    assert world.records() == [b"theirs", b"theirs", b"mine"]
    world.check()


async def test_a_full_disk_refuses_those_requests_and_then_goes_on(sqlite_world: LogWorld) -> None:
    world = sqlite_world
    writer = await world.started()
    await writer.submit(b"before", weight=1)

    async def limit(pages: int) -> None:
        # On the thread that writes: each connection has a limit of its own.
        await world.database.write(lambda conn: conn.exec_driver_sql(f"PRAGMA max_page_count = {pages}").close())

    await limit(1)  # means: no more than there are now
    before = world.head()
    failed = [asyncio.create_task(writer.submit(b"x" * 60_000 + b"%d" % i, weight=1)) for i in range(4)]
    await asyncio.wait(failed)
    assert all(isinstance(task.exception(), StoreFull) for task in failed)
    assert world.head() == before
    assert writer.failure is None
    await limit(1_000_000)
    assert (await writer.submit(b"after", weight=1)).first_index == 1
    assert world.records() == [b"before", b"after"]
    world.check()


@pytest.mark.parametrize(("sqlstate", "kind"), [("53100", StoreFull), ("58030", StoreCorrupt), ("XX001", StoreCorrupt)])
async def test_postgresql_errors_mean_what_they_say(world: LogWorld, sqlstate: str, kind: type[Error]) -> None:
    if world.engine == "sqlite":
        pytest.skip("PostgreSQL alone has these codes")
    refuse_record(world, b"bad", sqlstate)
    fatal: list[Error] = []
    writer = await world.started(on_fatal=fatal.append)
    with pytest.raises(kind):
        await writer.submit(b"bad", weight=1)
    if kind is StoreFull:
        assert (await writer.submit(b"good", weight=1)).first_index == 0
        assert fatal == []
    else:
        with pytest.raises(kind):
            await writer.submit(b"good", weight=1)
        assert [type(error) for error in fatal] == [kind]
    assert world.head().size == (kind is StoreFull)


async def test_damage_stops_signing_for_good(world: LogWorld) -> None:
    fatal: list[Error] = []
    writer = await world.started(on_fatal=fatal.append)
    await writer.submit(b"before", weight=1)
    other = world.open()
    other.write_now(lambda conn: conn.execute(update(LOG_TABLES.head).values(root=bytes(32))))
    tasks = [asyncio.create_task(writer.submit(b"%d" % i, weight=1)) for i in range(3)]
    await asyncio.wait(tasks)
    assert all(isinstance(task.exception(), StoreCorrupt) for task in tasks)
    assert [type(error) for error in fatal] == [StoreCorrupt]
    assert isinstance(writer.failure, StoreCorrupt)
    for asked in (writer.submit(b"later", weight=1), writer.head_signed()):
        with pytest.raises(StoreCorrupt):
            await asked
    assert sizes(world)["log_entry"] == 1
    await writer.close()


@pytest.mark.parametrize("shown_by", ["submit", "head_signed"])
async def test_a_database_that_went_back_is_not_signed_upon(world: LogWorld, shown_by: str) -> None:
    """A restored backup: the head is sound in itself, but older than what was signed."""
    fatal: list[Error] = []
    signatures: list[bytes] = []
    writer = await world.started(on_fatal=fatal.append, signer=HookedSigner(signatures.append, signer()))
    await writer.submit(b"a", weight=1)
    old = world.head()
    await writer.submit(b"b", weight=1)
    signed = len(signatures)

    def go_back(conn: Connection) -> None:
        for table, column in ((LOG_TABLES.entry, "idx"), (LOG_TABLES.checkpoint, "size")):
            conn.execute(table.delete().where(table.c[column] >= (1 if column == "idx" else 2)))
        conn.execute(update(LOG_TABLES.head).values(size=1, root=old.root, frontier=old.frontier.encode()))

    world.open().write_now(go_back)
    asked = writer.submit(b"c", weight=1) if shown_by == "submit" else writer.head_signed()
    with pytest.raises(LogBehind):
        await asked
    assert len(signatures) == signed
    assert [type(error) for error in fatal] == [LogBehind]
    assert world.records() == [b"a"]


async def test_another_history_of_the_same_length_is_not_signed_upon(world: LogWorld) -> None:
    writer = await world.started()
    await writer.submit(b"a", weight=1)

    def rewrite(conn: Connection) -> None:
        for table in (LOG_TABLES.entry, LOG_TABLES.checkpoint, LOG_TABLES.head):
            conn.execute(table.delete())
        world.store.create(conn, KEY)
        empty = world.store.head(conn, KEY)
        assert empty is not None
        head = world.store.advance(conn, empty, entries_of([b"x"]), recorded_us=1)
        world.store.advance(conn, head, entries_of([b"y"]), recorded_us=1)

    world.open().write_now(rewrite)
    with pytest.raises(LogForked):
        await writer.submit(b"b", weight=1)
    assert world.records() == [b"x", b"y"]


async def test_a_key_that_can_not_sign_now_loses_nothing(sqlite_world: LogWorld) -> None:
    away = threading.Event()

    def fail(_message: bytes) -> None:
        if away.is_set():
            raise OSError("the module does not answer")

    world = sqlite_world
    writer = await world.started(signer=HookedSigner(fail, signer()))
    await writer.submit(b"a", weight=1)
    away.set()
    with pytest.raises(SigningFailed):
        await writer.submit(b"b", weight=1)
    with pytest.raises(SigningFailed):
        await writer.head_signed()
    assert world.records() == [b"a", b"b"], "durable, and not committed twice"
    away.clear()
    signed = await writer.head_signed()
    opened = open_checkpoint(signed.note, origin=ORIGIN, key=VERIFIER_KEY)
    assert (opened.size, opened.root) == (2, world.head().root)
    assert (await writer.submit(b"c", weight=1)).first_index == 2
    world.check()


async def test_a_signature_that_does_not_verify_stops_the_log(sqlite_world: LogWorld) -> None:
    class WrongKey(FileSigner):
        wrong = False

        def sign(self, message: bytes) -> bytes:
            return signer("another").sign(message) if self.wrong else super().sign(message)

    key = WrongKey(signer()._private_key)
    writer = await sqlite_world.started(signer=key)
    key.wrong = True
    with pytest.raises(StoreCorrupt):
        await writer.submit(b"a", weight=1)
    with pytest.raises(StoreCorrupt):
        await writer.submit(b"b", weight=1)


async def test_a_hash_that_comes_out_differently_is_not_committed(
    sqlite_world: LogWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    from elicense.log import appender

    sound, calls = leaf_hashes, iter(range(100))

    def flipping(pairs: object) -> list[bytes]:
        hashes = sound(pairs)  # type: ignore[arg-type]
        return [bytes(32), *hashes[1:]] if next(calls) == 0 else hashes

    monkeypatch.setattr(appender, "leaf_hashes", flipping)
    writer = await sqlite_world.started()
    with pytest.raises(StoreCorrupt):
        await writer.submit(b"a", weight=1)
    assert sqlite_world.head().size == 0


async def test_each_signed_head_is_handed_over_before_its_answer(sqlite_world: LogWorld) -> None:
    kept: list[SignedHead] = []
    writer = await sqlite_world.started(before_answer=kept.append)
    answer = await writer.submit(b"a", weight=1)
    assert [head.size for head in kept] == [0, 1]
    assert kept[-1].note == answer.checkpoint


async def test_no_answer_is_given_when_the_signed_head_can_not_be_handed_over(sqlite_world: LogWorld) -> None:
    broken = threading.Event()

    def keep(_head: SignedHead) -> None:
        if broken.is_set():
            raise OSError("no room on the other disk")

    writer = await sqlite_world.started(before_answer=keep)
    broken.set()
    with pytest.raises(SigningFailed):
        await writer.submit(b"a", weight=1)
    broken.clear()
    assert (await writer.submit(b"b", weight=1)).first_index == 1
    assert sqlite_world.records() == [b"a", b"b"]


async def test_a_listener_that_fails_harms_neither_the_writer_nor_other_listeners(sqlite_world: LogWorld) -> None:
    writer = await sqlite_world.started()
    heard: list[int] = []
    faults: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: faults.append(context["exception"]))

    def fail(_size: int) -> None:
        raise RuntimeError("a fault in a listener")

    writer.add_listener(fail)
    writer.add_listener(heard.append)
    await asyncio.gather(*[writer.submit(b"%d" % i, weight=1) for i in range(3)])
    await writer.submit(b"last", weight=1)
    await writer.close()
    await asyncio.sleep(0)
    assert heard[-1] == sqlite_world.check().size == 4
    assert len(faults) == len(heard)


async def test_a_writer_that_ends_by_a_fault_of_its_own_leaves_nobody_waiting(
    sqlite_world: LogWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    from elicense.log import writer as module

    def fail(*_arguments: object) -> None:
        raise RuntimeError("a fault in the writer")

    fatal: list[Error] = []
    writer = await sqlite_world.started(on_fatal=fatal.append)
    monkeypatch.setattr(module, "answer", fail)
    with pytest.raises(StoreUnavailable):
        await writer.submit(b"a", weight=1)
    with pytest.raises(StoreUnavailable):
        await writer.submit(b"b", weight=1)
    assert len(fatal) == 1
    assert sqlite_world.records() == [b"a"]


async def test_a_decider_that_forgets_a_command_is_a_fault_and_commits_nothing(sqlite_world: LogWorld) -> None:
    class Forgetful(NamesDecider):
        def decide(self, conn: Connection, head: Head, commands: Sequence[bytes]) -> Sequence[Decision[bytes]]:
            return []

    writer = await sqlite_world.started(decider=Forgetful())
    with pytest.raises(RuntimeError):
        await writer.submit(b"a", weight=1)
    assert sqlite_world.head().size == 0
