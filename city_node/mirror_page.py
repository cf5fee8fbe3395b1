"""A page of the registry's own log, as a city that mirrors it reads it: pure."""

from __future__ import annotations

from google.protobuf.message import DecodeError

from elicense.clock import from_timestamp
from elicense.errors import Malformed
from elicense.log.pages import Part, SentPage, check_part, parts_of
from elicense.log.tree import CompactRange
from elicense.log.verifier_key import VerifierKey
from elicense.v1 import log_pb2
from elicense.view.fold import MAX_SECONDS, NANOS


def check_page(answer: SentPage, before: CompactRange, key: VerifierKey) -> list[tuple[Part, CompactRange]]:
    """Return the parts of a page, each with the tree behind it.

    Args:
        answer: The page.
        before: The tree that it goes on from.
        key: Key of the log, which bears the name of its origin.

    Raises:
        Malformed: It is no page, or holds nothing.
        CheckpointInvalid: A head is not one of this log.
        SignatureInvalid: The log did not sign a head.
        RootMismatch: The entries do not lead to a head.
    """
    parts = parts_of(answer, before.size)
    if not parts:
        raise Malformed("the registry sent nothing of the log that it says it has")
    checked, tree = [], before
    for part in parts:
        tree = check_part(part, tree, origin=key.name, key=key)
        checked.append((part, tree))
    return checked


def recorded_us(part: Part) -> int:
    """Return when the last decision of a part was taken, microseconds UTC.

    0 where the registry signed something that says no such time: it is part of its log, and is kept as that.
    """
    try:
        taken = log_pb2.RegistryRecord.FromString(part.entries[-1].record or b"").record_time
    except DecodeError:
        return 0
    return from_timestamp(taken) if 0 <= taken.seconds <= MAX_SECONDS and 0 <= taken.nanos < NANOS else 0
