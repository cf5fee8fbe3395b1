"""What is known while one decision of the registry's log is brought back."""

from __future__ import annotations

from typing import TYPE_CHECKING

from elicense.clock import from_timestamp
from elicense.log.model import LogKey
from elicense.v1 import log_pb2
from registry.board import Board
from registry.handovers import TransferBoard
from registry.store import RegistryStore

if TYPE_CHECKING:
    from sqlalchemy import Connection


def board_of(
    conn: Connection, store: RegistryStore, key: LogKey, index: int, decision: log_pb2.RegistryRecord
) -> Board:
    """Read what a decision is about, as it stood when it was taken.

    Args:
        conn: The transaction that brings it back.
        store: The registry's tables.
        key: The registry's own log.
        index: Index of the decision's entry.
        decision: The decision.
    """
    named = store.conflicts.by_id(conn, _conflicts(decision))
    persons = {store.view.links.root(conn, tag) for tag in _persons(decision)}
    persons |= {conflict.person_key for conflict in named}
    conflicts = {each.license_id: each for each in store.conflicts.of_persons(conn, persons)}
    return Board(
        key=key,
        next_index=index,
        now_us=from_timestamp(decision.record_time),
        claims=store.claims.of(conn, persons, lock=True),
        states={},
        rows=store.view.by_person(conn, persons),
        bans=store.bans.of(conn, persons),
        open=set(),
        transfers=TransferBoard(),
        conflicts=conflicts,
        statements=store.conflicts.statements(conn, list(conflicts)),
        quarantines={},
    )


def _persons(decision: log_pb2.RegistryRecord) -> list[bytes]:
    """Return the tags of the persons whom a decision is about."""
    kind = decision.WhichOneof("decision")
    if kind == "claims_granted":
        return [claim.person_tag for claim in decision.claims_granted.claims]
    about = getattr(decision, kind) if kind else None
    tag = getattr(about, "person_tag", b"")
    return [tag] if tag else []


def _conflicts(decision: log_pb2.RegistryRecord) -> list[bytes]:
    """Return the conflict that a decision is about, if any."""
    kind = decision.WhichOneof("decision")
    named = getattr(getattr(decision, kind), "conflict_id", b"") if kind else b""
    return [named] if named else []
