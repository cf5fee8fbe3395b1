"""Proofs of single entries, for a third party."""

from __future__ import annotations

from typing import TYPE_CHECKING

from elicense.errors import NotFound
from elicense.log.model import LogKey
from elicense.log.proof_file import EntryProof
from elicense.log.store import LogStore

if TYPE_CHECKING:
    from sqlalchemy import Connection


def read_proof(conn: Connection, logs: LogStore, key: LogKey, index: int) -> EntryProof:
    """Return an entry with its proof under the earliest signed head over it, a cosigned one if there is any.

    Raises:
        NotFound: There is no such entry, it was erased, or no signed head covers it yet.
    """
    entry = logs.entries_at(conn, key, [index]).get(index)
    if entry is None or entry.record is None or entry.salt is None:
        raise NotFound("there is no such entry, or it was erased")
    head = logs.commits.first_signed(conn, key, index)
    if head is None:
        raise NotFound("no signed head covers this entry yet; try again in a moment")
    size, note = head
    hashes = logs.inclusion_proof(conn, key, index, size)
    return EntryProof(key.log, key.epoch, index, entry.record, entry.salt, tuple(hashes), note)
