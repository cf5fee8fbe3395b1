"""Getting the registry's own log back from the cities that mirror it.

A city whose mirror holds more than the registry shows gives it back, page by page.
What it shows is a head that the registry itself signed, so there is nothing to
believe: the entries must lead to heads with the registry's own signature.

1. The head that the city shows is signed by the registry's log.  What does not lie
   in the database's log makes the registry stop deciding, whatever its anchor said:
   it was set back, or has two histories.
2. The shown head becomes the anchor, if it is later: until the database holds it,
   nothing is decided, also after a restart.
3. Each commit is taken in a transaction of its own: its entries lead on from what is
   held to a head that was signed, and what it decided is brought back with it.  One
   that rests on records which cities have yet to send waits; the city gives it again.
4. Once the database holds what the anchor says was signed, the registry goes on.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from hashlib import sha256
from typing import TYPE_CHECKING, Protocol

import structlog

from elicense.clock import from_timestamp
from elicense.errors import DataLoss, Error, LogBehind, LogForked, Malformed, NotFound, RootMismatch, StoreCorrupt
from elicense.log.anchor import Anchor
from elicense.log.checkpoint import Checkpoint, log_verifier_key, open_checkpoint
from elicense.log.decision import SignedHead
from elicense.log.model import Head, LogKey
from elicense.log.pages import Part, SentPage, check_part, parts_of
from elicense.sql.database import Database
from elicense.v1 import log_pb2
from registry.names import registry_origin
from registry.quarantine_model import Kind
from registry.readiness import Readiness, decision_of
from registry.replay import Replay
from registry.store import RegistryStore

if TYPE_CHECKING:
    from sqlalchemy import Connection

_log = structlog.stdlib.get_logger(__name__)


class Deciding(Protocol):
    """The writer of the registry's own log."""

    def stop(self, reason: DataLoss) -> None:
        """Decide nothing more."""

    async def go_on(self) -> bool:
        """Decide again if the database holds everything that was signed; tell whether it does."""


