"""A city that signs two histories, or a head that nobody can compute; and how it comes back.

Twin: a copy of the machine runs elsewhere with the city's key, and writes what the city never wrote.
Set back: the machine is set back as a whole, anchor and all, and goes on while nobody can tell it; what it had sent
before is on its way still.
Damaged: the city is honest, and one batch of it arrives with another salt than was sent, under a sound head.

What had two histories is restored to the one that the registry holds.  So what the city acknowledged behind the point
at which they part is lost where the registry got the other one first: it never gave a receipt for it.
"""

from __future__ import annotations

import asyncio
import sqlite3
import uuid
from enum import Enum
from random import Random
from typing import TYPE_CHECKING, Any, Final

import grpc

from city_node.batches import BatchReader
from city_node.epochs import Epochs
from elicense.clock import SECOND_US, china_date, to_timestamp
from elicense.errors import EpochClosed, Error, LogForked, Quarantined, RootMismatch, SequenceGap
from elicense.log.entry import SALT_SIZE, leaf_hash
from elicense.log.model import LogKey, NewEntry
from elicense.rpc.errors import from_rpc_error
from elicense.trust.roles import Role
from elicense.trust.spiffe import Caller, city_id
from elicense.v1 import license_pb2, log_pb2
from elicense.v1 import replication_pb2 as pb
from registry.quarantine_model import Kind
from tests.simulation.counters import CALL_S, LATEST_S
from tests.simulation.database import SimDatabase
from tests.simulation.mending import Mending
from tests.simulation.overseers import Overseers
from tests.simulation.setbacks import copy, is_anchored
from tests.simulation.template import START_US
from tests.simulation.trouble import TROUBLE_S
from tests.simulation.written import Violated
from tests.support.cluster import drivers

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from tests.simulation.scenario import Nation

#: How long a message may be under way, both ways, virtual seconds.
_UNDER_WAY_S: Final = 4.5
#: Most entries of a batch: as many as the city itself sends, and as a log has in all.
_AS_SENT: Final = 8
_WHOLE: Final = 1_000
#: What the registry says to a batch for good.
_FOR_GOOD: Final = (LogForked, RootMismatch, Quarantined, EpochClosed)
#: Or to one that says nothing new: it holds more.
_LATE: Final = (*_FOR_GOOD, SequenceGap)
#: Whose people nobody else is.
_ELSEWHERE: Final = 440300


class Sort(Enum):
    """Of which sort it is."""

    TWIN = "has a twin"
    SET_BACK = "is set back as a whole"
    DAMAGED = "has a batch damaged"


