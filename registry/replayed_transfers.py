"""Bringing back a decision on a take-over, also of a licence that was erased since."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from elicense.errors import LogBehind, StoreCorrupt
from elicense.license.verdict import ViewFlags
from elicense.log.model import LogKey
from elicense.v1 import license_pb2, log_pb2
from registry.board import Board
from registry.handovers import Refusal, TransferDecision
from registry.late_records import is_told_by_take_over
from registry.link_check import is_erased
from registry.model import ClaimState
from registry.store import RegistryStore
from registry.transfer_decider import TransferDecider
from registry.transfer_model import Arrival

if TYPE_CHECKING:
    from sqlalchemy import Connection


def bring_back_transfer(
    conn: Connection, store: RegistryStore, decider: TransferDecider, board: Board, logged: log_pb2.TransferDecided
) -> TransferDecision:
    """Return what a decision on a take-over comes to.

    Args:
        conn: The transaction that brings it back.
        store: The registry's tables.
        decider: Moves custody.
        board: What it is about.
        logged: The decision.

    Raises:
        LogBehind: The old city has changed the licence since, and nobody can say whether it may have.
        StoreCorrupt: The take-over is not where the decision says.
    """
    where = logged.position
    person = store.view.links.root(conn, logged.person_tag)
    arrival = Arrival(where.city, where.epoch, where.index, logged.entry_hash, logged.license_id, person)
    transfers = decider.board(conn, [arrival], now_us=board.now_us)
    if arrival not in transfers.open and is_erased(conn, store, LogKey(where.city, where.epoch), where.index):
        return _of_erased(board, arrival, logged)
    if arrival not in transfers.open:
        raise StoreCorrupt("a take-over that the registry decided does not wait; run fsck", city=where.city)
    row = transfers.rows.get((person, arrival.license_id))
    if logged.refusal != log_pb2.TRANSFER_REFUSAL_UNSPECIFIED:
        refusal = next(each for each in Refusal if each.number == logged.refusal)
        return TransferDecision(arrival, refusal, row)
    entry, decided = decider.decide(
        transfers,
        arrival,
        dict(board.claims),
        contested=False,
        now_us=board.now_us,
        accepted=is_told_by_take_over(conn, store, logged),
    )
    if (entry.refusal, entry.source) != (logged.refusal, logged.source):
        raise LogBehind(
            "a hand-over that was decided can not be brought back, because the old city has changed the license "
            "since; see `elicense-registry allow-signing`",
            city=where.city,
        )
    return decided


def _of_erased(board: Board, arrival: Arrival, logged: log_pb2.TransferDecided) -> TransferDecision:
    """Return what became of a take-over whose record has been erased since.

    Custody moves with the licence as it was last known: only the city that got it may order that it be erased. But it
    was at its end, or nothing of it would have been erased; the order may be lost, if that city was set back as well.
    """
    row = board.row(arrival.person_key, arrival.license_id)
    if logged.refusal != log_pb2.TRANSFER_REFUSAL_UNSPECIFIED:
        return TransferDecision(arrival, next(each for each in Refusal if each.number == logged.refusal), row)
    claim = board.claims.get(arrival.person_key)
    held = None if claim is None else (claim.city, claim.license_id, claim.state)
    if row is None or held != (row.city, row.license_id, ClaimState.HELD):
        return TransferDecision(arrival, None, None, other_city=logged.source.city)
    after = replace(
        row,
        city=arrival.city,
        epoch=arrival.epoch,
        idx=arrival.idx,
        revision=row.revision + 1,
        event=int(license_pb2.LICENSE_EVENT_TRANSFERRED_IN),
        flags=row.flags & ~int(ViewFlags.OFFERED) | int(ViewFlags.CANCELLED),
        entry_hash=arrival.entry_hash,
    )
    revision = after.as_revision(effective_us=board.now_us, received_us=board.now_us)
    return TransferDecision(arrival, None, row, after, revision)
