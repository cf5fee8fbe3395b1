"""The epochs of the city's log: their keys, and how each follows the one before."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import grpc

from city_node.receipts import TrustedKeys
from city_node.store import CityStore, EpochKey
from elicense.errors import Malformed, StoreCorrupt
from elicense.log.anchor import epoch_of
from elicense.log.checkpoint import Checkpoint, log_verifier_key, open_checkpoint, sign_checkpoint
from elicense.log.model import FIRST_EPOCH, LogKey
from elicense.log.tree import EMPTY_ROOT
from elicense.log.verifier_key import VerifierKey, format_vkey, parse_vkey
from elicense.rpc.errors import from_rpc_error
from elicense.sql.database import Database
from elicense.trust.enrollment import city_log_origin
from elicense.v1 import recovery_pb2, recovery_pb2_grpc
from elicense.verification.told import Told, sign_told
from elicense.view.opening import read_opening

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from sqlalchemy import Connection

    from elicense.trust.signer import Signer


OPEN_SECONDS: Final = 10.0


@dataclass(frozen=True, slots=True)
class Epochs:
    """What it takes to read and to sign any epoch of one city's log.

    Attributes:
        trust_domain: Prefix of log origins.
        city: Division code.
        signer: Gives the key of an epoch.
    """

    trust_domain: str
    city: int
    signer: Callable[[int], Signer]

    def origin(self, epoch: int) -> str:
        """Return the origin of the log in an epoch."""
        return city_log_origin(self.trust_domain, self.city, epoch)

    def own_key(self, epoch: int) -> EpochKey:
        """Return the row that says which key signs an epoch, given that this node has that key.

        Raises:
            NotFound: This node does not have it.
        """
        vkey = log_verifier_key(self.origin(epoch), self.signer(epoch).public_key())
        return EpochKey(self.city, epoch, format_vkey(vkey))

    def sign(self, key: LogKey, size: int, root: bytes) -> bytes:
        """Sign a durable head; the bytes are the same every time.

        Raises:
            NotFound: This node does not have the key of that epoch.
        """
        return sign_checkpoint(Checkpoint(self.origin(key.epoch), size, root), self.signer(key.epoch))

    def sign_told(self, told: Told) -> bytes:
        """Sign what the city says that it knows.

        Raises:
            NotFound: This node does not have the key of that epoch.
        """
        return sign_told(told, self.signer(epoch_of(told.origin)))

    def trusted(self, keys: Mapping[int, EpochKey], cosigner: VerifierKey) -> dict[int, TrustedKeys]:
        """Return what receipts of each epoch must be signed with."""
        return {
            epoch: TrustedKeys(self.origin(epoch), parse_vkey(key.log_key), cosigner) for epoch, key in keys.items()
        }

    def request(self, conn: Connection, store: CityStore, epoch: int) -> recovery_pb2.OpenEpochRequest:
        """Return what opens an epoch at the registry, as the first entry of its log says.

        Raises:
            StoreCorrupt: There is no such entry.
            NotFound: This node does not have the key of that epoch.
        """
        first = store.logs.entries_at(conn, LogKey(self.city, epoch), [0]).get(0)
        record = None if first is None else read_opening(first.record)
        if record is None:
            raise StoreCorrupt("the first entry of an epoch does not open it; run fsck", epoch=epoch)
        return recovery_pb2.OpenEpochRequest(
            epoch=epoch,
            log_verifier_key=self.own_key(epoch).log_key,
            log_possession_note=self.sign(LogKey(self.city, epoch), 0, EMPTY_ROOT),
            closed_size=record.opening.previous_size,
            closed_root=record.opening.previous_root,
        )


def name_first_key(conn: Connection, store: CityStore, epochs: Epochs) -> None:
    """Store which key signs the first epoch, for a log from before a city could open another one.

    Raises:
        NotFound: This node does not have that key.
        Malformed: It has another one than the log was signed with.
    """
    first = LogKey(epochs.city, FIRST_EPOCH)
    head = store.logs.head(conn, first)
    if head is None or FIRST_EPOCH in store.epoch_keys(conn, epochs.city):
        return
    own = epochs.own_key(FIRST_EPOCH)
    if head.note is not None:
        open_checkpoint(head.note, origin=epochs.origin(FIRST_EPOCH), key=parse_vkey(own.log_key))
    store.open_epoch(conn, own)


class RegistryEpochs:
    """Opens at the registry what was opened here; see :class:`city_node.replicated.OpensEpoch`.

    Args:
        database: The city's database.
        store: Its tables.
        epochs: Signs and names them.
        stub: The registry's RecoveryService.
    """

    def __init__(
        self, *, database: Database, store: CityStore, epochs: Epochs, stub: recovery_pb2_grpc.RecoveryServiceStub
    ) -> None:
        self._database = database
        self._store = store
        self._epochs = epochs
        self._stub = stub

    async def __call__(self, epoch: int) -> None:
        """Open an epoch.

        Raises:
            EpochClosed: It is not the next one.
            EpochNotBound: The registry holds another head of the epoch before.
            Unavailable: The registry did not answer.
        """
        request = await self._database.read(lambda conn: self._epochs.request(conn, self._store, epoch))
        try:
            await self._stub.OpenEpoch(request, timeout=OPEN_SECONDS)
        except grpc.RpcError as error:
            raise from_rpc_error(error) from error


async def known_keys(database: Database, store: CityStore, epochs: Epochs, key: LogKey) -> dict[int, EpochKey]:
    """Return the key of every epoch, by epoch; that of the open one must be at hand.

    Raises:
        NotFound: This node does not have the key of the open epoch.
        Malformed: It has another one than the log was signed with so far.
        StoreUnavailable: The database is away.
    """
    own = epochs.own_key(key.epoch)
    known = await database.read(lambda conn: store.epoch_keys(conn, key.log))
    if known.setdefault(key.epoch, own) != own:
        raise Malformed(f"the key of the log is not that of epoch {key.epoch}; put the right one back")
    return known
