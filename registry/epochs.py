"""Epochs of city logs at the registry: what may follow what, and giving a city back what it sent.

An epoch ends for ever at the head that the registry holds when it opens the next
one.  Both happen in the transaction that writes the decision to the registry's
log, with the city's head locked, so that no batch slips in between.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from elicense.errors import (
    CityNotFound,
    EpochClosed,
    EpochNotBound,
    Error,
    Malformed,
    NotFound,
    Quarantined,
    StoreCorrupt,
)
from elicense.log.checkpoint import Checkpoint, cosign, open_checkpoint
from elicense.log.decision import Decision
from elicense.log.model import LogKey
from elicense.log.pages import Page, read_page
from elicense.log.verifier_key import ED25519, parse_vkey
from elicense.sql.database import Database
from elicense.trust.enrollment import city_log_origin
from elicense.trust.signer import Signer
from elicense.v1 import log_pb2
from registry.board import Board, Outcome
from registry.model import City
from registry.store import RegistryStore

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from elicense.log.model import Head

#: Looked at for one answer: some ten milliseconds.
SLOTS_PER_ANSWER: Final = 65_536

_POSSESSION: Final = "the possession note must be over the new, empty log"


@dataclass(frozen=True, slots=True)
class OpenEpoch:
    """Command: end the open epoch of a city's log and open the next one.

    Attributes:
        city: Division code.
        actor: SPIFFE ID of the caller.
        epoch: The epoch to open.
        log_key: Its key, in C2SP vkey form.
        closed_size: Size at which the epoch before it ends.
        closed_root: Root at which it ends.
    """

    city: int
    actor: str
    epoch: int
    log_key: str
    closed_size: int
    closed_root: bytes


def refusal(open_epoch: City, head: Head, command: OpenEpoch) -> Error | None:
    """Return why an epoch can not be opened; None when it can."""
    if command.epoch != open_epoch.epoch + 1:
        return EpochClosed(
            f"epoch {open_epoch.epoch} is open; the next one is the only one that can be", openEpoch=open_epoch.epoch
        )
    if (command.closed_size, command.closed_root) != (head.size, head.root):
        return EpochNotBound(
            f"the registry holds another head of epoch {open_epoch.epoch}, of {head.size} entries", heldSize=head.size
        )
    return None


def epoch_opened(command: OpenEpoch) -> log_pb2.EpochOpened:
    """Return the entry of the registry's log for a new epoch."""
    return log_pb2.EpochOpened(
        city=command.city,
        epoch=command.epoch,
        log_verifier_key=command.log_key,
        closed_size=command.closed_size,
        closed_root=command.closed_root,
    )


def open_epoch(conn: Connection, store: RegistryStore, board: Board, command: OpenEpoch) -> Decision[Outcome]:
    """Decide whether an epoch may be opened; the city's head stays locked, so that no batch moves it meanwhile.

    Raises:
        StoreCorrupt: The city's log is missing.
    """
    held = store.city(conn, command.city)
    if held is None:
        return Decision(error=CityNotFound("this city is not enrolled", city=command.city))
    if (held.epoch, held.log_key) == (command.epoch, command.log_key):
        return Decision(result=Outcome(decided_us=board.now_us))
    head = store.logs.head(conn, LogKey(command.city, held.epoch), lock=True)
    if head is None:
        raise StoreCorrupt("an enrolled city has no log; run fsck", city=command.city)
    quarantine = store.quarantines.of(conn, command.city)
    if quarantine is not None and quarantine.open:
        return Decision(error=Quarantined("the city is in quarantine; two operators must agree to its return first"))
    if (error := refusal(held, head, command)) is not None:
        return Decision(error=error)
    record = board.record(command.actor)
    record.epoch_opened.CopyFrom(epoch_opened(command))
    opened = City(command.city, command.epoch, command.log_key, board.now_us)
    outcome = Outcome(decided_us=board.now_us, opened=opened)
    return Decision((record.SerializeToString(deterministic=True),), outcome)


def check_key(command: OpenEpoch, possession_note: bytes, *, trust_domain: str) -> None:
    """Check that whoever opens an epoch has its key.

    Raises:
        Malformed: The key is not one of that epoch's log.
        CheckpointInvalid: The note is not over the empty log.
        SignatureInvalid: The key has not signed it.
    """
    origin = city_log_origin(trust_domain, command.city, command.epoch)
    key = parse_vkey(command.log_key)
    if key.name != origin or key.algorithm != ED25519:
        raise Malformed(f"the log's key must be an Ed25519 key named {origin}")
    if open_checkpoint(possession_note, origin=origin, key=key).size != 0:
        raise Malformed(_POSSESSION)