class GivenBack:
    """Takes back what cities mirrored.

    Args:
        database: The registry's database.
        store: Its tables.
        key: The registry's own log, in its open epoch.
        public_key: Its public key, 32 bytes.
        trust_domain: Prefix of its origin.
        anchor: The head that was signed last.
        replay: Brings decisions back.
        deciding: Stops and goes on with the log.
        on_change: Called after something was brought back.
    """

    def __init__(
        self,
        *,
        database: Database,
        store: RegistryStore,
        key: LogKey,
        public_key: bytes,
        trust_domain: str,
        anchor: Anchor,
        replay: Replay,
        deciding: Deciding,
        on_change: Callable[[], None],
    ) -> None:
        self._database = database
        self._store = store
        self._key = key
        self._origin = registry_origin(trust_domain, key.epoch)
        self._verifier = log_verifier_key(self._origin, public_key)
        self._anchor = anchor
        self._replay = replay
        self._readiness = Readiness(store)
        self._deciding = deciding
        self._on_change = on_change

    async def take(
        self, epoch: int, first_index: int, page: SentPage, shown: bytes, *, evidence: Sequence[bytes] = ()
    ) -> int:
        """Take back what leads on from what is held.

        Args:
            epoch: Epoch of the registry's log that it is of.
            first_index: Index of the first entry.
            page: Entries and the signed heads among them.
            shown: Signed note of the newest head that the city holds.
            evidence: What quarantines may rest on, of these entries or of some that are held.

        Returns:
            Size of the log now; one that did not grow waits for what cities have yet to send.

        Raises:
            NotFound: The epoch is not the open one.
            CheckpointInvalid: A head is not one of this log.
            SignatureInvalid: The registry did not sign it.
            RootMismatch: The entries do not lead to it.
            LogForked: The registry signed a head that is not of the history that it holds.
            LogBehind: A decision can not be brought back.
            Malformed: The page is not one.
            StoreUnavailable: The database is away.
        """
        if epoch != self._key.epoch:
            raise NotFound(f"epoch {self._key.epoch} of the registry's log is open", openEpoch=self._key.epoch)
        head = open_checkpoint(shown, origin=self._origin, key=self._verifier)  # (1)
        held = await self._database.read(partial(self._compare, head))
        if held is None:
            error = LogForked("the registry signed a head that is not of the history which it holds", size=head.size)
            self._deciding.stop(error)
            raise error
        if head.size > held.size:
            self._doubt(head, shown)  # (2)
            held = await self._fill(held, parts_of(page, first_index), evidence)  # (3)
            if await self._deciding.go_on():  # (4)
                self._on_change()
        elif evidence:
            await self._database.write(partial(self._keep_lacking, evidence))
        return held.size

    def _compare(self, shown: Checkpoint, conn: Connection) -> Head | None:
        """Return the head that is held; None when the shown one is of another history."""
        held = self._held(conn)
        if shown.size > held.size:
            return held
        return held if self._store.logs.root_at(conn, held, shown.size) == shown.root else None

    def _held(self, conn: Connection, *, lock: bool = False) -> Head:
        held = self._store.logs.head(conn, self._key, lock=lock)
        if held is None:
            raise StoreCorrupt("the registry's own log is missing; run fsck")
        return held

    def _doubt(self, shown: Checkpoint, note: bytes) -> None:
        """Decide nothing until the database holds the shown head."""
        try:
            self._anchor.keep(SignedHead(shown.size, shown.root, note))
        except (Error, OSError) as error:
            # Without an anchor nothing is decided anyhow; what comes back is welcome all the same.
            _log.warning("shown_head_not_anchored", detail=str(error))
        self._deciding.stop(LogBehind("the database lacks decisions that the registry signed; cities give them back"))

    async def _fill(self, held: Head, parts: list[Part], evidence: Sequence[bytes]) -> Head:
        before, bodies = held.size, {sha256(body).digest(): body for body in evidence}
        for part in parts:
            if part.head.size <= held.size:
                continue
            moved = await self._database.write(partial(self._append, part, bodies))
            if moved is None:
                break
            held = moved
        if held.size > before:
            _log.info("decisions_given_back", count=held.size - before, size=held.size)
            self._on_change()
        return held

    def _append(self, part: Part, bodies: Mapping[bytes, bytes], conn: Connection) -> Head | None:
        """Take in one commit; None, and nothing is written, while it rests on what cities have yet to send."""
        held = self._held(conn, lock=True)
        if part.head.size <= held.size:
            return held  # another city was faster
        check_part(part, held.frontier, origin=self._origin, key=self._verifier)
        records = [entry.record for entry in part.entries if entry.record is not None]
        if len(records) != len(part.entries):
            raise Malformed("no entry of the registry's log is ever erased")
        self._readiness.lock(conn)
        if not self._readiness.ready(conn, records):
            return None
        recorded_us = max(held.recorded_us, from_timestamp(decision_of(records[-1]).record_time))
        moved = self._store.logs.advance(conn, held, part.entries, recorded_us=recorded_us, note=part.head.note)
        for index, entry in enumerate(part.entries, held.size):
            self._replay.apply(conn, self._key, index, entry.leaf_hash, entry.record or b"")
            self._keep_evidence(conn, decision_of(entry.record or b""), bodies)
        return moved

    def _keep_lacking(self, bodies: Sequence[bytes], conn: Connection) -> None:
        """Keep what quarantines rest on that are held, and nothing that is there already."""
        sent = {sha256(body).digest(): body for body in bodies}
        for each in self._store.evidence.lacking(conn, self._store.quarantines.all(conn)):
            if each.digest in sent:
                self._store.evidence.add(
                    conn,
                    city=each.city,
                    digest=each.digest,
                    reason=_reason(each.kind),
                    body=sent[each.digest],
                    now_us=each.opened_us,
                    cited=True,
                )

    def _keep_evidence(self, conn: Connection, decision: log_pb2.RegistryRecord, bodies: Mapping[bytes, bytes]) -> None:
        """Keep what a quarantine rests on, which was lost with the database."""
        opened = decision.city_quarantined
        body = bodies.get(opened.evidence_digest)
        if decision.HasField("city_quarantined") and body is not None:
            self._store.evidence.add(
                conn,
                city=opened.city,
                digest=opened.evidence_digest,
                reason=_reason(opened.kind),
                body=body,
                now_us=from_timestamp(decision.record_time),
                cited=True,
            )


def _reason(kind: int) -> str:
    """Return why the evidence of a quarantine is kept."""
    return LogForked.reason if int(kind) == int(Kind.FORK) else RootMismatch.reason
