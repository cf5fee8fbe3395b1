"""Bringing decisions back that the registry's log had and its database lost, each with all that it changed.

Nothing is judged anew: what the registry signed stands.  A decision is brought
back in the transaction that appends its entry, in the order of the log, once what
it rests on is held again (:mod:`registry.readiness`).  What cities write beyond waits until the
registry decides again.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from elicense.clock import from_timestamp
from elicense.errors import LogBehind, StoreCorrupt
from elicense.license.verdict import ViewFlags
from elicense.log.decision import Decision
from elicense.log.model import LogKey
from elicense.v1 import log_pb2, replication_pb2
from elicense.view.model import ViewRow
from elicense.view.person import PersonIndex
from registry.acknowledged import acknowledgements_in
from registry.board import Board, Outcome
from registry.change_store import write_change
from registry.check_quarantines import about_of, after
from registry.conflict_model import Conflict, ConflictState, End, Statement
from registry.conflicts import resolve, settle, take_claim
from registry.decider import RegistryDecider
from registry.late_records import take_back
from registry.model import City, Pending, PublishedHead
from registry.national import NationalChange
from registry.readiness import decision_of
from registry.replay_board import board_of
from registry.replayed_grants import bring_back_grant, note, note_confirmed
from registry.replayed_transfers import bring_back_transfer
from registry.ruling import confirm
from registry.store import RegistryStore
from registry.transfer_decider import TransferDecider

if TYPE_CHECKING:
    from sqlalchemy import Connection

_CONFLICT: Final = (replication_pb2.DISPOSITION_KIND_CONFLICT, "Another license of the person counts nationwide.")
_VOID: Final = (replication_pb2.DISPOSITION_KIND_VOID, "The person may not apply anew.")
_RULED: Final = int(ViewFlags.PROVISIONAL | ViewFlags.CONFLICT | ViewFlags.VOID)

_Waited = log_pb2.ProvisionalConfirmed | log_pb2.ConflictOpened | log_pb2.LicenseBarred


class Replay:
    """Brings decisions back.

    Args:
        store: The registry's tables.
        decider: Writes what decisions change.
        transfers: Moves custody.
        persons: Computes person and name tags.
    """

    def __init__(
        self, *, store: RegistryStore, decider: RegistryDecider, transfers: TransferDecider, persons: PersonIndex
    ) -> None:
        self._store = store
        self._persons = persons
        self._decider = decider
        self._transfers = transfers

    def apply(self, conn: Connection, key: LogKey, index: int, leaf_hash: bytes, record: bytes) -> None:
        """Write what one decision changed, which is ready.

        Args:
            conn: The transaction that appends its entry.
            key: The registry's log.
            index: Index of the entry.
            leaf_hash: Its leaf hash.
            record: The decision.

        Raises:
            LogBehind: It can not be brought back over what cities have written since.
            Aborted: A person was claimed meanwhile; nothing is written.
        """
        decision = decision_of(record)
        outcome = Outcome(decided_us=from_timestamp(decision.record_time))
        bring_back = _KINDS.get(decision.WhichOneof("decision") or "")
        if bring_back is None:
            raise LogBehind("a decision of a kind that is not known here can not be brought back; update this registry")
        late = self._without_late_records(conn, decision)
        board = board_of(conn, self._store, key, index, decision)
        bring_back(self, conn, board, outcome, decision, leaf_hash)
        self._decider.applied(conn, [], [Decision(result=outcome)])
        for log, words in late.items():
            write_change(conn, self._store, log, words)

    # -- what each kind changes ----------------------------------------------------------------------------------------

    def _granted(
        self, conn: Connection, board: Board, outcome: Outcome, decision: log_pb2.RegistryRecord, leaf_hash: bytes
    ) -> None:
        bring_back_grant(conn, self._store, board, outcome, decision, leaf_hash)

    def _confirmed(
        self, conn: Connection, board: Board, outcome: Outcome, decision: log_pb2.RegistryRecord, _leaf: bytes
    ) -> None:
        pending = self._waited(conn, decision.provisional_confirmed)
        outcome.decided.append(pending)
        row = board.row(pending.person_key, pending.license_id)
        if row is None:
            return  # erased since
        confirm(board, pending, board.claims.get(pending.person_key), outcome)
        self._flag(board, outcome, row, ViewFlags(0))
        note_confirmed(outcome, pending)

    def _opened(
        self, conn: Connection, board: Board, outcome: Outcome, decision: log_pb2.RegistryRecord, _leaf: bytes
    ) -> None:
        opened = decision.conflict_opened
        pending = self._waited(conn, opened)
        outcome.decided.append(pending)
        outcome.conflicts[pending.license_id] = Conflict(
            person_key=pending.person_key,
            license_id=pending.license_id,
            city=pending.city,
            epoch=pending.epoch,
            idx=pending.idx,
            entry_hash=pending.entry_hash,
            held_license=opened.held_license_id,
            held_city=opened.held_by_city,
            opened_us=board.now_us,
            deadline_us=from_timestamp(opened.deadline_time),
            registry_epoch=board.key.epoch,
            registry_index=board.next_index,
            state=int(ConflictState.OPEN),
        )
        if (row := board.row(pending.person_key, pending.license_id)) is not None:
            self._flag(board, outcome, row, ViewFlags.CONFLICT)
        note(outcome, pending, *_CONFLICT)

    def _barred(
        self, conn: Connection, board: Board, outcome: Outcome, decision: log_pb2.RegistryRecord, _leaf: bytes
    ) -> None:
        pending = self._waited(conn, decision.license_barred)
        outcome.decided.append(pending)
        if (row := board.row(pending.person_key, pending.license_id)) is not None:
            self._flag(board, outcome, row, ViewFlags.VOID)
        conflict = board.conflicts.get(pending.license_id)
        if conflict is not None:
            take_claim(board, outcome, conflict, released=True)
            settled = replace(conflict, state=int(ConflictState.SETTLED), standing_license=b"")
            outcome.conflicts[conflict.license_id] = settled
        note(outcome, pending, *_VOID)

    def _stated(
        self, _conn: Connection, board: Board, outcome: Outcome, decision: log_pb2.RegistryRecord, _leaf: bytes
    ) -> None:
        stated = decision.conflict_stated
        outcome.statements.append(
            Statement(
                conflict_id=stated.conflict_id,
                seq=len(board.statements.get(stated.conflict_id, ())) + 1,
                city=stated.city,
                license_id=stated.license_id,
                position=stated.position,
                grounds=stated.grounds,
                clerk=stated.clerk,
                stated_us=board.now_us,
            )
        )

    def _resolved(
        self, _conn: Connection, board: Board, outcome: Outcome, decision: log_pb2.RegistryRecord, _leaf: bytes
    ) -> None:
        resolved = decision.conflict_resolved
        conflict = _conflict(board, resolved.conflict_id)
        standing, void = resolved.standing_license_id, resolved.void_license_id
        resolve(board, conflict, outcome, standing, void, End(resolved.end), resolved.basis, decision.actor)

    def _settled(
        self, _conn: Connection, board: Board, outcome: Outcome, decision: log_pb2.RegistryRecord, _leaf: bytes
    ) -> None:
        conflict = _conflict(board, decision.conflict_settled.conflict_id)
        settle(board, conflict, outcome, decision.actor)

    def _vector(
        self, _conn: Connection, board: Board, outcome: Outcome, decision: log_pb2.RegistryRecord, _leaf: bytes
    ) -> None:
        heads = [PublishedHead(h.city, h.epoch, h.size, board.now_us) for h in decision.head_vector.heads]
        own = PublishedHead(board.key.log, board.key.epoch, board.next_index + 1, board.now_us)
        outcome.published = [*heads, own]

    def _acknowledged(
        self, _conn: Connection, board: Board, outcome: Outcome, decision: log_pb2.RegistryRecord, _leaf: bytes
    ) -> None:
        outcome.told = acknowledgements_in(decision.custody_acknowledged, board.key, board.next_index)

    def _quarantine(
        self, conn: Connection, _board: Board, outcome: Outcome, decision: log_pb2.RegistryRecord, _leaf: bytes
    ) -> None:
        outcome.quarantine = after(self._store.quarantines.of(conn, about_of(decision).city), decision)

    def _epoch(
        self, _conn: Connection, board: Board, outcome: Outcome, decision: log_pb2.RegistryRecord, _leaf: bytes
    ) -> None:
        opened = decision.epoch_opened
        outcome.opened = City(opened.city, opened.epoch, opened.log_verifier_key, board.now_us)

    def _transferred(
        self, conn: Connection, board: Board, outcome: Outcome, decision: log_pb2.RegistryRecord, _leaf: bytes
    ) -> None:
        moved = bring_back_transfer(conn, self._store, self._transfers, board, decision.transfer_decided)
        outcome.transfers.append(moved)

    # -- around them ---------------------------------------------------------------------------------------------------

    def _without_late_records(self, conn: Connection, decision: log_pb2.RegistryRecord) -> dict[LogKey, NationalChange]:
        """Have a licence that was handed over stand as it did; return what cities are told once that is decided."""
        decided = decision.transfer_decided
        if not decision.HasField("transfer_decided") or decided.refusal != log_pb2.TRANSFER_REFUSAL_UNSPECIFIED:
            return {}
        person = self._store.view.links.root(conn, decided.person_tag)
        return take_back(conn, self._store, decided, person_key=person, persons=self._persons)

    def _waited(self, conn: Connection, waited: _Waited) -> Pending:
        where = waited.position
        person = self._store.view.links.root(conn, waited.person_tag)
        return Pending(where.city, where.epoch, where.index, waited.entry_hash, waited.license_id, person)

    def _flag(self, board: Board, outcome: Outcome, row: ViewRow, ruled: ViewFlags) -> None:
        board.set_flags(outcome, row, row.flags & ~_RULED | int(ruled))


def _conflict(board: Board, conflict_id: bytes) -> Conflict:
    conflict = board.conflicts.get(conflict_id)
    if conflict is None:
        raise StoreCorrupt("the registry's log decides a conflict that was never opened; run fsck")
    return conflict


_Kind = Callable[[Replay, "Connection", Board, Outcome, log_pb2.RegistryRecord, bytes], None]

_KINDS: Final[dict[str, _Kind]] = {
    "claims_granted": Replay._granted,
    "provisional_confirmed": Replay._confirmed,
    "conflict_opened": Replay._opened,
    "license_barred": Replay._barred,
    "conflict_stated": Replay._stated,
    "conflict_resolved": Replay._resolved,
    "conflict_settled": Replay._settled,
    "custody_acknowledged": Replay._acknowledged,
    "head_vector": Replay._vector,
    "city_quarantined": Replay._quarantine,
    "release_asked": Replay._quarantine,
    "quarantine_ended": Replay._quarantine,
    "transfer_decided": Replay._transferred,
    "epoch_opened": Replay._epoch,
}
"""How each kind of decision is brought back."""
