"""What a witness shows of a log, beside the database that holds it: pure."""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum


class Seen(Enum):
    """What a witness shows of the log, beside the database."""

    ABSENT = "it is missing or can not be asked"
    INSIDE = "its head lies in the database's log"
    AHEAD = "its head lies beyond the database's log"
    ELSEWHERE = "its head has another root than the database's log"
    LATER_EPOCH = "its head is of a later epoch"
    EARLIER_EPOCH = "its head is of an earlier epoch"


def compare(*, epoch: int, size: int, root_at: Callable[[int], bytes], witness: tuple[int, int, bytes] | None) -> Seen:
    """Return what a witness shows.

    Args:
        epoch: Open epoch of the database's log.
        size: Number of its entries.
        root_at: Root of the log over its first so many entries.
        witness: Epoch, size and root of the head that the witness shows; None when there is none.
    """
    if witness is None:
        return Seen.ABSENT
    its_epoch, its_size, its_root = witness
    if its_epoch != epoch:
        return Seen.LATER_EPOCH if its_epoch > epoch else Seen.EARLIER_EPOCH
    if its_size > size:
        return Seen.AHEAD
    return Seen.INSIDE if root_at(its_size) == its_root else Seen.ELSEWHERE
