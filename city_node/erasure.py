"""Erasing a licence: what the law lets go is taken out of every table and every file of the node.

The order: the ERASED entry and the removal are one transaction of the log's
writer, so a licence is erased in the log or not at all; the registry erases its
copy when the entry reaches it.  Then the database's files are searched for what
was removed.

The city in custody orders it, wherever the licence was before: the registry tells
the cities that had it (:mod:`city_node.ordered_erasures`).
"""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from city_node.answers import proof_of
from city_node.citylog import CityLog
from city_node.commands import Done, EraseLicense
from city_node.decider import answer_again
from city_node.gate import SigningGate
from city_node.holding import require_custody
from city_node.receipts import Receipts
from city_node.removal import Place, awaits_receipt, emptied, entries_of
from city_node.store import CityStore
from elicense.clock import china_date
from elicense.errors import Error, IllegalTransition, LicenseNotFound, Violation
from elicense.license.codec import license_from_message
from elicense.license.retention import Kept, require_erasable
from elicense.log.model import LogKey, StoredEntry
from elicense.log.scrubber import Scrubber
from elicense.sql.database import Database
from elicense.v1 import log_pb2
from elicense.view.fold import read_record
from elicense.view.model import ViewRow

if TYPE_CHECKING:
    from sqlalchemy import Connection

#: Most bytes of an ERASED record.
ERASED_BYTES: Final = 1_024


@dataclass(frozen=True, slots=True)
class ErasedAnswer:
    """The answer to an erasure.

    Attributes:
        durability: ``Durability`` number; 0 when nothing was written.
        proof: Proof that the ERASED entry is in the log; None when nothing was written.
        traces_gone: Whether no trace was found in the database's files afterwards.
    """

    durability: int = log_pb2.DURABILITY_UNSPECIFIED
    proof: log_pb2.InclusionProof | None = None
    traces_gone: bool = False


@dataclass(frozen=True, slots=True)
class _Found:
    row: ViewRow
    entries: Mapping[Place, StoredEntry]
    national: bool


class Erasure:
    """Erases licences of one city.

    Args:
        log: The city's log.
        database: The city's database.
        scrubber: Wipes what was erased from its files.
        store: Its tables.
        receipts: What the registry has confirmed.
        gate: Whether this node may sign.
        retention_days: How long a cancelled licence is kept.
        clock: UTC microseconds.
    """

    def __init__(
        self,
        *,
        log: CityLog,
        database: Database,
        scrubber: Scrubber,
        store: CityStore,
        receipts: Receipts,
        gate: SigningGate,
        retention_days: int,
        clock: Callable[[], int],
    ) -> None:
        self._log = log
        self._database = database
        self._scrubber = scrubber
        self._store = store
        self._receipts = receipts
        self._gate = gate
        self._retention_days = retention_days
        self._clock = clock

    async def erase(
        self, license_id: bytes, *, basis: str, request_id: str, validate_only: bool, actor: str
    ) -> ErasedAnswer:
        """Erase a licence.

        Raises:
            LicenseNotFound: There is none, or it was erased.
            LicenseMoved: Another city has custody, and it alone may order this.
            IllegalTransition: It must be kept; every reason is named.
            RequestIdReused: The request id came with another body before.
            DataLoss: This node only verifies.
        """
        key, digest = uuid.UUID(request_id).bytes, hashlib.sha256(b"erase" + license_id + basis.encode()).digest()
        known = await self._database.read(lambda conn: self._store.requests(conn, [key]))
        if key in known:
            done = answer_again(known[key], digest)
            if isinstance(done, Error):
                raise done
            return await self._again(LogKey(self._log.key.log, done.request.epoch), done.request.idx)
        found = await self._database.read(lambda conn: self._find(conn, license_id))
        self._require(found)
        if validate_only:
            return ErasedAnswer()
        self._gate.check()
        command = EraseLicense(key, digest, license_id, found.row.entry_hash, basis, actor)
        committed = await self._log.submit(command, entries=1, size=ERASED_BYTES)
        outcome = committed.result[0]
        if isinstance(outcome, Error):
            raise outcome
        if isinstance(outcome, Done):
            return await self._again(LogKey(self._log.key.log, outcome.request.epoch), outcome.request.idx)
        gone = await self._scrubber.scrub(emptied(found.entries))
        proof = proof_of(self._log.key, outcome.index, committed.checkpoint, committed.proof(0))
        return ErasedAnswer(log_pb2.DURABILITY_LOCAL, proof, gone)

    def _find(self, conn: Connection, license_id: bytes) -> _Found:
        row = self._store.view.by_license(conn, license_id)
        if row is None:
            if self._store.hand_overs.arriving(conn, license_id):
                advice = "Wait until the registry has decided who has custody."
                violations = [Violation("license", "TRANSFER_UNDECIDED", advice)]
                raise IllegalTransition("the license is being taken over", violations=violations)
            raise LicenseNotFound("no license of this name in this city")
        require_custody(row, self._log.key.log)
        entries = entries_of(conn, self._store, self._log.key.log, license_id)
        return _Found(row, entries, national=not awaits_receipt(conn, self._store, entries))

    def _require(self, found: _Found) -> None:
        latest = next(entry for entry in found.entries.values() if entry.leaf_hash == found.row.entry_hash)
        kept = Kept(license_from_message(read_record(latest.record or b"").license), national=found.national)
        require_erasable(kept, china_date(self._clock()), retention_days=self._retention_days)

    async def _again(self, key: LogKey, index: int) -> ErasedAnswer:
        durability = (
            log_pb2.DURABILITY_NATIONAL if self._receipts.national(key.epoch, index) else (log_pb2.DURABILITY_LOCAL)
        )
        # A crash may have come between the entry and the scrub.
        gone = await self._scrubber.scrub_rest()
        current = await self._log.signed_head() if key.epoch == self._log.key.epoch else None

        def read(conn: Connection) -> log_pb2.InclusionProof | None:
            signed = current or self._store.logs.commits.first_signed(conn, key, index)
            if signed is None:
                return None
            return proof_of(key, index, signed[1], self._store.logs.inclusion_proof(conn, key, index, signed[0]))

        return ErasedAnswer(durability, await self._database.read(read), gone)
