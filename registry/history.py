"""Whether the registry's database still holds what it signed of its own log, and what follows when it does not.

Its one witness is the anchor.  A registry that was set back decides nothing more
until it holds everything again, or a person has it go on without what is lost.
Then the epoch of its log ends where the database does and the next one begins,
whose first entry says so: no size of one epoch is ever signed twice.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from elicense.clock import to_timestamp
from elicense.errors import DataLoss, LogBehind, LogForked, StoreCorrupt
from elicense.log.anchor import Anchor, epoch_of
from elicense.log.check import Finding, LogCheck, LogKeys, LogProgress
from elicense.log.entry import leaf_hash
from elicense.log.model import REGISTRY_LOG, Head, LogKey, NewEntry
from elicense.log.store import LogStore
from elicense.log.witness import Seen, compare
from elicense.v1 import log_pb2

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
                "the database lacks decisions that the registry signed: it was set back; its cities give back what "
                "they mirrored of them, and for what they lack see `elicense-registry allow-signing`"
            )


def own_epochs(conn: Connection, logs: LogStore) -> list[int]:
    """Return every epoch of the registry's own log, in order."""
    return [key.epoch for key in logs.keys(conn) if key.log == REGISTRY_LOG]


def open_key(conn: Connection, logs: LogStore) -> LogKey:
    """Return the registry's own log in its open epoch.

    Raises:
        StoreCorrupt: It is missing.
    """
    epochs = own_epochs(conn, logs)
    if not epochs:
        raise StoreCorrupt("the registry's own log is missing; run fsck")
    return LogKey(REGISTRY_LOG, epochs[-1])


def open_next(
    conn: Connection, logs: LogStore, *, signed: tuple[int, int] | None, actor: str, salt: bytes, now_us: int
) -> Head:
    """Open the next epoch of the registry's own log at what the database holds; return its head, to be signed.

    Args:
        conn: A writing transaction.
        logs: Tables of logs.
        signed: Epoch and size of the greatest head that is known to have been signed; None for unknown.
        actor: SPIFFE ID of the registry.
        salt: 32 random bytes.
        now_us: The registry's clock.

    Raises:
        StoreCorrupt: The log is missing, or its head contradicts itself.
    """
    before = logs.head(conn, open_key(conn, logs), lock=True)
    if before is None:
        raise StoreCorrupt("the registry's own log is missing; run fsck")
    # An epoch whose number was signed for already is none that may begin.
    last = before.key.epoch if signed is None else max(before.key.epoch, signed[0])
    key, now_us = LogKey(REGISTRY_LOG, last + 1), max(now_us, before.recorded_us)
    signed_size = signed[1] if signed is not None and signed[0] == before.key.epoch else 0
    record = log_pb2.RegistryRecord(epoch=key.epoch, record_time=to_timestamp(now_us), actor=actor)
    record.registry_epoch_opened.CopyFrom(
        log_pb2.RegistryEpochOpened(
            closed_epoch=before.key.epoch, closed_size=before.size, closed_root=before.root, signed_size=signed_size
        )
    )
    body = record.SerializeToString(deterministic=True)
    logs.create(conn, key)
    empty = logs.head(conn, key, lock=True)
    if empty is None or empty.size:
        raise StoreCorrupt("the next epoch of the registry's log was opened already; run this again")
    return logs.advance(conn, empty, [NewEntry(body, salt, leaf_hash(salt, body))], recorded_us=now_us)


def own_doubt(conn: Connection, logs: LogStore, key: LogKey, anchor: Anchor) -> DataLoss | None:
    """Return why the registry must decide nothing, given its database and its anchor; None when it may.

    Raises:
        StoreCorrupt: Its own log is missing, or the head contradicts itself.
    """
    # Before the head: another process may be at work, and what it signs meanwhile is not missing.
    last = anchor.last()
    head = logs.head(conn, key)
    if head is None:
        raise StoreCorrupt("the registry's own log is missing; run fsck")
    witness = None if last is None else (epoch_of(last.origin), last.size, last.root)
    return doubt(
        compare(epoch=key.epoch, size=head.size, root_at=lambda size: logs.root_at(conn, head, size), witness=witness)
    )


def is_sound(conn: Connection, logs: LogStore, key: LogKey, keys: LogKeys) -> bool:
    """Whether the registry's own log, read entry by entry, is what its head, tiles and signatures say."""
    findings: list[Finding] = []
    check = LogCheck(conn, logs, key, keys=keys, found=findings.append, since=LogProgress())
    for _ in check.entries():
        if findings:
            break
    return not findings
