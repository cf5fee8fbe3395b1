"""Whether the registry's database still holds what it signed of its own log.

Its one witness is the anchor.  Cities send again whatever the registry lacks of
their logs; of its own log nothing else is kept anywhere, so a registry that was
set back decides nothing more until a person looked.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from elicense.errors import DataLoss, LogBehind, LogForked, StoreCorrupt
from elicense.log.anchor import Anchor, epoch_of
from elicense.log.model import LogKey
from elicense.log.store import LogStore
from elicense.log.witness import Seen, compare

if TYPE_CHECKING:
    from sqlalchemy import Connection


def doubt(anchor: Seen) -> DataLoss | None:
    """Return why the registry must decide nothing; None when its database holds everything that it signed."""
    match anchor:
        case Seen.INSIDE:
            return None
        case Seen.ELSEWHERE:
            return LogForked("the registry signed another history of its own log than the database holds")
        case Seen.ABSENT:
            return LogBehind(
                "the registry's anchor is missing, so nobody knows what it decided last; bring it back, or see "
                "`elicense-registry allow-signing`"
            )
        case _:
            return LogBehind(
                "the database lacks decisions that the registry signed: it was set back; put the newest database in "
                "place, or see `elicense-registry allow-signing`"
            )


def own_doubt(conn: Connection, logs: LogStore, key: LogKey, anchor: Anchor) -> DataLoss | None:
    """Return why the registry must decide nothing, given its database and its anchor; None when it may.

    Raises:
        StoreCorrupt: Its own log is missing, or the head contradicts itself.
    """
    head = logs.head(conn, key)
    if head is None:
        raise StoreCorrupt("the registry's own log is missing; run fsck")
    last = anchor.last()
    witness = None if last is None else (epoch_of(last.origin), last.size, last.root)
    return doubt(
        compare(epoch=key.epoch, size=head.size, root_at=lambda size: logs.root_at(conn, head, size), witness=witness)
    )
