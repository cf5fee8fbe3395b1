"""What a clerk is told about a record: the licence, how widely it is safe, and the proof."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from city_node.citylog import CityLog, entry_hash_of
from city_node.commands import Done, Written, WrittenFirst
from city_node.decider import Outcomes
from city_node.encoding import shown
from city_node.receipts import Receipts
from city_node.store import CityStore, Request
from elicense.errors import StoreCorrupt
from elicense.license.verdict import ViewFlags
from elicense.log.decision import Committed
from elicense.log.model import LogKey, StoredEntry
from elicense.sql.database import Database
from elicense.v1 import license_pb2, log_pb2
from elicense.view.fold import read_record

if TYPE_CHECKING:
    from sqlalchemy import Connection


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer to a change.

    Attributes:
        license: The licence after it.
        durability: ``Durability`` number; 0 when nothing was written.
        proof: Proof that its record is in the log; None when nothing was written.
    """

    license: license_pb2.License
    durability: int = log_pb2.DURABILITY_UNSPECIFIED
    proof: log_pb2.InclusionProof | None = None


class Answers:
    """Encodes answers to changes.

    Args:
        log: The city's log.
        database: The city's database.
        store: Its tables.
        receipts: What the registry has confirmed.
    """

    def __init__(self, *, log: CityLog, database: Database, store: CityStore, receipts: Receipts) -> None:
        self._log = log
        self._database = database
        self._store = store
        self._receipts = receipts

    def durability(self, epoch: int, index: int) -> int:
        """Return how widely the record at a position is safe."""
        national = self._receipts.national(epoch, index)
        return log_pb2.DURABILITY_NATIONAL if national else log_pb2.DURABILITY_LOCAL

    def preview(self, message: license_pb2.License) -> Answer:
        """Return the answer to a request that was only validated."""
        return Answer(message)

    async def of(
        self, committed: Committed[Outcomes], outcome: Written | WrittenFirst | Done, *, flags: int = 0
    ) -> Answer:
        """Return the answer to the only outcome of a command; ``flags`` are those that the licence had before."""
        if isinstance(outcome, Done):
            return await self.again(outcome.request)
        key, index = self._log.key, outcome.index
        entry_hash = entry_hash_of(committed, index)
        proof = proof_of(key, index, committed.checkpoint, committed.proof(0))
        license_ = shown(outcome.record, entry_hash=entry_hash, flags=flags | outcome.flags)
        return Answer(license_, self.durability(key.epoch, index), proof)

    async def again(self, request: Request) -> Answer:
        """Return the answer to a request that was dealt with before, from its stored record.

        Raises:
            StoreCorrupt: The record is not where the request says.
            StoreUnavailable: The database is away.
        """
        key = LogKey(self._log.key.log, request.epoch)
        current = await self._log.signed_head() if key.epoch == self._log.key.epoch else None

        def read(conn: Connection) -> tuple[StoredEntry | None, int, log_pb2.InclusionProof | None]:
            entry = self._store.logs.entries_at(conn, key, [request.idx]).get(request.idx)
            row = self._store.view.by_license(conn, request.license_id)
            # An epoch that has ended is proved by a head of its own.
            signed = current or self._store.logs.commits.first_signed(conn, key, request.idx)
            if signed is None:
                return entry, (0 if row is None else row.flags), None
            hashes = self._store.logs.inclusion_proof(conn, key, request.idx, signed[0])
            return entry, (0 if row is None else row.flags), proof_of(key, request.idx, signed[1], hashes)

        entry, flags, proof = await self._database.read(read)
        if entry is None or entry.record is None:
            raise StoreCorrupt("the record of an earlier request is missing; run fsck")
        record = read_record(entry.record)
        license_ = shown(record, entry_hash=entry.leaf_hash, flags=flags & ViewFlags.PROVISIONAL)
        return Answer(license_, self.durability(request.epoch, request.idx), proof)


def proof_of(key: LogKey, index: int, checkpoint: bytes, hashes: list[bytes]) -> log_pb2.InclusionProof:
    """Return an inclusion proof as the wire has it."""
    return log_pb2.InclusionProof(
        position=log_pb2.LogPosition(city=key.log, epoch=key.epoch, index=index), checkpoint=checkpoint, hashes=hashes
    )
