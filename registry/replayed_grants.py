"""Bringing back a grant, and what rests on it: records that cite it may have come back before."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final
from uuid import UUID

from elicense.clock import from_timestamp
from elicense.errors import Malformed
from elicense.license.verdict import ViewFlags
from elicense.log.model import LogKey
from elicense.v1 import log_pb2, replication_pb2
from elicense.view.fold import read_record
from elicense.view.model import ViewRow
from registry.board import Board, Outcome
from registry.model import Claim, ClaimState, Pending
from registry.store import RegistryStore

if TYPE_CHECKING:
    from sqlalchemy import Connection

_CONFIRMED: Final = (replication_pb2.DISPOSITION_KIND_CONFIRMED, "The license counts nationwide.")


def bring_back_grant(
    conn: Connection,
    store: RegistryStore,
    board: Board,
    outcome: Outcome,
    decision: log_pb2.RegistryRecord,
    leaf_hash: bytes,
) -> None:
    """Note in an outcome what a grant changed, also for records that cite it and came back before it.

    Args:
        conn: The transaction that brings it back.
        store: The registry's tables.
        board: What it is about.
        outcome: What the decision comes to.
        decision: The decision.
        leaf_hash: Leaf hash of its entry, which records cite.
    """
    granted = decision.claims_granted
    for each in granted.claims:
        person = store.view.links.root(conn, each.person_tag)
        claim = Claim(
            person_key=person,
            city=granted.city,
            license_id=each.license_id,
            request_id=str(UUID(bytes=each.request_id)),
            state=int(ClaimState.LEASED),
            lease_end_us=from_timestamp(granted.lease_end_time),
            registry_epoch=board.key.epoch,
            registry_index=board.next_index,
        )
        for row in board.rows.get(person, ()):
            waiting = _citing(conn, store, row, claim, leaf_hash)
            if waiting is None:
                continue
            # The record came back before its grant: now it is as if the grant had been there.
            ended = bool(row.flags & ViewFlags.CANCELLED)
            state = ClaimState.RELEASED if ended else ClaimState.HELD
            claim = replace(claim, license_id=row.license_id, state=int(state))
            outcome.decided.append(waiting)
            # No ruling: the registry never had to decide about it.
            counts = row.flags & ~int(ViewFlags.PROVISIONAL)
            store.view.set_flags(conn, [(person, row.license_id, counts)])
            note_confirmed(outcome, waiting)
        if person != each.person_tag:
            # It led to another document of somebody who has a claim, and is used up by their link.
            continue
        _take(outcome, board.claims.get(person), claim)
        board.claims[person] = claim


def _citing(conn: Connection, store: RegistryStore, row: ViewRow, claim: Claim, leaf_hash: bytes) -> Pending | None:
    """Return the waiting first record of a licence when it cites this very grant."""
    if row.city != claim.city or not row.flags & ViewFlags.PROVISIONAL:
        return None
    first = store.view.revisions(conn, row.license_id, after=0, limit=1)
    if not first or first[0].city != claim.city:
        return None
    place = Pending(first[0].city, first[0].epoch, first[0].idx, b"", row.license_id, claim.person_key)
    waiting = store.still_pending(conn, [place])
    entry = store.logs.entries_at(conn, LogKey(place.city, place.epoch), [place.idx]).get(place.idx)
    if not waiting or entry is None or entry.record is None:
        return None
    try:
        cited = read_record(entry.record).claim
    except Malformed:
        return None
    told = cited.registry_epoch, cited.registry_index, cited.entry_hash
    return waiting[0] if told == (claim.registry_epoch, claim.registry_index, leaf_hash) else None


def _take(outcome: Outcome, before: Claim | None, claim: Claim) -> None:
    """Have a person be claimed, whoever has them."""
    if before is not None and before.state == ClaimState.HELD:
        outcome.over[claim.person_key] = before.license_id
    elif before is not None and before.state == ClaimState.LEASED and before.city != claim.city:
        outcome.lapsed[claim.person_key] = before.city
    outcome.taken[claim.person_key] = claim


def note(outcome: Outcome, pending: Pending, kind: int, detail: str) -> None:
    """Have the city of a licence be told what became of it."""
    notes = outcome.notes.setdefault((pending.city, pending.epoch), [])
    notes.append((pending.idx, int(kind), pending.license_id, detail))


def note_confirmed(outcome: Outcome, pending: Pending) -> None:
    """Have the city of a licence be told that it counts."""
    note(outcome, pending, *_CONFIRMED)
