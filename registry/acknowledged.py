"""What cities signed that they know, in the registry's own log: every city mirrors it, so no database alone holds it.

A city that lies would sign anew whatever its registry has lost, at a greater size of its log, and what it
wrote before would convict it no more.  So the first word stands here within seconds, and comes
back with the decisions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from elicense.log.model import LogKey
from elicense.v1 import log_pb2
from elicense.verification.told import MAX_TOLD_SIZE, parse_told
from registry.board import Board, Outcome
from registry.store import RegistryStore
from registry.told_store import ToldRow

if TYPE_CHECKING:
    from sqlalchemy import Connection

NOTES_PER_ENTRY: Final = 32
NOTES_BYTES: Final = NOTES_PER_ENTRY * (MAX_TOLD_SIZE + 32)
"""Most bytes of all notes of an entry, and what frames them."""


@dataclass(frozen=True, slots=True)
class KeepTold:
    """Command: write what cities signed that the log does not have yet."""


def acknowledge(conn: Connection, store: RegistryStore, board: Board, *, actor: str) -> tuple[list[bytes], Outcome]:
    """Return the entry for what is not in the log yet, and note in ``board`` that it is written; none for nothing."""
    # Two that came together are one: the first has not been written yet.
    rows = [] if board.acknowledged else store.told.unlogged(conn, limit=NOTES_PER_ENTRY)
    if not rows:
        return [], Outcome()
    board.acknowledged = True
    record = board.record(actor)
    record.custody_acknowledged.acknowledgements.extend(
        log_pb2.Acknowledgement(city=row.city, epoch=row.epoch, note=row.note) for row in rows
    )
    logged = [replace(row, registry_epoch=board.key.epoch, registry_idx=board.next_index) for row in rows]
    return [record.SerializeToString(deterministic=True)], Outcome(told=logged)


def acknowledgements_in(acknowledged: log_pb2.CustodyAcknowledged, key: LogKey, index: int) -> Sequence[ToldRow]:
    """Return what an entry of the registry's log has.

    Raises:
        CheckpointInvalid: What stands there as signed is something else.
    """
    rows = []
    for each in acknowledged.acknowledgements:
        told = parse_told(each.note)
        rows.append(ToldRow(each.city, each.epoch, told.epoch, told.index, told.size, each.note, key.epoch, index))
    return rows
