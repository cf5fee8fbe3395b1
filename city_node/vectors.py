"""What the registry publishes of this city's log, compared with that log: nothing there may be foreign.

Once a minute the registry's log states a head of every city's log.  One that this
city never signed is a lie of the registry, or signed with a key that was stolen.

1. Its own log has another root at that size: where the registry cosigned that very
   log too, both together go into a file that convicts it.
2. Its own log is shorter.  A city that was set back finds that too: so its database is
   first compared with its anchor and with the registry, and while it only verifies
   nobody is accused.

A statement is judged once whoever has to be asked has answered; the last ones are
judged again at each start.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from enum import Enum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

import structlog
from google.protobuf.message import DecodeError
from prometheus_client import CollectorRegistry, Gauge

from city_node.gate import SigningGate
from elicense.errors import Error, Malformed, NotFound
from elicense.log.entry_proofs import read_proof
from elicense.log.model import REGISTRY_LOG, LogKey, StoredEntry
from elicense.log.store import LogStore
from elicense.log.verifier_key import VerifierKey
from elicense.sql.database import Database
from elicense.trust.secret_file import SECRET_MODE, replace_file
from elicense.v1 import log_pb2
from elicense.verification.evidence_file import confirm, format_evidence
from elicense.verification.head_evidence import HeadEvidence, NoteStatement, VectorStatement, party_of

if TYPE_CHECKING:
    from sqlalchemy import Connection

#: Entries of the mirror in one read.
_PAGE: Final = 1_000
#: Entries that are judged again after a start.
_JUDGED_AGAIN: Final = 2_048

_log = structlog.stdlib.get_logger(__name__)


class _Seen(Enum):
    """How a stated head lies to the city's own log."""

    INSIDE = "in the log"
    BEYOND = "beyond its end"
    ELSEWHERE = "not in its history"


class VectorCheck:
    """Judges what the mirrored vectors say of one city.

    Args:
        database: The city's database.
        logs: Its tables of logs.
        city: Division code.
        registry_key: Gives the key of an epoch of the registry's log.
        own_keys: Keys of the city's log by epoch, and of the registry's receipts.
        gate: Whether the city's own history is in doubt.
        compare: Compares the database with its witnesses, which may shut the gate.
        folder: Where evidence goes.
        metrics: Where it is shown.
    """

    def __init__(
        self,
        *,
        database: Database,
        logs: LogStore,
        city: int,
        registry_key: Callable[[int], VerifierKey],
        own_keys: Callable[[], list[VerifierKey]],
        gate: SigningGate,
        compare: Callable[[], Awaitable[None]],
        folder: Path,
        metrics: CollectorRegistry,
    ) -> None:
        self._database = database
        self._logs = logs
        self._city = city
        self._registry_key = registry_key
        self._own_keys = own_keys
        self._gate = gate
        self._compare = compare
        self._folder = folder
        self._judged: dict[int, int] = {}
        self._disputed = Gauge(
            "elicense_mirror_heads_disputed",
            "1 once the registry has stated a head of this city's log that the city never signed.",
            registry=metrics,
        )
        self.disputed = any(folder.glob("vector-*.json"))
        self._disputed.set(self.disputed)

    async def catch_up(self) -> None:
        """Judge what the mirror has got since; what can not be judged yet is when it is called again.

        Raises:
            StoreUnavailable: The database is away.
            StoreCorrupt: The city's own log contradicts itself.
        """
        sizes = await self._database.read(self._logs.sizes)
        for _, epoch, size in sorted(each for each in sizes if each[0] == REGISTRY_LOG):
            key = LogKey(REGISTRY_LOG, epoch)
            while (start := self._judged.setdefault(epoch, max(0, size - _JUDGED_AGAIN))) < size:
                page = await self._database.read(lambda c, k=key, s=start: self._logs.entries(c, k, s, _PAGE))  # type: ignore[misc]
                for entry in page:
                    if not await self._judge(key, entry):
                        return
                    self._judged[epoch] = entry.index + 1

    async def _judge(self, key: LogKey, entry: StoredEntry) -> bool:
        """Judge what one entry says; False while that waits for somebody's answer."""
        try:
            decision = log_pb2.RegistryRecord.FromString(entry.record or b"")
        except DecodeError:
            return True  # it states nothing, and must not keep what follows from being judged
        for stated in decision.head_vector.heads if decision.HasField("head_vector") else ():
            if stated.city != self._city:
                continue
            seen = await self._database.read(partial(self._seen, stated))
            if seen is not _Seen.INSIDE and await self._in_doubt():
                return False
            # What shut no gate may have moved the log on.
            seen = seen if seen is _Seen.INSIDE else await self._database.read(partial(self._seen, stated))
            if seen is not _Seen.INSIDE:
                await self._alarm(key, entry.index, stated, seen)
        return True

    def _seen(self, stated: log_pb2.LogHead, conn: Connection) -> _Seen:
        if stated.size < 0:
            return _Seen.ELSEWHERE
        head = self._logs.head(conn, LogKey(self._city, stated.epoch))
        if head is None or head.size < stated.size:
            return _Seen.BEYOND
        return _Seen.INSIDE if self._logs.root_at(conn, head, stated.size) == stated.root else _Seen.ELSEWHERE

    async def _in_doubt(self) -> bool:
        """Whether this city may have signed the head and lost it."""
        if self._gate.reason is None:
            try:
                await self._compare()
            except Error:
                return True
        return self._gate.reason is not None

    async def _alarm(self, key: LogKey, index: int, stated: log_pb2.LogHead, seen: _Seen) -> None:
        evidence = await self._database.read(partial(self._evidence, key, index, stated))
        path = self._folder / f"vector-{key.epoch}-{index}.json"
        # One file proves as much as any number: a registry that goes on must not fill this disk.
        if evidence is not None and not any(self._folder.glob("vector-*.json")):
            self._folder.mkdir(mode=0o700, exist_ok=True)
            await asyncio.to_thread(replace_file, path, format_evidence(evidence), SECRET_MODE)
        if not self.disputed:
            proof = "" if evidence is None else str(path)
            _log.critical("registry_states_foreign_head", size=stated.size, lies=seen.value, evidence=proof)
        self.disputed = True
        self._disputed.set(1)

    def _evidence(self, key: LogKey, index: int, stated: log_pb2.LogHead, conn: Connection) -> HeadEvidence | None:
        """Return what convicts the registry: the vector, and what it cosigned of the log that it misstates."""
        own = LogKey(self._city, stated.epoch)
        head = self._logs.head(conn, own)
        receipt = self._logs.commits.first_signed(conn, own, stated.size - 1) if stated.size > 0 else None
        if head is None or receipt is None:
            return None
        size, note = receipt
        try:
            vector = VectorStatement(read_proof(conn, self._logs, key, index), self._city, stated.epoch)
            evidence = HeadEvidence(vector, NoteStatement(note))
            if size > stated.size:
                root = self._logs.root_at(conn, head, stated.size)
                proof = self._logs.consistency_proof(conn, own, stated.size, size)
                evidence = HeadEvidence(vector, NoteStatement(note), root, tuple(proof))
            keys = [self._registry_key(key.epoch), *self._own_keys()]
            accused = confirm(evidence, keys).accused
        except (Malformed, NotFound):
            return None
        return evidence if party_of(self._registry_key(key.epoch).name) in accused else None