class Fork:
    """Brings one of these over a city, once, and has it mended.

    Args:
        nation: The nation.
        random: Draws what happens.
        code: The city.
    """

    def __init__(self, nation: Nation, random: Random, code: int) -> None:
        self._nation = nation
        self._random = random
        self._code = code
        self._config = nation.configs[code]
        self._copy = nation.around.template.folder / f"{code}-other.db"
        self._key = LogKey(code, 1)
        self._is_over = False
        caller = Caller(city_id(self._config.node.trust_domain, code), Role.CITY, code, bytes(32))
        self._registry: Any = nation.network.connect(lambda: nation.registry, caller=caller, name=f"twin-{code}")

    async def run(self) -> None:
        """Do it, while two operators look after what the registry makes of it."""
        await asyncio.gather(
            self._fork(), Overseers(self._nation, self._random).run(going_on=lambda: not self._is_over)
        )

    async def _fork(self) -> None:
        sort = self._random.choice((Sort.TWIN, Sort.TWIN, Sort.SET_BACK, Sort.DAMAGED))
        await asyncio.sleep(self._random.uniform(0.5, 6))
        if sort is Sort.DAMAGED:
            await self._damage()
        else:
            # Which of two histories it had taken, a registry that was set back does not know, nor does anybody else.
            await self._nation.registry_is_whole.wait()
            await (self._set_back() if sort is Sort.SET_BACK else self._twin())
            await Mending(self._nation, self._random, self._code).run()
        self._is_over = True

    # -- the three sorts -------------------------------------------------------------------------------------------

    async def _twin(self) -> None:
        self._keep()
        await asyncio.sleep(self._random.uniform(0, 4))
        await self._deliver(Sort.TWIN, await self._forged())

    async def _set_back(self) -> None:
        nation, line = self._nation, frozenset(("registry", str(self._code)))
        nation.network.down.add(line)
        await asyncio.sleep(_UNDER_WAY_S)
        while not is_anchored(nation, self._code):  # noqa: ASYNC110  # what is waited for is a file
            await asyncio.sleep(0.05)
        self._keep()
        anchor = self._config.anchor_path.read_bytes()
        _, size, _ = nation.oracle.cities[self._code].head(self._code)
        await asyncio.sleep(self._random.uniform(1, 5))
        nation.keep_down(str(self._code))
        sent = await self._sent(size, most=_WHOLE)
        with sqlite3.connect(self._copy) as source:
            source.backup(nation.oracle.cities[self._code].connection)
        source.close()
        self._config.anchor_path.write_bytes(anchor)
        nation.oracle.set_back_as_a_whole(self._code)
        nation.event(f"{self._code} {Sort.SET_BACK.value}")
        await nation.let_up(str(self._code))
        await asyncio.sleep(self._random.uniform(0, 3))
        nation.network.down.discard(line)
        await asyncio.sleep(self._random.uniform(0, 2))
        await self._deliver(Sort.SET_BACK, sent if sent.entries else await self._forged())

    async def _damage(self) -> None:
        oracle, full = self._nation.oracle, list[log_pb2.LogEntry]()
        while not full:
            if self._nation.loop.time() > TROUBLE_S:
                return  # the registry always was as far as the city
            await asyncio.sleep(0.01)
            held, written = oracle.registry.head(self._code), oracle.cities[self._code].head(self._code)
            if written > held:
                batch = await self._sent(held[1], most=_AS_SENT)
                full = [entry for entry in batch.entries if entry.record]
        self._random.choice(full).salt = self._random.randbytes(SALT_SIZE)
        await self._deliver(Sort.DAMAGED, batch)

    # -- what is sent ----------------------------------------------------------------------------------------------

    def _keep(self) -> None:
        copy(self._nation.oracle.cities[self._code].connection, self._copy)

    async def _sent(self, start: int, *, most: int) -> pb.AppendEntriesRequest:
        """Return what the city sends, or is about to, from an index on."""
        database = SimDatabase(f"sqlite:///{self._nation.city_paths[self._code]}")
        return await self._batch(database, start, most=most)

    async def _forged(self) -> pb.AppendEntriesRequest:
        """Write another entry into the copy, and return what carries it."""
        database, logs = SimDatabase(f"sqlite:///{self._copy}"), self._nation.around.template.city_store.logs
        salt = self._random.randbytes(SALT_SIZE)

        def write(conn: Connection) -> None:
            head = logs.head(conn, self._key, lock=True)
            assert head is not None, "the copy has the log"
            # The city's clock may have been fast, and no log goes back in time.
            now_us = max(self._now_us(), head.recorded_us)
            record = self._record(now_us)
            logs.advance(conn, head, [NewEntry(record, salt, leaf_hash(salt, record))], recorded_us=now_us)

        database.write_now(write)
        _, size, _ = self._nation.oracle.registry.head(self._code)
        start = max(0, min(size, database.read_now(self._size) - 1))
        return await self._batch(database, start, most=_WHOLE)

    def _size(self, conn: Connection) -> int:
        head = self._nation.around.template.city_store.logs.head(conn, self._key)
        return 0 if head is None else head.size

    async def _batch(self, database: SimDatabase, start: int, *, most: int) -> pb.AppendEntriesRequest:
        """Return what carries the log in a database from ``start`` on, signed by whoever has the city's key."""
        template, domain = self._nation.around.template, self._config.node.trust_domain
        epochs = Epochs(domain, self._code, self._nation.signers[self._code].of)
        reader = BatchReader(database=database, store=template.city_store, sign=epochs.sign, max_entries=most)
        try:
            batch = await reader.read(self._key, start)
        finally:
            database.close()
        return pb.AppendEntriesRequest(
            checkpoint=batch.checkpoint,
            epoch=self._key.epoch,
            first_index=start,
            entries=batch.entries,
            tip_size=max(batch.size, start),
            city_time=to_timestamp(self._now_us()),
            held_before=batch.held_before,
        )

    def _record(self, now_us: int) -> bytes:
        """Return the first record of somebody who never applied."""
        (person,) = drivers(_ELSEWHERE, 1, seed=self._nation.outcome.seed % 7, on=china_date(START_US))
        now = to_timestamp(now_us)
        record = license_pb2.LicenseRecord(
            city=self._code,
            epoch=self._key.epoch,
            license_id=self._random.randbytes(16),
            revision=1,
            event=license_pb2.LICENSE_EVENT_ISSUED,
            request_id=str(uuid.UUID(bytes=self._random.randbytes(16), version=4)),
            actor=f"spiffe://{self._config.node.trust_domain}/clerk/{self._code}/w0",
            record_time=now,
            effective_time=now,
            provisional=True,
            license=person,
        )
        return record.SerializeToString()

    async def _deliver(self, sort: Sort, request: pb.AppendEntriesRequest) -> None:
        """Send it until the registry has taken it, or refuses it for good."""
        oracle = self._nation.oracle
        oracle.forks(self._code, Kind.UNEXPLAINED if sort is Sort.DAMAGED else Kind.FORK)
        while True:
            reason = await self._answer(request, _LATE if sort is Sort.DAMAGED else _FOR_GOOD)
            if reason is not None:
                break
            if self._nation.loop.time() > LATEST_S:
                raise Violated(f"the registry does not say what it makes of {self._code}")
            await asyncio.sleep(self._random.uniform(0.05, 0.5))
        self._nation.event(f"{self._code} {sort.value}: {reason}")
        if reason == LogForked.reason and sort is not Sort.DAMAGED:
            oracle.quarantines.seen(self._code, self._key.epoch)

    async def _answer(self, request: pb.AppendEntriesRequest, for_good: tuple[type[Error], ...]) -> str | None:
        try:
            await self._registry.AppendEntries(request, timeout=CALL_S)
        except grpc.aio.AioRpcError as error:
            raised = from_rpc_error(error)
            return raised.reason if isinstance(raised, for_good) else None
        return "taken"

    def _now_us(self) -> int:
        return START_US + int(self._nation.loop.time() * SECOND_US)
