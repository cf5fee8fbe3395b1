"""Ruling on licences that were issued without a grant: pure rules over what the commit knows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from elicense.license.verdict import ViewFlags
from elicense.v1 import replication_pb2
from elicense.view.model import ViewRow
from registry.bans import barred_in_words
from registry.board import Board, Outcome
from registry.claims import DecidePending, Ruling, ruling_on
from registry.conflict_model import Conflict, ConflictState
from registry.decision_records import conflict_opened, license_barred, provisional_confirmed
from registry.model import Claim, ClaimState, Pending

_CONFIRMED: Final = "The license counts nationwide."
_CONFLICT: Final = "Another license of the person counts nationwide; state your position: elicense-city conflicts."
_CONTESTED: Final = "Another city issued a license to this person; state your position: elicense-city conflicts."

#: What a ruling makes of a licence that waited.
_ADDED: Final = {
    Ruling.CONFIRMED: ViewFlags(0),
    Ruling.CONFLICT: ViewFlags.CONFLICT,
    Ruling.VOID: ViewFlags.VOID,
}


def rule(board: Board, command: DecidePending, *, actor: str, term_us: int) -> tuple[list[bytes], Outcome]:
    """Return the entries and the outcome for waiting licences, and note in ``board`` who has the persons now.

    Args:
        board: What the commit knows.
        command: The licences.
        actor: SPIFFE ID of the registry.
        term_us: How long the cities have to settle a conflict between them, microseconds.
    """
    outcome = Outcome()
    records: list[bytes] = []
    for pending in command.pending:
        if pending not in board.open:
            continue
        claim = board.claims.get(pending.person_key)
        ban = board.barred_when_issued(pending)
        if (claim is None or claim.state == ClaimState.RELEASED) and board.disputed(pending.person_key) is not None:
            # Whoever is in conflict already comes first.
            outcome.waiting.append(pending)
            continue
        ruling = ruling_on(
            pending,
            claim,
            now_us=board.now_us,
            states=board.states,
            waiting=board.waiting(pending.person_key),
            ended=board.ended(pending.person_key),
            ending=board.ending(pending.person_key),
            barred=ban is not None,
        )
        # One that took the id of a licence in dispute would be taken for it: it counts nowhere, and waits for ever.
        if ruling is Ruling.WAITS or (ruling is Ruling.CONFLICT and board.is_taken(pending)):
            outcome.waiting.append(pending)
            continue
        board.open.discard(pending)
        outcome.decided.append(pending)
        record = board.record(actor)
        notes = outcome.notes.setdefault((pending.city, pending.epoch), [])
        if ruling is Ruling.CONFIRMED:
            confirm(board, pending, claim, outcome)
            record.provisional_confirmed.CopyFrom(provisional_confirmed(pending))
            notes.append((pending.idx, replication_pb2.DISPOSITION_KIND_CONFIRMED, pending.license_id, _CONFIRMED))
        elif ban is not None:
            record.license_barred.CopyFrom(license_barred(pending, ban))
            notes.append((pending.idx, replication_pb2.DISPOSITION_KIND_VOID, pending.license_id, barred_in_words(ban)))
        elif claim is not None:
            conflict = _open(board, pending, claim, outcome, index=board.next_index + len(records), term_us=term_us)
            record.conflict_opened.CopyFrom(conflict_opened(pending, conflict))
            notes.append((pending.idx, replication_pb2.DISPOSITION_KIND_CONFLICT, pending.license_id, _CONFLICT))
        _set_flags(board, pending, ruling, outcome)
        records.append(record.SerializeToString(deterministic=True))
    return records, outcome


def _open(board: Board, pending: Pending, claim: Claim, outcome: Outcome, *, index: int, term_us: int) -> Conflict:
    """Open a conflict with the licence that has the person, and tell its city."""
    held = board.row(pending.person_key, claim.license_id)
    conflict = Conflict(
        person_key=pending.person_key,
        license_id=pending.license_id,
        city=pending.city,
        epoch=pending.epoch,
        idx=pending.idx,
        entry_hash=pending.entry_hash,
        held_license=claim.license_id,
        held_city=claim.city if held is None else held.city,
        opened_us=board.now_us,
        deadline_us=board.now_us + term_us,
        registry_epoch=board.key.epoch,
        registry_index=index,
        state=int(ConflictState.OPEN),
    )
    board.conflicts[pending.license_id] = outcome.conflicts[pending.license_id] = conflict
    if held is not None:
        board.note(outcome, held, replication_pb2.DISPOSITION_KIND_CONTESTED, _CONTESTED)
    return conflict


def confirm(board: Board, pending: Pending, claim: Claim | None, outcome: Outcome) -> None:
    """Give a waiting licence's city the person."""
    if claim is not None and claim.state == ClaimState.HELD and claim.license_id != pending.license_id:
        outcome.over[pending.person_key] = claim.license_id
    elif claim is not None and claim.city != pending.city:
        outcome.lapsed[pending.person_key] = claim.city
    held = _hold(pending, claim, cancelled=_is_cancelled(board.rows.get(pending.person_key, ()), pending))
    board.claims[pending.person_key] = outcome.taken[pending.person_key] = held


def _is_cancelled(rows: Sequence[ViewRow], pending: Pending) -> bool:
    """Whether a waiting licence was cancelled while it waited."""
    return any(row.license_id == pending.license_id and row.flags & ViewFlags.CANCELLED for row in rows)


def _hold(pending: Pending, claim: Claim | None, *, cancelled: bool) -> Claim:
    """Return the claim of a confirmed licence; it keeps the grant that the city had, if any."""
    own = claim if claim is not None and claim.city == pending.city else None
    return Claim(
        person_key=pending.person_key,
        city=pending.city,
        license_id=pending.license_id,
        request_id=own.request_id if own else "",
        state=int(ClaimState.RELEASED if cancelled else ClaimState.HELD),
        lease_end_us=own.lease_end_us if own else 0,
        registry_epoch=own.registry_epoch if own else 0,
        registry_index=own.registry_index if own else 0,
    )


def _set_flags(board: Board, pending: Pending, ruling: Ruling, outcome: Outcome) -> None:
    row = board.row(pending.person_key, pending.license_id)
    if row is not None:
        board.set_flags(outcome, row, row.flags & ~int(ViewFlags.PROVISIONAL) | int(_ADDED[ruling]))