@dataclass(frozen=True, slots=True)
class HeldEpoch:
    """What is held of one epoch of a city.

    Attributes:
        epoch: The epoch.
        log_key: Its key, in C2SP vkey form.
        size: Entries held.
        receipt: Cosigned checkpoint of them; empty when there are none.
    """

    epoch: int
    log_key: str
    size: int
    receipt: bytes


class HeldLogs:
    """Reads what the registry holds of a city's log, for that city.

    Args:
        database: The registry's database.
        store: Its tables.
        cosigner: Signs receipts.
        cosigner_name: Name of the cosigner's key.
        clock: UTC microseconds.
    """

    def __init__(
        self,
        *,
        database: Database,
        store: RegistryStore,
        cosigner: Signer,
        cosigner_name: str,
        clock: Callable[[], int],
    ) -> None:
        self._database = database
        self._store = store
        self._cosigner = cosigner
        self._cosigner_name = cosigner_name
        self._clock = clock

    async def epochs(self, city: int) -> list[HeldEpoch]:
        """Return every epoch of a city, in order.

        Raises:
            CityNotFound: The city is not enrolled.
        """

        def read(conn: Connection) -> list[tuple[City, Head, tuple[int, bytes] | None]]:
            found = []
            for city_epoch in self._store.epochs(conn, city):
                key = LogKey(city, city_epoch.epoch)
                head = self._store.logs.head(conn, key)
                if head is None:
                    raise StoreCorrupt("an enrolled city has no log; run fsck", city=city)
                found.append((city_epoch, head, self._store.logs.commits.latest_cosigned(conn, key)))
            return found

        held = await self._database.read(read)
        if not held:
            raise CityNotFound("this city is not enrolled; ask an operator for a join token", city=city)
        return [
            HeldEpoch(each.epoch, each.log_key, head.size, self._receipt(head, cosigned))
            for each, head, cosigned in held
        ]

    async def page(self, key: LogKey, first_index: int) -> Page:
        """Return the entries from ``first_index`` on, as far as one answer goes.

        Raises:
            NotFound: There is no such log.
            Malformed: The log ends before.
        """
        return await self._database.read(lambda conn: self._page(conn, key, first_index))

    async def emptied(self, key: LogKey, first_index: int) -> tuple[list[int], int]:
        """Return which slots from ``first_index`` on are emptied, as far as one answer goes, and where it ends.

        Raises:
            NotFound: There is no such log.
            Malformed: The log ends before.
        """

        def read(conn: Connection) -> tuple[list[int], int]:
            stop = min(self._head(conn, key, first_index).size, first_index + SLOTS_PER_ANSWER)
            return self._store.logs.erased.between(conn, key, first_index, stop), stop

        return await self._database.read(read)

    def _page(self, conn: Connection, key: LogKey, first_index: int) -> Page:
        self._head(conn, key, first_index)
        return read_page(conn, self._store.logs, key, first_index)

    def _head(self, conn: Connection, key: LogKey, first_index: int) -> Head:
        head = self._store.logs.head(conn, key)
        if head is None:
            raise NotFound("there is no such epoch of this city's log")
        if first_index > head.size:
            raise Malformed(f"the log has {head.size} entries", size=head.size)
        return head

    def _receipt(self, head: Head, cosigned: tuple[int, bytes] | None) -> bytes:
        if cosigned is not None and cosigned[0] == head.size:
            return cosigned[1]
        if head.note is None:
            return b""
        # The last receipt is stored with the next batch; whoever asks before gets it made again.
        return cosign(head.note, name=self._cosigner_name, signer=self._cosigner, time_s=self._clock() // 1_000_000)


def previous_head(conn: Connection, store: RegistryStore, key: LogKey, *, trust_domain: str) -> tuple[Checkpoint, int]:
    """Return where the epoch before ``key`` ended, and when its last record was written.

    Raises:
        StoreCorrupt: There is none.
    """
    before = LogKey(key.log, key.epoch - 1)
    head = store.logs.head(conn, before)
    if head is None:
        raise StoreCorrupt("the log of an earlier epoch is missing; run fsck", city=key.log)
    return Checkpoint(city_log_origin(trust_domain, key.log, before.epoch), head.size, head.root), head.recorded_us
