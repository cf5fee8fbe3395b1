"""What a city signs that it knows: asked for when its licence went to another city, and checked.

A city that wrote of such a licence in good faith, because it was cut off, must never
be convicted; one that knew must be.  Only the city can say what it knew, so it is
asked, once for each word and for each epoch of its log.  Its word counts once the
registry holds all the entries that the city had then: it can not put it off by a
number that its log never reaches.  The registry keeps it in its own log
(:mod:`registry.acknowledged`); what is lost with a database before that, the city is asked for again.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from elicense.log.model import LogKey
from elicense.log.verifier_key import parse_vkey
from elicense.v1 import replication_pb2
from elicense.verification.told import open_told
from registry.batch import Batch
from registry.model import City
from registry.store import RegistryStore
from registry.told_store import Mark, ToldRow

if TYPE_CHECKING:
    from sqlalchemy import Connection

_AWAY: Final = int(replication_pb2.DISPOSITION_KIND_TRANSFERRED_AWAY)
#: Words that a city is asked about in one answer.
_ASKED: Final = 64
#: Numbers of a feed that are gone through with one batch.
_NUMBERS: Final = 1_000


def open_all_told(batch: Batch, enrolled: City) -> list[ToldRow]:
    """Return what a city sends as signed, each checked.

    Args:
        batch: The city's call, in its open epoch.
        enrolled: That epoch.

    Raises:
        CheckpointInvalid: Something else is sent, or something of another log.
        SignatureInvalid: The city did not sign it.
    """
    if not batch.told:
        return []
    key = parse_vkey(enrolled.log_key)
    opened = [(open_told(note, key=key), note) for note in batch.told]
    return [ToldRow(batch.city, batch.epoch, t.epoch, t.index, t.size, note) for t, note in opened]


def take_told(conn: Connection, store: RegistryStore, batch: Batch, sent: Sequence[ToldRow], *, held: int) -> list[int]:
    """Keep what a city signed, and return the numbers of what it has still to sign.

    Args:
        conn: The transaction.
        store: The registry's tables.
        batch: The city's call, in its open epoch.
        sent: What it sends as signed.
        held: Entries that the registry holds of that epoch by now.
    """
    key, told = LogKey(batch.city, batch.epoch), store.told
    reached = told.reached(conn, key.log, Mark.TOLD, key.epoch) if batch.dispositions_after else 0
    if reached >= batch.dispositions_after:
        return []
    after = store.feeds.next_behind(conn, key.log, reached, until=batch.dispositions_after)
    until = min(after + _NUMBERS, batch.dispositions_after)
    words = store.feeds.of_kind(conn, key.log, _AWAY, after=after, until=until, limit=_ASKED)
    places = {(word.epoch, word.idx) for word in words}
    signed = told.signed(conn, key, places)
    rows = [row for row in sent if (row.of_epoch, row.of_idx) in places - signed and row.size <= held]
    told.add(conn, rows)
    signed |= {(row.of_epoch, row.of_idx) for row in rows}
    unsigned = [word.seq for word in words if (word.epoch, word.idx) not in signed]
    behind = words[-1].seq if len(words) == _ASKED else until
    gone_through = unsigned[0] - 1 if unsigned else behind
    if gone_through > reached:
        told.reach(conn, key.log, Mark.TOLD, gone_through, key.epoch)
    return unsigned
