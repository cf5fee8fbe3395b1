"""What the registry has confirmed: receipts and dispositions, checked and stored."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from city_node.custody import AWAY, NOT_IN_CUSTODY, OF_HAND_OVERS, CustodyFeed
from city_node.store import CityStore, StoredDisposition
from elicense.errors import CheckpointInvalid, DataLoss, LogBehind, LogForked, StoreCorrupt
from elicense.license.verdict import ViewFlags
from elicense.log.checkpoint import Checkpoint, open_cosigned
from elicense.log.model import LogKey
from elicense.log.verifier_key import VerifierKey
from elicense.sql.database import Database
from elicense.v1 import replication_pb2
from elicense.verification.told import Told

if TYPE_CHECKING:
    from sqlalchemy import Connection

_CONFIRMED = replication_pb2.DISPOSITION_KIND_CONFIRMED
_VOID = replication_pb2.DISPOSITION_KIND_VOID
#: Words about a licence that counts, and goes on to count.
_NO_CHANGE = frozenset(
    {
        replication_pb2.DISPOSITION_KIND_CONTESTED,
        replication_pb2.DISPOSITION_KIND_STANDS,
        # What becomes of it is for the log's writer to say.
        replication_pb2.DISPOSITION_KIND_ERASED,
    }
)


@dataclass(frozen=True, slots=True)
class TrustedKeys:
    """The keys that make a receipt.

    Attributes:
        origin: Origin of the city's log in an epoch.
        log_key: Key of that log.
        cosigner_key: Key of the registry's cosignatures.
    """

    origin: str
    log_key: VerifierKey
    cosigner_key: VerifierKey


class Receipts:
    """Keeps what the registry has confirmed of this city's log.

    Args:
        database: The city's database.
        store: Its tables.
        key: The log, in its open epoch.
        keys: What a receipt must be signed with, by epoch.
        custody: Applies the registry's word on hand-overs.
        clock: UTC microseconds.
    """

    def __init__(
        self,
        *,
        database: Database,
        store: CityStore,
        key: LogKey,
        keys: Mapping[int, TrustedKeys],
        custody: CustodyFeed,
        clock: Callable[[], int],
    ) -> None:
        self._custody = custody
        self._database = database
        self._store = store
        self._key = key
        self._keys = keys
        self._clock = clock
        self._sizes: dict[int, int] = {}
        self._heads: dict[int, Checkpoint] = {}
        self._cursor = 0
        self._confirmed = (0, 0)
        self._listeners: list[Callable[[], None]] = []

    def add_listener(self, listener: Callable[[], None]) -> None:
        """Have ``listener`` called whenever the registry's word has changed what licences count for."""
        self._listeners.append(listener)

    @property
    def size(self) -> int:
        """Number of entries of the open epoch that are safe nationwide."""
        return self._sizes.get(self._key.epoch, 0)

    def national(self, epoch: int, index: int) -> bool:
        """Whether the entry at a position is safe nationwide."""
        return index < self._sizes.get(epoch, 0)

    @property
    def cursor(self) -> int:
        """Number of the last disposition that is stored."""
        return self._cursor

    async def load(self) -> None:
        """Read what is stored; call once before use."""

        def read(conn: Connection) -> tuple[dict[int, int], int]:
            own = [key for key in self._store.logs.keys(conn) if key.log == self._key.log]
            held = {key.epoch: self._store.logs.commits.latest_cosigned(conn, key) for key in own}
            sizes = {epoch: receipt[0] for epoch, receipt in held.items() if receipt is not None}
            return sizes, self._store.disposition_cursor(conn, self._key.log)

        self._sizes, self._cursor = await self._database.read(read)

    def doubt(self) -> None:
        """Compare the registry's heads with the database again, even if they are those of before."""
        self._heads.clear()

    async def take(
        self,
        epoch: int,
        receipt: bytes,
        next_index: int,
        dispositions: Sequence[replication_pb2.Disposition] = (),
        *,
        whole_feed: bool = False,
    ) -> None:
        """Check what the registry says, and store what is new of it.

        Everything is stored in one transaction, or nothing: the feed's cursor,
        the flags that it sets in the city's own view, and the receipt.

        Args:
            epoch: Epoch of the log that it says it of.
            receipt: Cosigned checkpoint of what the registry holds; empty when it holds nothing.
            next_index: How many entries it says that it holds.
            dispositions: What follows in the city's feed.
            whole_feed: Whether with them the city has all that the registry had decided when it signed the receipt.

        Raises:
            CheckpointInvalid: The receipt is not a checkpoint of this log, or not of ``next_index`` entries.
            SignatureInvalid: City or registry did not sign it.
            LogForked: Both signed it, but the city has another root at that size.
            LogBehind: Both signed it, but the city has less.
            DataLoss: The feed has a gap.
        """
        head = self.open(epoch, receipt, next_index)
        fresh = self._fresh(dispositions)
        key = LogKey(self._key.log, epoch)
        news = head is not None and head != self._heads.get(epoch)
        confirms = whole_feed and head is not None and (epoch, head.size) > self._confirmed
        if not news and not fresh and not confirms:
            return

        def write(conn: Connection) -> None:
            if head is not None and news:
                self._compare(conn, key, head)
                if head.size > self._sizes.get(epoch, 0):
                    self._store.logs.commits.store_cosigned(conn, key, head.size, receipt)
            # A commit whose answer was lost may have stored some of them before: memory is only a cache.
            stored = self._store.disposition_cursor(conn, self._key.log) if fresh else 0
            self._keep(conn, [word for word in fresh if word.sequence > stored])
            if head is not None and confirms:
                self._custody.confirm_recalls(conn, (epoch, head.size), now_us=self._clock())

        await self._database.write(write)
        if head is not None:
            self._heads[epoch] = head
            self._sizes[epoch] = max(self._sizes.get(epoch, 0), head.size)
            if confirms:
                self._confirmed = (epoch, head.size)
        self._cursor += len(fresh)
        if fresh:
            for listener in self._listeners:
                listener()

    async def told(self, numbers: Sequence[int]) -> dict[int, Told]:
        """Return what this city knows of licences of its own that went to another city, by number in the feed.

        Whatever is recorded behind the size in it was recorded by a city that knew.

        Args:
            numbers: Dispositions that the registry asks about; what is not stored, or is of another kind, is left out.
        """

        def read(conn: Connection) -> dict[int, Told]:
            words = self._store.dispositions_at(conn, self._key.log, numbers)
            # Locked, behind a commit that is under way: what that one writes, it may have judged before the word.
            head = self._store.logs.head(conn, self._key, lock=True)
            if head is None:
                raise StoreCorrupt("the log is missing; run fsck")
            origin = self._keys[self._key.epoch].origin
            return {word.seq: Told(origin, head.size, word.epoch, word.idx) for word in words if word.kind == AWAY}

        return await self._database.write(read)

    def _fresh(self, dispositions: Sequence[replication_pb2.Disposition]) -> list[replication_pb2.Disposition]:
        """Return what is not stored yet, without a gap."""
        fresh = [disposition for disposition in dispositions if disposition.sequence > self._cursor]
        if [disposition.sequence for disposition in fresh] != list(
            range(self._cursor + 1, self._cursor + 1 + len(fresh))
        ):
            raise DataLoss("the registry's feed of dispositions has a gap", expectedSequence=self._cursor + 1)
        return fresh

    def open(self, epoch: int, receipt: bytes, next_index: int) -> Checkpoint | None:
        """Return the head of a receipt, both signatures checked; None when there is none because nothing is held.

        Raises:
            CheckpointInvalid: It is not a checkpoint of this log, or not of ``next_index`` entries.
            SignatureInvalid: City or registry did not sign it.
        """
        keys = self._keys.get(epoch)
        if keys is None:
            raise CheckpointInvalid(f"the registry speaks of epoch {epoch}, which this city does not have")
        head = (
            open_cosigned(receipt, origin=keys.origin, log_key=keys.log_key, cosigner_key=keys.cosigner_key).checkpoint
            if receipt
            else None
        )
        if (0 if head is None else head.size) != next_index:
            raise CheckpointInvalid("the registry's receipt is not of what it says it holds", nextIndex=next_index)
        return head

    def _compare(self, conn: Connection, key: LogKey, head: Checkpoint) -> None:
        """Refuse a head that is not one of this city's own, signatures or not."""
        if head.size == 0:
            return
        own = self._store.logs.head(conn, key)
        if own is None:
            raise StoreCorrupt("the log is missing; run fsck")
        if own.size < head.size:
            raise LogBehind("the registry holds more than this city has; its database was set back", size=head.size)
        if self._store.logs.root_at(conn, own, head.size) != head.root:
            raise LogForked("the registry holds another root than this city", size=head.size)

    def _keep(self, conn: Connection, fresh: Sequence[replication_pb2.Disposition]) -> None:
        if not fresh:
            return
        now_us = self._clock()
        words = [
            StoredDisposition(
                self._key.log, d.sequence, d.epoch, d.index, d.kind, d.license_id, d.detail[:200], now_us, d.other_city
            )
            for d in fresh
        ]
        self._store.add_dispositions(conn, words)
        flags: dict[tuple[bytes, bytes], int] = {}
        for word in words:
            # In the order of the feed: what a licence counted for ends where it moves.
            if word.kind in OF_HAND_OVERS or word.kind == NOT_IN_CUSTODY:
                self._set_flags(conn, flags)
                if self._custody.apply(conn, word):
                    continue
            row = self._store.view.by_license(conn, word.license_id) if word.license_id else None
            if row is None:
                continue
            place = (row.person_key, row.license_id)
            flags[place] = flags_after(flags.get(place, row.flags), word.kind)
        self._set_flags(conn, flags)

    def _set_flags(self, conn: Connection, flags: dict[tuple[bytes, bytes], int]) -> None:
        self._store.view.set_flags(conn, [(*place, value) for place, value in flags.items()])
        flags.clear()


def flags_after(flags: int, kind: int) -> int:
    """Return a licence's flags after a disposition.

    Only a confirmation lets a licence count, and a word about a dispute leaves
    it as it is; every other kind, also one that this node does not know, leaves it
    without national effect.
    """
    if kind == _CONFIRMED:
        return flags & ~int(ViewFlags.PROVISIONAL | ViewFlags.CONFLICT)
    if kind in _NO_CHANGE:
        return flags
    if kind == _VOID:
        return (flags | int(ViewFlags.VOID)) & ~int(ViewFlags.PROVISIONAL | ViewFlags.CONFLICT)
    return (flags | int(ViewFlags.CONFLICT)) & ~int(ViewFlags.PROVISIONAL)
