"""Restoring a city's log: refill it from the registry, prove it, and go on without any chance of a fork.

The steps, numbered in the code; each may be ended at any moment, and the whole
may be run again:

1. The registry tells every epoch that it holds of this city.
2. Each epoch's log is filled up to what the registry holds, and compared with it.
3. What the database holds beyond, the registry gets: it is true, and must not be lost.
   After the release of a fork it takes nothing more of that epoch but what it had
   given a receipt for: then the next one begins at what it holds.
4. Where the anchor survived and its head lies inside the open epoch's log, that epoch
   goes on.  An anchor that is behind the registry did not survive: it was set back too.
5. Else the next epoch begins, under a key of its own.  Its first entry binds it to
   the head of the one before, in one transaction: from then on nothing is signed
   in the old one any more.
6. The new epoch's head becomes the anchor, and the registry opens the epoch too: then it
   takes nothing more of the old one, also of what the node had sent before it ended.
7. The licences that ever moved are folded again, with what the registry said of each.
8. Licences of which this database held a record that the registry holds emptied are told to the operator: both sides
   have lost the entry that erased them.
9. The node may sign again.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote, urlsplit
from uuid import UUID

import grpc
import structlog

from city_node.config import CityConfig
from city_node.custody_rebuild import CustodyRebuild
from city_node.epochs import Epochs
from city_node.handing_in import HandingIn
from city_node.history import may_go_on
from city_node.keys import CityKeys
from city_node.lost_erasures import LostErasures
from city_node.progress import own_head
from city_node.rebuild import Rebuild
from city_node.refill import Refill
from city_node.store import CityStore, EpochKey
from city_node.verify_only import verify_only_mark
from elicense.errors import Error, LogBehind, NotFound, StoreCorrupt
from elicense.log.anchor import Anchor, create_anchor, epoch_of
from elicense.log.checkpoint import Checkpoint
from elicense.log.entry import SALT_SIZE, leaf_hash
from elicense.log.model import Head, LogKey, NewEntry
from elicense.log.witness import compare
from elicense.rpc.channel import secure_channel
from elicense.rpc.errors import from_rpc_error
from elicense.sql.database import Database
from elicense.trust.signer import generate_key_file
from elicense.trust.spiffe import city_id
from elicense.v1 import recovery_pb2, recovery_pb2_grpc, replication_pb2_grpc
from elicense.view.opening import Opening, opening_record

if TYPE_CHECKING:
    from sqlalchemy import Connection

_log = structlog.stdlib.get_logger(__name__)

LIST_SECONDS: Final = 10.0


@dataclass(frozen=True, slots=True)
class Restored:
    """What a restore came to.

    Attributes:
        epoch: Epoch that is open now.
        opened: Whether it was opened just now.
        refilled: Entries that came back from the registry.
        size: Entries of the open epoch.
        registered: Whether the registry has opened the epoch too, and holds all of it.
        to_erase: Ids of licences that are back although they were erased, by the registry's word: both sides have lost
            the entry that said so, and a person has to see to them; None where the registry was not asked.
    """

    epoch: int
    opened: bool
    refilled: int
    size: int
    registered: bool
    to_erase: tuple[UUID, ...] | None = None


@dataclass(frozen=True, slots=True)
class Upstream:
    """The registry, as a city that restores itself calls it.

    Attributes:
        recovery: Its RecoveryService.
        replication: Its ReplicationService.
    """

    recovery: recovery_pb2_grpc.RecoveryServiceStub
    replication: replication_pb2_grpc.ReplicationServiceStub


@asynccontextmanager
async def upstream(config: CityConfig, keys: CityKeys) -> AsyncIterator[Upstream]:
    """Yield a way to the registry of this configuration."""
    channel = secure_channel(keys.credentials, address=config.city.registry_address, retries=True)
    try:
        yield Upstream(
            recovery_pb2_grpc.RecoveryServiceStub(channel), replication_pb2_grpc.ReplicationServiceStub(channel)
        )
    finally:
        await channel.close()


class Restore:
    """Restores one stopped node.

    Args:
        config: Its configuration.
        keys: Its keys.
        database: Its database, with all tables.
        store: Its tables.
        clock: UTC microseconds.
        random: Gives that many random bytes.
        progress: Called with the epoch, entries that are there, and how many there will be.
    """

    def __init__(
        self,
        *,
        config: CityConfig,
        keys: CityKeys,
        database: Database,
        store: CityStore,
        clock: Callable[[], int],
        random: Callable[[int], bytes],
        progress: Callable[[int, int, int], None],
    ) -> None:
        self._config = config
        self._keys = keys
        self._database = database
        self._clock = clock
        self._random = random
        self._progress = progress
        self._store = store
        self._registry_position = (0, 0)
        self._epochs = Epochs(config.node.trust_domain, config.city.code, keys.log.of)

    async def run(self, registry: Upstream) -> Restored:
        """Restore from the registry.

        Raises:
            Unavailable: The registry or the database is away.
            LogForked: City and registry hold two histories; a person must look.
            Quarantined: The registry takes nothing of this city, or nothing of what the database holds beyond it.
            EpochNotBound: The registry got more of the epoch before meanwhile; the database is to be moved aside.
            Error: The registry sent what can not be this city's log.
        """
        mark = verify_only_mark(self._config, self._clock)
        if mark.read() is None:
            # Whoever restores doubts what is there, and a start in between must not sign: neither refilled but not
            # yet judged by what the anchor can not know, nor, set back as a whole, with the registry away.
            mark.set(LogBehind("a restore of this log has not ended; run it again"))
        handing_in = HandingIn(
            config=self._config,
            keys=self._keys,
            database=self._database,
            store=self._store,
            epochs=self._epochs,
            recovery=registry.recovery,
            replication=registry.replication,
            clock=self._clock,
        )
        held = await self._held(registry.recovery)  # (1)
        refilled, sizes = await self._refill(registry.recovery, held)
        ended = await handing_in.all()  # (3)
        restored = await self._go_on(ended=ended)
        registered = True
        try:
            await handing_in.carry()  # (6)
        except Error as error:
            if restored.opened:
                # Nothing was issued in it, and nothing may be: a call of before that is still on its way could
                # bring the registry more of the epoch that has ended here.  The mark stays.
                raise
            _log.warning("epoch_not_registered", reason=error.reason, detail=error.message)
            registered = False
        # By now the registry has said everything: of an epoch that it has ended, not before the next one is open there.
        custody = CustodyRebuild(store=self._store, persons=self._keys.persons, city=self._config.city.code)
        await self._database.write(custody.run)  # (7)
        to_erase = await self._to_erase(registry.recovery, sizes)  # (8)
        mark.clear()  # (9)
        return replace(restored, refilled=refilled, registered=registered, to_erase=to_erase)

    async def run_alone(self) -> Restored:
        """Open the next epoch at what the database holds, without asking the registry.

        For a node whose registry is away for long: what the registry holds beyond
        this database is then refused a place in the new epoch's past, and the node
        stops signing once it hears of it.

        Raises:
            StoreUnavailable: The database is away.
            NotFound: The node has no log.
        """
        head = await self._database.read(lambda conn: own_head(conn, self._store, self._config.city.code))
        size = await self._open_next(head)
        verify_only_mark(self._config, self._clock).clear()
        return Restored(head.key.epoch + 1, True, 0, size, False)

    @staticmethod
    async def _held(stub: recovery_pb2_grpc.RecoveryServiceStub) -> Sequence[recovery_pb2.EpochState]:
        try:
            listed: recovery_pb2.ListEpochsResponse = await stub.ListEpochs(
                recovery_pb2.ListEpochsRequest(), timeout=LIST_SECONDS
            )
        except grpc.RpcError as error:
            raise from_rpc_error(error) from error
        return listed.epochs

    async def _refill(
        self, stub: recovery_pb2_grpc.RecoveryServiceStub, held: Sequence[recovery_pb2.EpochState]
    ) -> tuple[int, dict[int, int]]:
        """Return how many entries came back, and by epoch how many both sides had before."""
        refilled, sizes = 0, {}
        for state in held:  # (2)
            key = LogKey(self._config.city.code, state.epoch)
            row = EpochKey(key.log, key.epoch, state.log_verifier_key)
            before = await self._database.write(partial(self._open_log, row=row))
            known = await self._database.read(lambda conn: self._store.epoch_keys(conn, self._config.city.code))
            keys = self._epochs.trusted(known, self._keys.cosigner)[state.epoch]
            head = await Refill(
                database=self._database,
                store=self._store,
                rebuild=Rebuild(store=self._store, persons=self._keys.persons),
                stub=stub,
                progress=partial(self._progress, state.epoch),
            ).run(key, keys, state)
            refilled += head.size - before
            sizes[state.epoch] = min(before, state.size)
            self._registry_position = state.epoch, state.size
        return refilled, sizes

    async def _to_erase(
        self, stub: recovery_pb2_grpc.RecoveryServiceStub, sizes: Mapping[int, int]
    ) -> tuple[UUID, ...] | None:
        lost = LostErasures(database=self._database, store=self._store, stub=stub, city=self._config.city.code)
        try:
            licenses = tuple(UUID(bytes=license_id) for license_id in await lost.licenses(sizes))
        except Error as error:
            # Whatever was to be restored is so by now.
            _log.warning("erasures_not_compared", reason=error.reason, detail=error.message)
            return None
        if licenses:
            # Also where nobody sees what the command prints.
            _log.warning("erased_licenses_back", licenses=[str(each) for each in licenses])
        return licenses

    def _open_log(self, conn: Connection, *, row: EpochKey) -> int:
        """Open the log of an epoch unless it is there, and return its size."""
        self._store.open_epoch(conn, row)
        head = self._store.logs.head(conn, LogKey(row.log, row.epoch))
        return 0 if head is None else head.size

    async def _go_on(self, *, ended: bool) -> Restored:
        """Let the open epoch go on, or open the next."""
        head = await self._database.read(lambda conn: own_head(conn, self._store, self._config.city.code))
        if not ended and await self._may_go_on(head):  # (4)
            return Restored(head.key.epoch, False, 0, head.size, False)
        size = await self._open_next(head)
        return Restored(head.key.epoch + 1, True, 0, size, False)

    async def _may_go_on(self, head: Head) -> bool:
        """Whether everything that was ever signed in the open epoch is in its log, and its key is at hand."""
        anchored = Anchor(self._config.anchor_path, self._epochs.origin(head.key.epoch)).last()
        if anchored is None:
            return False
        try:
            own = self._epochs.own_key(head.key.epoch)
        except NotFound:
            return False

        def read(conn: Connection) -> bool:
            stored = self._store.epoch_keys(conn, head.key.log).get(head.key.epoch)
            seen = compare(
                epoch=head.key.epoch,
                size=head.size,
                root_at=lambda size: self._store.logs.root_at(conn, head, size),
                witness=(epoch_of(anchored.origin), anchored.size, anchored.root),
            )
            position = epoch_of(anchored.origin), anchored.size
            return stored == own and may_go_on(seen, position, self._registry_position)

        return await self._database.read(read)

    async def _open_next(self, before: Head) -> int:
        """Open the epoch after that of ``before``, which ends there; return its size."""
        key = LogKey(before.key.log, before.key.epoch + 1)
        self._make_key(key.epoch)
        own = self._epochs.own_key(key.epoch)
        now_us = max(self._clock(), before.recorded_us)
        actor = str(city_id(self._config.node.trust_domain, key.log))
        salt = self._random(SALT_SIZE)

        def write(conn: Connection) -> Head:  # (5)
            held = self._store.logs.head(conn, before.key, lock=True)
            if held is None or (held.size, held.root) != (before.size, before.root):
                raise StoreCorrupt("the log has moved meanwhile; is this node running?")
            receipt = self._store.logs.commits.latest_cosigned(conn, before.key)
            opening = Opening(
                key.log,
                key.epoch,
                Checkpoint(self._epochs.origin(before.key.epoch), before.size, before.root),
                b"" if receipt is None or receipt[0] != before.size else receipt[1],
                now_us,
            )
            record = opening_record(opening, actor=actor)
            self._store.open_epoch(conn, own)
            empty = self._store.logs.head(conn, key, lock=True)
            if empty is None or empty.size:
                raise StoreCorrupt("the next epoch was opened already; is this node running?")
            return self._store.logs.advance(
                conn, empty, [NewEntry(record, salt, leaf_hash(salt, record))], recorded_us=now_us
            )

        if before.note is None and before.size:
            # Its last note was never stored; the same head signed again gives the same bytes.
            note = self._epochs.sign(before.key, before.size, before.root)
            await self._database.write(
                lambda conn: self._store.logs.commits.store_note(conn, before.key, before.size, note)
            )
        head = await self._database.write(write)
        create_anchor(self._config.anchor_path, self._epochs.sign(key, head.size, head.root))  # (6)
        return head.size

    def _make_key(self, epoch: int) -> None:
        """Make the key of a new epoch; one that is there may have signed another beginning, and is put aside."""
        uri = urlsplit(self._config.log_key_uri(epoch))
        if uri.scheme != "file":
            self._keys.log.of(epoch)
            return
        path = Path(unquote(uri.path))
        if path.exists():
            path.rename(path.with_name(f"{path.name}.before-{self._clock()}"))
        generate_key_file(path)
